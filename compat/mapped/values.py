"""Compiles the value of one mapping line: a path, metadata or a constant, with its conversions."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from meshfold.compat.mapped import tensor_bytes
from meshfold.compat.mapped.descriptors import Protocol
from meshfold.compat.mapped.getters import getter
from meshfold.compat.mapped.mapping_file import Part
from meshfold.compat.mapped.paths import Path, Step, enum_number, resolve, within_parts
from meshfold.compat.mapped.tensors import Tensors
from meshfold.compat.mapped.toml_lines import Key
from meshfold.model.errors import InvalidQuery

Metadata = Mapping[str, str]
# (parsed message, caller's metadata) -> value, or None where it is unset; for lists a list of values.
Read = Callable[[Any, Metadata], Any]
Convert = Callable[[Any], Any]

_MOST_INTEGER = (1 << 63) - 1
_UNSIGNED = (FieldDescriptor.TYPE_UINT64, FieldDescriptor.TYPE_FIXED64)
_WORDS = {"path", "default", "enum", "const", "metadata", "ids", "tensor", "as"}
_BESIDE: Mapping[str, set[str]] = {
    "path": {"default", "enum", "ids", "as"},
    "const": {"ids"},
    "metadata": {"default", "ids"},
    "tensor": {"default", "ids"},
}
_CONSTANTS: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "bool": (bool,),
    "bytes": (),
}


@dataclass(frozen=True, eq=False)
class Scope:
    """The message in which paths begin: a method's request, or an entry of it.

    prefix: names of the fields around it. used: fields named by paths, as names from the request on. steps: path to the
    entry. found: paths that the mapping reads, as (key in the mapping, steps from the request on). parts: repeated
    fields whose entries are read one at a time, each as a request. tensors: at most one Tensors. named: tensors that
    the mapping reads, as (key in the mapping, name).
    """

    message: Descriptor
    protocol: Protocol
    prefix: tuple[str, ...] = ()
    used: set[tuple[str, ...]] = field(default_factory=set)
    steps: tuple[Step, ...] = ()
    found: list[tuple[Key, tuple[Step, ...]]] = field(default_factory=list)
    parts: tuple[str, ...] = ()
    tensors: list[Tensors] = field(default_factory=list)
    named: list[tuple[Key, str]] = field(default_factory=list)

    def path(self, part: Part) -> Path:
        """The path written in a mapping line. Raises InvalidMapping."""
        with part.located():
            path = resolve(part.text(), self.message, self.protocol)
            path = within_parts(path, self.parts)
        names = self.prefix
        for step in path.steps:
            names = (*names, step.field.name)
            if step.where is not None:
                self.used.add((*names, step.where[0].name))
            if step.any_type is not None:
                break
        self.used.add(names)
        self.found.append((part.key, (*self.steps, *path.steps)))
        return path

    def within(self, path: Path) -> Scope:
        """The scope of the entries of a path: messages, or the values of a map."""
        held = path.steps[-1].field.message_type
        if path.kind == "map":
            held = held.fields_by_name["value"].message_type
        names = tuple(step.field.name for step in path.steps)
        self.used.discard((*self.prefix, *names))
        steps = (*self.steps, *path.steps)
        # Only the entries are read, not the whole field.
        self.found[:] = [each for each in self.found if each[1] != steps]
        return Scope(held, self.protocol, (*self.prefix, *names), self.used, steps, self.found)


@dataclass(frozen=True, eq=False)
class Value:
    """A value read from requests: a single value or a list.

    name: its path in the request, for errors. kind: string, integer, number or bool, after conversion. many: whether it
    is a list. path, convert: the path and its conversion, where the value is a single path. constant: the value of a
    constant. metadata: names of metadata that it reads. needs_message: whether it reads the message.
    """

    name: str
    kind: str
    many: bool
    read: Read
    path: Path | None = None
    convert: Convert | None = None
    default: Any = None
    constant: Any = None
    metadata: tuple[str, ...] = ()
    needs_message: bool = True


def value_of(part: Part, scope: Scope, kinds: Collection[str], many: bool = False) -> Value:
    """Compiles a value. kinds: kinds accepted by the target. many: whether it accepts a list. A list of paths means
    that a caller sets at most one of them. Raises InvalidMapping."""
    if isinstance(part.raw, list):
        values = [value_of(entry, scope, kinds, many) for entry in part.entries()]
        return values[0] if len(values) == 1 else _one_of(part, values, many)
    if isinstance(part.raw, str):
        return _of_path(part, part, scope, kinds, many)
    table = part.table(_WORDS)
    sources = [name for name in _BESIDE if name in table]
    if len(sources) != 1:
        raise part.error("needs one of path, const, metadata and tensor")
    # Checks the keys allowed beside each source.
    part.table({sources[0], *_BESIDE[sources[0]]})
    if "const" in table:
        return _constant(table["const"], kinds, many)
    if "metadata" in table:
        return _of_metadata(part, table["metadata"], kinds)
    if "tensor" in table:
        return _of_tensor(part, table["tensor"], scope, kinds, many)
    if "as" in table:
        part.table({"path", "as", "ids"})
        return _of_bytes(table["as"], table["path"], scope, kinds, many)
    return _of_path(part, table["path"], scope, kinds, many)


def _of_path(part: Part, written: Part, scope: Scope, kinds: Collection[str], many: bool) -> Value:
    path = scope.path(written)
    if path.many and not many:
        remedy = 'choose an entry, such as name[0] or name[key="x"]'
        raise written.error(f"{path.text!r} leads to a list where one value is needed; {remedy}")
    kind, convert = _conversion(part, path)
    if kind not in kinds:
        raise written.error(
            f"{path.text!r} is of kind {path.kind} ({path.leaf.full_name}); expected {' or '.join(kinds)}"
        )
    default = part.get("default")
    if default is not None:
        if many:
            raise default.error("a list has no default; leave it out")
        _check_constant(default, kind)
    instead = default.raw if default is not None else None
    return Value(path.text, kind, path.many, _reader(path, convert, instead), path, convert, instead)


def _of_tensor(part: Part, name: Part, scope: Scope, kinds: Collection[str], many: bool) -> Value:
    """The value of a named tensor. Each request gives its kind; where the mapping needs one, it is the first of
    kinds."""
    if not scope.tensors:
        raise name.error("the request has no table tensors, which says where tensors lie")
    (tensors,) = scope.tensors
    scope.named.append((part.key, name.text()))
    get = tensors.reader(name.text(), [kind for kind in kinds if kind != "bytes"], many)
    default = part.get("default")
    if default is not None:
        if many:
            raise default.error("a list has no default; leave it out")
        _check_constant(
            default, next((kind for kind in kinds if is_constant(default.raw, kind)), next(iter(kinds)))
        )
    instead = default.raw if default is not None else None

    def read(message: Any, _: Metadata) -> Any:
        found = get(message)
        return instead if found is None else found

    return Value(f'{tensors.text}["{name.raw}"]', "any" if len(kinds) > 1 else next(iter(kinds)), many, read)


def _of_bytes(word: Part, written: Part, scope: Scope, kinds: Collection[str], many: bool) -> Value:
    """The value of numbers or strings encoded as raw bytes."""
    path = scope.path(written)
    held = word.one_of(tensor_bytes.WORDS)
    if path.kind != "bytes" or path.many:
        raise written.error(f"{path.text!r} must be one value of kind bytes to be read as {held}")
    kind = tensor_bytes.kind_of_word(held)
    if not many or kind not in kinds:
        wanted = " or ".join(kinds)
        raise word.error(f"gives a list of kind {kind}; expected {'a list of' if many else 'one'} {wanted}")
    get = getter(path)

    def read(message: Any, _: Metadata) -> Any:
        content = get(message)
        if not content:
            return None
        try:
            return tensor_bytes.read(content, held)
        except ValueError as error:
            raise InvalidQuery(path.text, str(error)) from None

    return Value(path.text, kind, True, read)


def _reader(path: Path, convert: Convert | None, instead: Any) -> Read:
    get = getter(path)
    if path.many:
        if convert is None:
            return lambda message, _: get(message)
        return lambda message, _: [convert(value) for value in get(message)]

    def read(message: Any, _: Metadata) -> Any:
        value = get(message)
        if value is None:
            return instead
        return value if convert is None else convert(value)

    return read


def _conversion(part: Part, path: Path) -> tuple[str, Convert | None]:
    """(kind of the values, their conversion) of a path."""
    names = part.get("enum")
    if path.kind == "enum":
        return "string", _enum(path, names)
    if names is not None:
        raise names.error(f"{path.text!r} is of kind {path.kind}, no enum")
    if path.leaf.type in _UNSIGNED:
        return "integer", lambda value: _signed(value, path.text)
    return path.kind, None


def _enum(path: Path, names: Part | None) -> Convert:
    """The conversion of enum numbers to names, or to the names given by the mapping."""
    field = path.leaf
    by_number = {value.number: value.name for value in field.enum_type.values}
    if names is not None:
        by_number = {}
        for name, value in names.table().items():
            with value.located():
                by_number[enum_number(field, name)] = value.text()

    def convert(number: int) -> str:
        try:
            return str(by_number[number])
        except KeyError:
            known = field.enum_type.values_by_number
            said = known[number].name if number in known else number
            raise InvalidQuery(
                path.text, f"{said} of {field.enum_type.full_name} is not served here"
            ) from None

    return convert


def _signed(value: int, name: str) -> int:
    if value > _MOST_INTEGER:
        raise InvalidQuery(name, f"must be below 2^63, got {value}")
    return value


def _constant(part: Part, kinds: Collection[str], many: bool) -> Value:
    raws = part.raw if isinstance(part.raw, list) else [part.raw]
    if isinstance(part.raw, list) and not (many and part.raw):
        raise part.error("must be one value" if not many else "is empty; leave it out")
    fitting = [kind for kind in kinds if all(is_constant(raw, kind) for raw in raws)]
    if not fitting:
        raise part.error(f"must be {' or '.join(kinds)}, got {part.raw!r}")
    raw = part.raw
    return Value(
        repr(raw), fitting[0], isinstance(raw, list), lambda *_: raw, constant=raw, needs_message=False
    )


def is_constant(raw: Any, kind: str) -> bool:
    return isinstance(raw, _CONSTANTS[kind]) and isinstance(raw, bool) == (kind == "bool")


def _check_constant(part: Part, kind: str) -> None:
    if not is_constant(part.raw, kind):
        raise part.error(f"must be of kind {kind}, got {part.raw!r}")


def _of_metadata(part: Part, name: Part, kinds: Collection[str]) -> Value:
    key = metadata_key(name)
    default = part.get("default")
    kind = next((kind for kind in ("string", "integer") if kind in kinds), None)
    if kind is None:
        raise part.error(f"metadata is of kind string; expected {' or '.join(kinds)}")
    if default is not None:
        _check_constant(default, kind)
    instead = default.raw if default is not None else None
    place = f"metadata {key}"

    def read(_: Any, metadata: Metadata) -> Any:
        text = metadata.get(key)
        if text is None:
            return instead
        if kind == "string":
            return text
        try:
            return int(text) if len(text) < 20 else _signed(int(text[:40]), place)
        except ValueError:
            raise InvalidQuery(place, f"must be a whole number, got {text[:40]!r}") from None

    return Value(place, kind, False, read, metadata=(key,), needs_message=False)


def metadata_key(part: Part) -> str:
    """A name of metadata. Raises InvalidMapping for a name whose values are not text in gRPC."""
    key = part.text()
    allowed = set("abcdefghijklmnopqrstuvwxyz0123456789-_.")
    if set(key) - allowed or key.endswith("-bin") or key.startswith("grpc-"):
        raise part.error(f"{key!r} is no name of textual metadata: lower-case letters, digits, - _ and .")
    return key


def _listed(value: Value) -> Value:
    """A single value as a list."""

    def read(message: Any, metadata: Metadata) -> Any:
        found = value.read(message, metadata)
        return [] if found is None else [found]

    return replace(value, many=True, read=read, path=None)


def _one_of(part: Part, values: Sequence[Value], many: bool) -> Value:
    """A value with several paths, of which a caller sets at most one, or several to equal values. Where their kinds
    differ, the set value decides the kind. many: whether single values count as lists of one."""
    if len({value.many for value in values}) > 1:
        if not many:
            raise part.error("mixes lists and single values")
        values = [value if value.many else _listed(value) for value in values]
    many = values[0].many

    def read(message: Any, metadata: Metadata) -> Any:
        found: Any = [] if many else None
        first = ""
        for value in values:
            here = value.read(message, metadata)
            if here is None or (many and not len(here)):
                continue
            if first and (many or here != found):
                raise InvalidQuery(value.name, f"is set, and {first} too; set one of both")
            found, first = here, value.name
        return found

    kinds = {value.kind for value in values}
    metadata = tuple(key for value in values for key in value.metadata)
    return Value(values[0].name, kinds.pop() if len(kinds) == 1 else "any", many, read, metadata=metadata)
