import pytest

from meshfold.model.errors import InvalidQuery
from meshfold.model.filter.source import MAX_BRACKETS, MAX_CHARACTERS, Source


@pytest.mark.parametrize(
    ("literal", "string"),
    [
        ('""', ""),
        ("''", ""),
        ('""""""', ""),
        ("'a\"b'", 'a"b'),
        ('"a\'b"', "a'b"),
        ('"""a "quoted" b"""', 'a "quoted" b'),
        ("'''a\n'b''c\n'''", "a\n'b''c\n"),
        (r'"\a\b\f\n\r\t\v"', "\a\b\f\n\r\t\v"),
        (r'"\\\?\"\'\`"', "\\?\"'`"),
        (r'"\x41\X42\103\u00e9\U0001F600"', "ABCé😀"),
        (r'"\\"', "\\"),
        (r'"\\\""', '\\"'),
        (r'r"\"', "\\"),
        (r"R'\n\q'", r"\n\q"),
        (r'r"""a\"b"""', r"a\"b"),
        ('"é😀 // no comment ([{"', "é😀 // no comment ([{"),
        ('"true"', "true"),
        ('"\x00\x7f\u2028"', "\x00\x7f\u2028"),
    ],
)
def test_strings_are_as_cel_has_them(literal: str, string: str) -> None:
    source = Source.of(f'x == {literal} && y in ["z"]')
    assert source.literals == {5: string, 5 + len(literal) + 10: "z"}
    assert source.blank == f'x == "{"_" * (len(literal) - 2)}" && y in ["_"]'


def test_truth_values_are_words_alone() -> None:
    source = Source.of("true&&trueish==1||!false // true")
    assert source.literals == {0: True, 19: False}
    assert source.blank == '"__"&&trueish==1||!"___" // true'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            'x == "abc',
            "line 1, column 6, at '\"abc': the string is not closed; end it with \" on the same line",
        ),
        (
            'x == "a\nb"',
            "line 1, column 6, at '\"a': the string is not closed; end it with \" on the same line",
        ),
        (
            'x == "a\\\nb"',
            "line 1, column 6, at '\"a\\\\': the string is not closed; end it with \" on the same line",
        ),
        (
            'x == "a\\"',
            'line 1, column 6, at \'"a\\\\"\': the string is not closed; end it with " on the same line',
        ),
        ("a\n== '''b", "line 2, column 4, at \"'''b\": the string is not closed; end it with '''"),
        (r'x == "a\qb"', r"""line 1, column 8, at '\\qb"': unknown escape; write \\ for a backslash"""),
        (r'"\x4"', "line 1, column 2"),
        (r'"\u12"', "line 1, column 2"),
        (r'"\400"', "line 1, column 2"),
        (r'"ab\ud83d\ude00"', "line 1, column 4"),
        (r'"\U00110000"', "line 1, column 2"),
        (
            'x == "a\ud800b"',
            "line 1, column 8, at '\\ud800b\"': half a surrogate pair is no character; remove it",
        ),
        ("(a\n&& [b]", "line 1, column 1, at '(a': the bracket is not closed"),
        ("(a == [", "line 1, column 7, at '[': the bracket is not closed"),
        ("\r\n\t'" + "x" * 50, f'line 2, column 2, at "\'{"x" * 31}"...: the string is not closed'),
    ],
)
def test_an_error_says_where_it_is(text: str, message: str) -> None:
    with pytest.raises(InvalidQuery) as error:
        Source.of(text)
    assert str(error.value).startswith(f"filter: {message}")
    assert "\n" not in str(error.value)
    assert error.value.path == "filter"


def test_the_length_is_limited() -> None:
    assert Source.of("x" * MAX_CHARACTERS).blank == "x" * MAX_CHARACTERS
    with pytest.raises(InvalidQuery, match=r"16385 characters, more than 16384; list fewer values"):
        Source.of("x" * (MAX_CHARACTERS + 1))


def test_the_depth_of_brackets_is_limited() -> None:
    # Brackets that are closed again, in strings or in comments do not count.
    Source.of("(" * MAX_BRACKETS + ")" * MAX_BRACKETS + "[()]" * 100 + '"((" // ((')
    with pytest.raises(InvalidQuery, match="line 1, column 65, .*brackets must be nested at most 64 deep"):
        Source.of("(" * 8_000 + ")" * 8_000)
