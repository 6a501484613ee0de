"""Bytes of a template beside those of the generated class."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

from meshfold.compat.wire_template import Template, compile
from meshfold.kernels.native import library
from meshfold.protos.mesh.v1 import orchestrator_pb2 as pb
from meshfold.protos.mesh.v1 import types_pb2 as types
from tests.compat.wire_message import RandomMessages, column, descriptor, paths

LEVELS = library.levels()[:2]
ROOT = descriptor()
ROOT_CLASS: Any = GetMessageClass(ROOT)
PATHS = tuple(paths(ROOT))


@pytest.fixture(scope="module")
def every() -> Template:
    return compile(ROOT, {path: path for path in PATHS})


def inners(sources: dict[str, str], **columns: Any) -> Any:
    """What a template of messages within the outermost writes, parsed."""
    template = compile(ROOT, {f"inners.{path}": source for path, source in sources.items()})
    return ROOT_CLASS.FromString(template.encode(columns)).inners


def test_a_field_of_every_kind_is_written_as_the_generated_class_does(every: Template) -> None:
    random = RandomMessages(1)
    for _ in range(40):
        message = random.message(ROOT)
        columns = {path: column(message, path.split(".")) for path in PATHS}
        expected = message.SerializeToString()
        for level in LEVELS:
            with library.forced(level):
                assert every.encode(columns) == expected, message


def test_arrays_of_several_dimensions_are_lists_within_messages() -> None:
    numbers = np.arange(24).reshape(2, 3, 4)
    found = inners({"leaves.list": "numbers"}, numbers=numbers)
    assert [[list(leaf.list) for leaf in inner.leaves] for inner in found] == numbers.tolist()
    ragged = [[np.array([1, 2]), np.array([3])], [], [np.empty(0, np.int64)]]
    found = inners({"leaves.list": "numbers"}, numbers=ragged)
    assert [[list(leaf.list) for leaf in inner.leaves] for inner in found] == [[[1, 2], [3]], [], [[]]]


def test_masked_values_are_absent() -> None:
    masked = np.ma.masked_array([1, 2, 0], [False, True, False])
    found = inners({"maybe_int32": "some"}, some=masked)
    assert [inner.maybe_int32 if inner.HasField("maybe_int32") else None for inner in found] == [1, None, 0]


def test_a_message_is_written_where_a_part_of_it_has_a_value() -> None:
    found = inners({"leaf.text": "texts", "leaf.list": "lists"}, texts=["a", None, None], lists=[[], [1], []])
    assert [(leaf.text, list(leaf.list)) for leaf in (inner.leaf for inner in found)] == [
        ("a", []),
        ("", [1]),
        ("", []),
    ]
    assert [inner.HasField("leaf") for inner in found] == [True, True, False]


def test_one_field_of_a_oneof_is_written() -> None:
    sources = {"choice_int64": "numbers", "choice_leaf.text": "texts"}
    found = inners(sources, numbers=[0, None], texts=[None, "a"])
    assert [inner.WhichOneof("choice") for inner in found] == ["choice_int64", "choice_leaf"]
    with pytest.raises(
        ValueError, match=r"at most one of inners.choice_int64, inners.choice_leaf may be set"
    ):
        inners(sources, numbers=[0, 1], texts=[None, "a"])


def test_a_column_that_is_none_is_absent() -> None:
    template = compile(
        pb.RetrieveResponse.DESCRIPTOR, {"versions.index": "version", "candidates.item_id": "ids"}
    )
    assert template.encode({"version": None, "ids": None}) == b""
    # An empty text is a value of a message, which stands where it has none but this.
    assert pb.RetrieveResponse.FromString(template.encode({"version": "", "ids": []})).HasField("versions")


@pytest.mark.parametrize(
    ("path", "values", "told"),
    [
        ("plain_int32", 1 << 31, "must lie from -2147483648 to 2147483647, got 2147483648"),
        ("plain_uint32", -1, "must lie from 0 to 4294967295, got -1"),
        ("plain_uint64", -1, "must lie from 0 to 18446744073709551615, got -1"),
        ("list_int64", [1 << 63, -1], "must lie from .* to 9223372036854775807"),
        ("plain_int64", 1.5, "must hold integers, holds float64"),
        ("plain_float", "a", "must hold numbers"),
        ("plain_bool", 0.5, "must hold truth values"),
        ("plain_string", 1, "must hold strings"),
        ("plain_bytes", "a", "must hold bytes"),
        ("list_string", "abc", "must be an array or a sequence, is a str"),
        ("list_int64", np.zeros((2, 2), np.int64), "must have 1 dimensions, has 2"),
        ("list_int64", [1, None], "is repeated, so that no value of it can be absent"),
    ],
)
def test_a_value_that_a_field_cannot_hold_is_refused(path: str, values: Any, told: str) -> None:
    template = compile(ROOT, {path: "column"})
    with pytest.raises(ValueError, match=f"^column column for Root.{path} {told}"):
        template.encode({"column": values})


def test_what_is_no_text_is_refused_as_by_the_generated_class() -> None:
    with pytest.raises(UnicodeEncodeError):
        compile(ROOT, {"plain_string": "text"}).encode({"text": "\ud800"})
    with pytest.raises(UnicodeEncodeError):
        ROOT_CLASS(plain_string="\ud800").SerializeToString()


def test_columns_must_be_there_and_agree() -> None:
    template = compile(ROOT, {"inners.plain_int64": "ids", "inners.list_float": "scores"})
    with pytest.raises(ValueError, match="Root needs a column scores"):
        template.encode({"ids": [1]})
    with pytest.raises(ValueError, match="columns for inners have different lengths, 2 and 1"):
        template.encode({"ids": [1], "scores": np.zeros((2, 3))})
    nested = compile(ROOT, {"inners.leaves.number": "ids", "inners.leaves.text": "texts"})
    with pytest.raises(ValueError, match=r"columns for inners.leaves have different lengths"):
        nested.encode({"ids": [[1], [2, 3]], "texts": [["a"], ["b"]]})


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("candidate.item_id", r"mesh.v1.RetrieveResponse has no field candidate \(candidate.item_id\)"),
        ("candidates", "candidates is a message; name a field of it"),
        ("tasks.length", "tasks is a value; it has no fields to name"),
        ("explain.key", "explain is a value; it has no fields to name"),
        ("", "has no field"),
    ],
)
def test_a_path_that_leads_to_no_value_is_refused(path: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        compile(pb.RetrieveResponse.DESCRIPTOR, {path: "column"})


def test_messages_within_their_own_kind_are_written_as_deep_as_paths_go() -> None:
    template = compile(types.Filter.DESCRIPTOR, {"not.not.exists.field": "field"})
    assert types.Filter.FromString(template.encode({"field": "a"})) == types.Filter(
        **{"not": types.Filter(**{"not": types.Filter(exists=types.Exists(field="a"))})}
    )


def test_older_protocols_are_written_but_for_groups() -> None:
    file = FileDescriptorProto(name="older.proto", package="older", syntax="proto2")
    message = file.message_type.add(name="Older")
    for number, label in enumerate(("OPTIONAL", "REQUIRED", "REPEATED"), 1):
        value = FieldDescriptorProto.Label.Value(f"LABEL_{label}")
        message.field.add(name=label.lower(), number=number, label=value, type=3)
    message.nested_type.add(name="Group").CopyFrom(DescriptorProto(name="Group", field=[message.field[0]]))
    message.field.add(name="group", number=4, label=1, type=10, type_name=".older.Older.Group")
    pool = DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    older = pool.FindMessageTypeByName("older.Older")
    template = compile(older, {name: name for name in ("optional", "required", "repeated")})
    made = template.encode({"optional": 0, "required": 0, "repeated": [1, 2]})
    assert made == GetMessageClass(older)(optional=0, required=0, repeated=[1, 2]).SerializeToString()
    with pytest.raises(ValueError, match=r"older.Older.required is required; give it a source"):
        compile(older, {"optional": "column"})
    with pytest.raises(ValueError, match="is a group, which is not written"):
        compile(older, {"group.optional": "column"})
    with pytest.raises(ValueError, match=r"required is required; give it a value"):
        template.encode({"optional": 0, "required": None, "repeated": []})
