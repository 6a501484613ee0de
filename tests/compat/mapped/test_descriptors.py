"""Protocols from descriptor files, .proto files and running servers, each in a pool of its own."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2
from google.protobuf.message_factory import GetMessageClass

from meshfold.compat.mapped import descriptors
from meshfold.compat.mapped.descriptors import Protocol, from_descriptor_set, from_protos, from_reflection
from meshfold.compat.mapped.errors import Misfit
from tests.compat.mapped.conftest import HERE

SET = HERE / "protos" / "acme.binpb"
legacy: Any = import_module("tests.compat.mapped.protos.acme_legacy_pb2")
METHODS = {
    "/acme.recs.v1.Recommender/Recommend",
    "/acme.legacy.Feed/GetFeed",
    "/acme.legacy.Feed/WatchFeed",
    "/acme.legacy.Feed/GetInfo",
}


def files() -> list[Any]:
    return list(descriptor_pb2.FileDescriptorSet.FromString(SET.read_bytes()).file)


def test_generated_classes_of_other_packages_are_no_problem() -> None:
    # The same names with other contents.
    (other,) = (file for file in files() if file.name == "acme_recs.proto")
    other.message_type[0].field[0].name = "site"
    one, two = from_descriptor_set(SET), Protocol([other])
    name = "acme.recs.v1.RecommendRequest"
    assert one.message(name).fields_by_name["page"]
    assert two.message(name).fields_by_name["site"]
    assert set(one.methods) == METHODS
    made = GetMessageClass(one.message("acme.legacy.Header"))(request_id="r")
    assert not isinstance(made, legacy.Header)
    assert made.SerializeToString() == legacy.Header(request_id="r").SerializeToString()


def test_a_set_without_its_imports_is_refused() -> None:
    own = [file for file in files() if file.name == "acme_legacy.proto"]
    # Files of protobuf itself are there anyway.
    assert Protocol(own).message("acme.legacy.FeedRequest")
    own[0].dependency.append("acme/common.proto")
    with pytest.raises(
        Misfit, match=r"acme/common.proto that acme_legacy.proto imports is missing.*--include_imports"
    ):
        Protocol(own)


@pytest.mark.parametrize("content", [b"", b"\xff\xff", b"\n\x03\n\x01a\n\x03\n\x01a" * 3])
def test_a_file_that_is_no_protocol_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "x.binpb"
    file.write_bytes(content)
    if content.startswith(b"\n"):
        # Two empty files of one name are one.
        assert from_descriptor_set(file).methods == {}
        return
    with pytest.raises(Misfit, match=r"x\.binpb"):
        from_descriptor_set(file)


def test_protos_need_protoc_and_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    import builtins

    imported = builtins.__import__

    def absent(name: str, *rest: Any, **more: Any) -> Any:
        if name == "grpc_tools":
            raise ImportError(name)
        return imported(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", absent)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(
        Misfit, match=r"pip install 'meshfold\[protoc\]', or run `protoc --descriptor_set_out"
    ):
        from_protos([HERE / "protos" / "acme_recs.proto"])
    with pytest.raises(Misfit, match=r"nowhere.proto is no file"):
        from_protos([Path("nowhere.proto")])


def test_protos_are_compiled_where_protoc_is_here() -> None:
    pytest.importorskip("grpc_tools", reason="pip install grpcio-tools")
    protocol = from_protos([HERE / "protos" / "acme_recs.proto", HERE / "protos" / "acme_legacy.proto"])
    assert set(protocol.methods) == METHODS


@pytest.fixture(params=["v1", "v1alpha", "none"])
def reflecting(request: pytest.FixtureRequest) -> Iterator[tuple[str, str]]:
    """(version, address) of a server that answers reflection in that version alone."""
    from grpc_reflection.v1alpha import reflection, reflection_pb2

    server = grpc.server(ThreadPoolExecutor(2))
    if request.param != "none":
        servicer = reflection.ReflectionServicer(["acme.legacy.Feed"])
        handler = grpc.stream_stream_rpc_method_handler(
            servicer.ServerReflectionInfo,
            request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
            response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
        )
        name = f"grpc.reflection.{request.param}.ServerReflection"
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(name, {"ServerReflectionInfo": handler}),)
        )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield request.param, f"127.0.0.1:{port}"
    server.stop(None).wait()


def test_a_running_server_tells_its_protocol(reflecting: tuple[str, str]) -> None:
    version, address = reflecting
    if version == "none":
        with pytest.raises(Misfit, match="does not answer reflection"):
            from_reflection(address)
        return
    protocol = from_reflection(address)
    assert "/acme.legacy.Feed/GetFeed" in protocol.methods
    assert protocol.message("google.protobuf.Any")
    assert (
        descriptors.Protocol(
            descriptor_pb2.FileDescriptorSet.FromString(protocol.descriptor_set()).file
        ).methods.keys()
        == protocol.methods.keys()
    )
