"""Descriptors of public protocols, out of the packages of their official clients: the methods that examples/protocols
maps, and the messages that they lead to.

    python -m tests.compat.mapped.public.client_descriptors examples/protocols
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path

from google.protobuf import descriptor_pb2

# By the name of a file: modules of the client's package, and methods.
PROTOCOLS = {
    "kserve_v2": (
        ("tritonclient.grpc.service_pb2",),
        (
            "inference.GRPCInferenceService.ServerLive",
            "inference.GRPCInferenceService.ServerReady",
            "inference.GRPCInferenceService.ModelReady",
            "inference.GRPCInferenceService.ServerMetadata",
            "inference.GRPCInferenceService.ModelMetadata",
            "inference.GRPCInferenceService.ModelInfer",
        ),
    ),
    "qdrant": (
        ("qdrant_client.grpc.points_service_pb2", "qdrant_client.grpc.qdrant_pb2"),
        ("qdrant.Points.Query", "qdrant.Points.QueryBatch", "qdrant.Qdrant.HealthCheck"),
    ),
    "vertex": (
        ("google.cloud.aiplatform.matching_engine._protos.match_service_pb2",),
        (
            "google.cloud.aiplatform.container.v1.MatchService.Match",
            "google.cloud.aiplatform.container.v1.MatchService.BatchMatch",
        ),
    ),
}


def descriptors(name: str) -> bytes:
    """A FileDescriptorSet. Raises ImportError without the client's package."""
    modules, methods = PROTOCOLS[name]
    files: dict[str, descriptor_pb2.FileDescriptorProto] = {}
    for module in modules:
        _add(import_module(module).DESCRIPTOR, files)
    content: bytes = _pruned(list(files.values()), set(methods)).SerializeToString(deterministic=True)
    return content


def _add(file: object, files: dict[str, descriptor_pb2.FileDescriptorProto]) -> None:
    if file.name in files:  # type: ignore[attr-defined]
        return
    for other in file.dependencies:  # type: ignore[attr-defined]
        _add(other, files)
    copy = descriptor_pb2.FileDescriptorProto()
    file.CopyToProto(copy)  # type: ignore[attr-defined]
    files[copy.name] = copy


def _pruned(
    files: list[descriptor_pb2.FileDescriptorProto], methods: set[str]
) -> descriptor_pb2.FileDescriptorSet:
    """Without services, messages and enums that the methods do not lead to, and without files that are then empty."""
    wanted = set[str]()
    for file in files:
        for service in file.service:
            kept = [m for m in service.method if f"{file.package}.{service.name}.{m.name}" in methods]
            del service.method[:]
            service.method.extend(kept)
            wanted.update(name for m in kept for name in (m.input_type, m.output_type))
        _keep(file.service, lambda service: bool(service.method))
    top = {f".{file.package}.{message.name}": message for file in files for message in file.message_type}
    waiting, reached = list(wanted), set[str]()
    while waiting:
        name = waiting.pop()
        # A message within another comes with it.
        outer = next((each for each in top if name == each or name.startswith(f"{each}.")), None)
        if outer is None:
            reached.add(name)
        elif outer not in reached:
            reached.add(outer)
            waiting += _named_by(top[outer])
    for file in files:
        _keep(file.message_type, lambda m, file=file: f".{file.package}.{m.name}" in reached)
        _keep(file.enum_type, lambda e, file=file: f".{file.package}.{e.name}" in reached)
        file.ClearField("extension")
    filled = {file.name for file in files if file.message_type or file.enum_type or file.service}
    for file in files:
        _keep_names(file, filled)
    return descriptor_pb2.FileDescriptorSet(file=[file for file in files if file.name in filled])


def _named_by(message: descriptor_pb2.DescriptorProto) -> Iterable[str]:
    yield from (field.type_name for field in message.field if field.type_name)
    for inner in message.nested_type:
        yield from _named_by(inner)


def _keep(held: object, is_kept: object) -> None:
    kept = [each for each in held if is_kept(each)]  # type: ignore[operator, attr-defined]
    del held[:]  # type: ignore[attr-defined]
    held.extend(kept)  # type: ignore[attr-defined]


def _keep_names(file: descriptor_pb2.FileDescriptorProto, filled: set[str]) -> None:
    kept = [name for name in file.dependency if name in filled]
    file.ClearField("public_dependency")
    file.ClearField("weak_dependency")
    del file.dependency[:]
    file.dependency.extend(kept)


if __name__ == "__main__":
    for each in PROTOCOLS:
        (Path(sys.argv[1]) / f"{each}.binpb").write_bytes(descriptors(each))
