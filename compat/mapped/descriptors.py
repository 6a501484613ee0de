"""Loads a protocol's messages into a private pool, from descriptor files, .proto files or a running server.

Private pools do not conflict with other packages' generated classes of the same names.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import Descriptor, MethodDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError

from meshfold.compat.mapped.errors import Misfit
from meshfold.model.schema import nearest

# Most bytes of a descriptor file; time limit of protoc and of reflection, in seconds.
_MOST_BYTES, _WAIT_S = 64 << 20, 30.0
_MOST_FILES = 10_000
_REMEDY = (
    "pip install 'meshfold[protoc]', or run `protoc --descriptor_set_out=FILE --include_imports ...` "
    "and name the file as descriptors"
)


class Protocol:
    """The files of a protocol, and their messages in a private pool."""

    def __init__(self, files: Iterable[descriptor_pb2.FileDescriptorProto]) -> None:
        """Raises Misfit where an imported file is missing, or two files contradict each other."""
        self.files = {file.name: file for file in files}
        self.pool = DescriptorPool()
        added: set[str] = set()
        for name in list(self.files):
            self._add(name, added, ())

    @property
    def services(self) -> tuple[str, ...]:
        """Full names of services."""
        return tuple(
            f"{file.package}.{service.name}" if file.package else service.name
            for file in self.files.values()
            for service in file.service
        )

    @property
    def methods(self) -> dict[str, MethodDescriptor]:
        """Methods by full name, /package.Service/Method."""
        return {
            f"/{service}/{method.name}": method
            for service in self.services
            for method in self.pool.FindServiceByName(service).methods
        }

    def message(self, name: str) -> Descriptor:
        """The message of a full name. Raises Misfit."""
        try:
            return self.pool.FindMessageTypeByName(name)
        except KeyError:
            raise Misfit(f"no message {name!r}{nearest(name, self.message_names())}") from None

    def message_names(self) -> list[str]:
        """Full names of all messages, nested ones included."""
        found: list[str] = []

        def walk(prefix: str, messages: Iterable[descriptor_pb2.DescriptorProto]) -> None:
            for message in messages:
                name = f"{prefix}.{message.name}" if prefix else message.name
                found.append(name)
                walk(name, message.nested_type)

        for file in self.files.values():
            walk(file.package, file.message_type)
        return found

    def descriptor_set(self) -> bytes:
        """The files as a FileDescriptorSet, as protoc writes it."""
        content: bytes = descriptor_pb2.FileDescriptorSet(file=self.files.values()).SerializeToString()
        return content

    def _add(self, name: str, added: set[str], within: tuple[str, ...]) -> None:
        if name in added:
            return
        if name in within:
            raise Misfit(f"{name} imports itself")
        if name not in self.files:
            well_known = _well_known(name)
            if well_known is None:
                by = f" that {within[-1]} imports" if within else ""
                raise Misfit(f"the file {name}{by} is missing; protoc adds it with --include_imports")
            self.files[name] = well_known
        for other in list(self.files[name].dependency):
            self._add(other, added, (*within, name))
        try:
            self.pool.Add(self.files[name])
            self.pool.FindFileByName(name)
        except (TypeError, KeyError) as error:
            raise Misfit(f"the descriptors of {name} cannot be used: {error}") from None
        added.add(name)


def from_descriptor_set(file: Path) -> Protocol:
    """Loads a FileDescriptorSet. Raises Misfit."""
    try:
        if file.stat().st_size > _MOST_BYTES:
            raise Misfit(f"{file} has more than {_MOST_BYTES} bytes; expected a FileDescriptorSet")
        content = descriptor_pb2.FileDescriptorSet.FromString(file.read_bytes())
    except OSError as error:
        raise Misfit(f"{file} cannot be read: {error.strerror}") from None
    except DecodeError:
        raise Misfit(f"{file} is no FileDescriptorSet; `protoc --descriptor_set_out` writes one") from None
    if not content.file:
        raise Misfit(
            f"{file} holds no descriptors; `protoc --descriptor_set_out --include_imports` writes them"
        )
    return Protocol(content.file)


def from_protos(files: Sequence[Path], include: Sequence[Path] = ()) -> Protocol:
    """Loads .proto files. include: folders of imports, besides the folder of each file. Raises Misfit."""
    for file in files:
        if not file.is_file():
            raise Misfit(f"{file} is no file")
    folders = list(dict.fromkeys([*include, *(file.parent for file in files)]))
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "protocol.binpb"
        words = [f"-I{each}" for each in folders]
        words += ["--include_imports", f"--descriptor_set_out={out}", *map(str, files)]
        try:
            result = subprocess.run(
                [*_protoc(), *words], capture_output=True, text=True, timeout=_WAIT_S, check=False
            )
        except subprocess.TimeoutExpired:
            raise Misfit(f"protoc did not end within {_WAIT_S:g} s") from None
        if result.returncode:
            lines = [line.strip() for line in result.stderr.splitlines() if line.strip()]
            raise Misfit(f"protoc refused: {'; '.join(lines[:3])[:400]}")
        return from_descriptor_set(out)


def from_reflection(address: str) -> Protocol:
    """Loads the protocol of a running server by grpc.reflection, v1 or v1alpha. Raises Misfit."""
    import grpc

    with grpc.insecure_channel(address) as channel:
        last = ""
        for version in ("v1", "v1alpha"):
            try:
                return _reflected(channel, version)
            except grpc.RpcError as error:
                last = f"{error.code().name}: {error.details()}"
                if error.code() is not grpc.StatusCode.UNIMPLEMENTED:
                    break
    raise Misfit(f"{address} does not answer reflection ({last:.200}); name .proto files or descriptors")


def _reflected(channel: Any, version: str) -> Protocol:
    from grpc_reflection.v1alpha import reflection_pb2 as pb

    call = channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=pb.ServerReflectionRequest.SerializeToString,
        response_deserializer=pb.ServerReflectionResponse.FromString,
    )

    def ask(**request: str) -> Any:
        (response,) = call(iter([pb.ServerReflectionRequest(**request)]), timeout=_WAIT_S)
        if response.HasField("error_response"):
            raise Misfit(f"reflection of {request}: {response.error_response.error_message}")
        return response

    files: dict[str, descriptor_pb2.FileDescriptorProto] = {}

    def take(response: Any) -> None:
        for content in response.file_descriptor_response.file_descriptor_proto:
            file = descriptor_pb2.FileDescriptorProto.FromString(content)
            files.setdefault(file.name, file)
        if len(files) > _MOST_FILES:
            raise Misfit(f"reflection gives more than {_MOST_FILES} files")

    for service in ask(list_services="").list_services_response.service:
        if not service.name.startswith(("grpc.reflection.", "grpc.health.")):
            take(ask(file_containing_symbol=service.name))
    while missing := {name for file in files.values() for name in file.dependency} - set(files):
        for name in sorted(missing):
            take(ask(file_by_filename=name))
        if missing - set(files):
            raise Misfit(f"reflection does not give {min(missing - set(files))}")
    if not files:
        raise Misfit("reflection lists no service; name .proto files or descriptors")
    return Protocol(files.values())


def _protoc() -> list[str]:
    """The command line of protoc. Raises Misfit where it is not installed."""
    try:
        import grpc_tools
    except ImportError:
        found = shutil.which("protoc")
        if found is None:
            raise Misfit(f".proto files need protoc: {_REMEDY}") from None
        return [found]
    return [
        sys.executable,
        "-m",
        "grpc_tools.protoc",
        f"-I{Path(grpc_tools.__file__).parent / '_proto'}",
    ]


def _well_known(name: str) -> descriptor_pb2.FileDescriptorProto | None:
    """A file of google/protobuf, from the protobuf package; None where it has no such file."""
    if not name.startswith("google/protobuf/"):
        return None
    from google.protobuf import (  # noqa: F401
        any_pb2,
        descriptor_pool,
        duration_pb2,
        empty_pb2,
        field_mask_pb2,
        struct_pb2,
        timestamp_pb2,
        wrappers_pb2,
    )

    try:
        file = descriptor_pool.Default().FindFileByName(name)
    except KeyError:
        return None
    return descriptor_pb2.FileDescriptorProto.FromString(file.serialized_pb)
