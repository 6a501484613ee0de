"""mesh.v1 as text, a line for everything that a caller may depend on, and which of those lines are gone.

`make protos` runs this file: it adds lines for what is new to tests/data/mesh_v1/frozen.txt and takes none away.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto

from meshfold.protos.mesh.v1 import orchestrator_pb2, retrieval_pb2, scoring_pb2, types_pb2, user_tower_pb2

FILE = Path(__file__).parent.parent / "data" / "mesh_v1" / "frozen.txt"
_MODULES = (orchestrator_pb2, retrieval_pb2, scoring_pb2, types_pb2, user_tower_pb2)
_REMEDY = (
    "Callers that were built before send and read what was there. Put it back as it was, and add what is new under a"
    " name and a number that were never used."
)


def current() -> list[FileDescriptorProto]:
    """The protocol as the stubs have it."""
    files = []
    for module in _MODULES:
        file = FileDescriptorProto()
        module.DESCRIPTOR.CopyToProto(file)
        files.append(file)
    return files


def lines_of(files: Iterable[FileDescriptorProto]) -> list[str]:
    """Messages' fields, enums' values and services' methods, in order of name."""
    lines: list[str] = []
    for file in files:
        for message in file.message_type:
            lines += _fields(f"{file.package}.{message.name}", message)
        for enum in file.enum_type:
            lines += [f"{file.package}.{enum.name}.{value.name} = {value.number}" for value in enum.value]
        for service in file.service:
            for method in service.method:
                sent, got = (
                    f"{'stream ' if streams else ''}{name.removeprefix('.')}"
                    for name, streams in (
                        (method.input_type, method.client_streaming),
                        (method.output_type, method.server_streaming),
                    )
                )
                lines.append(f"/{file.package}.{service.name}/{method.name}: {sent} -> {got}")
    return sorted(lines)


def _fields(path: str, message: DescriptorProto) -> Iterator[str]:
    maps = {nested.name: nested for nested in message.nested_type if nested.options.map_entry}
    for nested in message.nested_type:
        if nested.name not in maps:
            yield from _fields(f"{path}.{nested.name}", nested)
    for enum in message.enum_type:
        yield from (f"{path}.{enum.name}.{value.name} = {value.number}" for value in enum.value)
    for field in message.field:
        entry = maps.get(field.type_name.rpartition(".")[2])
        if entry is not None:
            kind = f"map<{', '.join(_type(of_entry) for of_entry in entry.field)}>"
        else:
            repeated = field.label == FieldDescriptorProto.LABEL_REPEATED
            kind = f"{'repeated ' if repeated else ''}{_type(field)}"
        if field.proto3_optional:
            kind = f"optional {kind}"
        elif field.HasField("oneof_index"):
            kind += f", one of {message.oneof_decl[field.oneof_index].name}"
        yield f"{path}.{field.name} = {field.number}: {kind}"


def _type(field: FieldDescriptorProto) -> str:
    message: str = field.type_name.removeprefix(".")
    scalar: str = FieldDescriptorProto.Type.Name(field.type)
    return message or scalar.removeprefix("TYPE_").lower()


def broken(frozen: Iterable[str], files: Iterable[FileDescriptorProto]) -> str:
    """What callers would miss, with the remedy; empty where nothing is missing. What is new is no breach."""
    now = lines_of(files)
    told = []
    for line in frozen:
        if line not in now:
            name, number = _name(line), _number(line)
            likes = [o for o in now if _name(o) == name or (number is not None and _number(o) == number)]
            told.append(f"  {line}\n    is now {' and '.join(likes) or 'gone'}")
    return "\n".join(["mesh.v1 must not change incompatibly:", *told, _REMEDY]) if told else ""


def _name(line: str) -> str:
    return line.partition(" ")[0].removesuffix(":")


def _number(line: str) -> tuple[str, str] | None:
    """The message and number of a field; None of a method."""
    name, equals, rest = line.partition(" = ")
    return (name.rpartition(".")[0], rest.partition(":")[0]) if equals else None


def main() -> None:
    """Freezes what is new."""
    frozen = FILE.read_text().splitlines() if FILE.exists() else []
    if told := broken(frozen, current()):
        raise SystemExit(told)
    FILE.write_text("\n".join(sorted({*frozen, *lines_of(current())})) + "\n")


if __name__ == "__main__":
    main()
