import pytest

from meshfold.model.cel.language import Language
from meshfold.model.cel.source import Source
from meshfold.model.errors import InvalidData

NOTES = Language("note", 1000, "say less", 8, 8, "a note has words", {})


def source_of(text: str) -> Source:
    return Source.of(text, NOTES, lambda message: InvalidData(f"notes.first: {message}"))


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
    source = source_of(f'x == {literal} && y in ["z"]')
    assert source.literals == {5: string, 5 + len(literal) + 10: "z"}
    assert source.blank == f'x == "{"_" * (len(literal) - 2)}" && y in ["_"]'


def test_truth_values_are_words_alone() -> None:
    source = source_of("true&&trueish==1||!false // true")
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
    with pytest.raises(InvalidData) as error:
        source_of(text)
    assert str(error.value).startswith(f"notes.first: {message}")
    assert "\n" not in str(error.value)


def test_the_length_is_limited() -> None:
    assert source_of("x" * 1000).blank == "x" * 1000
    with pytest.raises(InvalidData, match=r"notes.first: .* 1001 characters, more than 1000; say less"):
        source_of("x" * 1001)


def test_the_depth_of_brackets_is_limited() -> None:
    # Brackets that are closed again, in strings or in comments do not count.
    source_of("(" * 8 + ")" * 8 + "[()]" * 100 + '"((" // ((')
    with pytest.raises(InvalidData, match="line 1, column 9, .*brackets must be nested at most 8 deep"):
        source_of("(" * 400 + ")" * 400)
