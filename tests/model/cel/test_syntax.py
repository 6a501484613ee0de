import pytest

from meshfold.model.cel.language import Language
from meshfold.model.cel.source import Source
from meshfold.model.cel.syntax import arguments, child, kind_of, refusal, start_of, tree_of, unwrapped
from meshfold.model.errors import InvalidData

NOTES = Language("note", 1000, "say less", 8, 8, "a note has words", {"expr": "a choice"})


def source_of(text: str) -> Source:
    return Source.of(text, NOTES, InvalidData)


@pytest.mark.parametrize(
    ("text", "kind", "start"),
    [
        (" ((a))", "ident", 3),
        ("a.b", "member_dot", 0),
        ("-a", "unary_neg", 0),
        ("!a", "unary_not", 0),
        ("-1.5", "FLOAT_LIT", 0),
        ("a - 1", "addition", 0),
        ("true", "STRING_LIT", 0),
        ("(a ? b : c)", "expr", 1),
    ],
)
def test_kinds(text: str, kind: str, start: int) -> None:
    node = unwrapped(tree_of(source_of(text)))
    assert (kind_of(node), start_of(node)) == (kind, start)


def test_arguments() -> None:
    for text, starts in (("f()", []), ("f(a, (b), c + d)", [2, 6, 10]), ("[]", []), ("[a]", [1])):
        node = unwrapped(tree_of(source_of(text)))
        assert [start_of(unwrapped(each)) for each in arguments(node)] == starts
    assert start_of(unwrapped(child(unwrapped(tree_of(source_of("!a"))), 1))) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a &&", "line 1, column 5, at the end: a note or an operand is missing"),
        ("a or b", "line 1, column 3, at 'or b': write || for or"),
        ("a = b", "line 1, column 3, at '= b': write == for ="),
        ("a b", "line 1, column 3, at 'b': expected an operator here"),
    ],
)
def test_what_is_not_cel_is_an_error_with_its_place(text: str, message: str) -> None:
    with pytest.raises(InvalidData) as error:
        tree_of(source_of(text))
    assert str(error.value) == message


def test_a_refusal_says_what_the_language_lacks_or_what_was_expected() -> None:
    for text, said in (
        ("a ? b : c", "a choice is not supported; a note has words"),
        ("a[0]", "an index is not supported; a note has words"),
        ("a", "expected a word"),
    ):
        source = source_of(text)
        error = refusal(source, unwrapped(tree_of(source)), "a word")
        assert str(error) == f"line 1, column 1, at {text!r}: {said}"
