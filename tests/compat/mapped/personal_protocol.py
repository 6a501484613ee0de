"""A protocol with what is personal in every form, and a mapping of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf.message_factory import GetMessageClass

from meshfold.compat.mapped.adapter import MappedAdapter
from meshfold.compat.mapped.compile import load

METHOD = "/clinic.Picks/Pick"
PROTO = """
syntax = "proto2";
package clinic;
import "google/protobuf/any.proto";
service Picks { rpc Pick(PickRequest) returns (PickResponse); }
message Person {
  required string id = 1;
  optional string email = 2 [debug_redact = true];
  required string shoe_size = 3;
}
message Input {
  required string name = 1;
  optional string text = 2;
  optional int32 number = 3;
}
message Hint { optional string where = 1; optional string diary = 2; }
message PickRequest {
  required string trace = 1;
  optional Person person = 2 [debug_redact = true];
  repeated Input inputs = 3;
  repeated string seen = 4;
  optional google.protobuf.Any hint = 5;
  map<string, string> params = 6;
  repeated string words = 7;
  optional int32 size = 8;
  optional string secret_filter = 9 [debug_redact = true];
  optional string note = 10;
  extensions 100 to 199;
}
extend PickRequest { optional int32 friend = 100; }
message PickResponse {
  required string trace = 1;
  repeated Pick picks = 2;
  optional string greeting = 3;
  optional string for_whom = 4;
}
message Pick { required string id = 1; required sint32 points = 2; optional string why = 3; }
"""
MAPPING = """
[protocol]
proto = ["clinic.proto"]

[method."/clinic.Picks/Pick"]
ids = "prefix:item_"

[method."/clinic.Picks/Pick".request]
surface = 'params["page"]'
request_id = "trace"
user_id = "person.id"
history = "seen"
max_results = { path = "size", default = 5 }
formula = "words[1]"
filter = [
    { field = "language", any = 'inputs[name="language"].text' },
    { field = "country", any = "hint<clinic.Hint>.where" },
    { cel = "secret_filter" },
]

[method."/clinic.Picks/Pick".request.features]
age = 'inputs[name="age"].number'
friend = "(clinic.friend)"

[method."/clinic.Picks/Pick".answer]
"trace" = "request_id"
"picks.id" = "item_id"
"picks.points" = { from = "value", scale = 100, offset = 7 }
"for_whom" = { echo = "person.id" }
"""
# What nobody is to find in a recording.
SECRETS = ("me@example.org", "size 44", "my diary", "a note", "trousers", "since monday", "hello dear")


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> MappedAdapter:
    pytest.importorskip("grpc_tools")
    folder = tmp_path_factory.mktemp("clinic")
    (folder / "clinic.proto").write_text(PROTO)
    (folder / "clinic.toml").write_text(MAPPING)
    (adapter,) = load(folder / "clinic.toml").adapters
    return adapter


@pytest.fixture
def request_of(clinic: MappedAdapter) -> Callable[..., Any]:
    """A request with everything, changed by fields."""
    pool = clinic.POOL

    def make(**fields: Any) -> Any:
        kind = GetMessageClass(clinic.descriptor.input_type)
        request = kind(
            trace="trace 12",
            person={"id": "ann", "email": "me@example.org", "shoe_size": "size 44"},
            inputs=[
                {"name": "language", "text": "de"},
                {"name": "age", "number": 40, "text": "trousers"},
                {"name": "pulse", "number": 71},
            ],
            seen=["item_1", "item_2"],
            params={"page": "shop", "mood": "since monday"},
            words=["my diary", "watch"],
            size=3,
            secret_filter="year > 1990",
            note="a note",
        )
        hint = GetMessageClass(pool.FindMessageTypeByName("clinic.Hint"))
        request.hint.Pack(hint(where="se", diary="my diary"))
        request.Extensions[pool.FindExtensionByName("clinic.friend")] = 77
        request.MergeFrom(kind(**fields))
        return request

    return make
