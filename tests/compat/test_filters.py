from __future__ import annotations

import pytest

from meshfold.compat.filters import DEEPEST, MOST_PARTS, decode_filter, encode_filter
from meshfold.model.errors import InvalidQuery
from meshfold.model.filter.expression import All, AtLeast, Exists, Expression, Match, Not, Range
from meshfold.protos.mesh.v1 import types_pb2
from meshfold.protos.meshfold.v1 import retrieval_pb2


def test_a_filter_of_the_mesh_is_read_as_written() -> None:
    message = types_pb2.Filter(
        at_least={
            "count": 2,
            "filters": [
                {"match": {"field": "language", "strings": ["en", "es"], "ints": [7]}},
                {"range": {"field": "year", "min": 0.0, "inclusive": True}},
                {"not": {"exists": {"field": "author"}}},
                {"all": {}},
            ],
        }
    )
    assert decode_filter(message) == AtLeast(
        2,
        (
            Match("language", ("en", "es"), (7,)),
            Range("year", 0.0, None, inclusive=True),
            Not(Exists("author")),
            All(),
        ),
    )


@pytest.mark.parametrize(
    ("message", "path"),
    [
        (retrieval_pb2.Filter(), "filter"),
        (retrieval_pb2.Filter(**{"not": {}}), "filter.not"),
        (retrieval_pb2.Filter(all={"filters": [{"all": {}}, {}]}), r"filter.all.filters[1]"),
        (
            retrieval_pb2.Filter(any={"filters": [{"at_least": {"filters": [{}]}}]}),
            "filter.any.filters[0].at_least.filters[0]",
        ),
    ],
)
def test_a_filter_that_sets_nothing_is_named_by_its_path(message: retrieval_pb2.Filter, path: str) -> None:
    with pytest.raises(InvalidQuery) as caught:
        decode_filter(message)
    assert caught.value.path == path


@pytest.mark.parametrize("wrap", [Not, lambda inner: All((inner,))])
def test_the_deepest_filter_that_is_written_can_be_read(wrap: type[Not]) -> None:
    expression: Expression = Exists("year")
    for _ in range(DEEPEST - 1):
        expression = wrap(expression)
    request = retrieval_pb2.RetrieveRequest()
    encode_filter(expression, request.filter)
    again = retrieval_pb2.RetrieveRequest.FromString(request.SerializeToString())
    assert decode_filter(again.filter) == expression
    with pytest.raises(InvalidQuery, match="deep"):
        encode_filter(wrap(expression), retrieval_pb2.Filter())


def test_a_filter_of_too_many_parts_is_refused_while_it_is_decoded() -> None:
    with pytest.raises(InvalidQuery, match="parts"):
        decode_filter(retrieval_pb2.Filter(all={"filters": [{"all": {}}] * MOST_PARTS}))
