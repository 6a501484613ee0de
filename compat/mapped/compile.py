"""Checks a mapping file against its protocol and compiles it to adapters."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from google.protobuf.descriptor import MethodDescriptor

from meshfold.compat.mapped.adapter import EMPTY, MappedAdapter
from meshfold.compat.mapped.answer import Answer
from meshfold.compat.mapped.descriptors import (
    Protocol,
    from_descriptor_set,
    from_protos,
    from_reflection,
)
from meshfold.compat.mapped.fixed import FixedAnswer, fixed_answer
from meshfold.compat.mapped.mapping_file import Part, read
from meshfold.compat.mapped.request import Request, check_codec
from meshfold.compat.mapped.several import several_of
from meshfold.compat.mapped.several_adapter import SeveralAdapter
from meshfold.compat.mapped.strictness import accepted, unread
from meshfold.compat.mapped.traffic import MappedTraffic
from meshfold.compat.mapped.values import metadata_key
from meshfold.model.errors import InvalidConfig
from meshfold.model.schema import nearest
from meshfold.model.types import Candidates, Query

_KEYS = {"request", "answer", "ids", "empty", "answer_metadata", "each", "accepts", "strict"}
# Sources of an answer's metadata, by name.
_SENT: dict[str, Callable[[Query, Candidates], str]] = {
    "version": lambda _, candidates: candidates.version,
    "request_id": lambda query, _: query.request_id,
    "count": lambda _, candidates: str(len(candidates.item_ids)),
}


@dataclass(frozen=True, eq=False)
class Mapping:
    """A loaded mapping. protocol: its messages. adapters: of methods that the model answers. fixed: of methods with
    fixed answers. digest: SHA-256 over file and protocol, in hexadecimal digits."""

    file: Path
    protocol: Protocol
    adapters: tuple[MappedAdapter, ...]
    fixed: tuple[FixedAnswer, ...]
    digest: str


def load(file: Path) -> Mapping:
    """Loads a mapping. Raises InvalidConfig for invalid TOML, InvalidMapping where it does not fit the protocol."""
    whole = read(file)
    table = whole.table({"protocol", "method"}, ("protocol", "method"))
    protocol = _protocol(table["protocol"])
    methods = table["method"].table()
    if not methods:
        raise table["method"].error('is empty; add [method."/package.Service/Method"]')
    adapters: list[MappedAdapter] = []
    fixed: list[FixedAnswer] = []
    known = protocol.methods
    for name, part in methods.items():
        if name not in known:
            raise part.error(f"no method {name!r}{nearest(name, known)}")
        descriptor = known[name]
        if descriptor.client_streaming or descriptor.server_streaming:
            raise part.error("is a stream of messages; only methods of one message each way are mapped")
        if "fixed" in part:
            fixed.append(fixed_answer(name, part, descriptor, protocol))
        else:
            adapters.append(_adapter(name, part, descriptor, protocol))
    digest = _digest(file, protocol)
    for adapter in adapters:
        adapter.traffic = MappedTraffic(adapter, digest)
    return Mapping(file, protocol, tuple(adapters), tuple(fixed), digest)


def _digest(file: Path, protocol: Protocol) -> str:
    """SHA-256 over a mapping and its protocol, in hexadecimal digits. Raises InvalidConfig."""
    made = hashlib.sha256()
    try:
        made.update(hashlib.sha256(file.read_bytes()).digest())
    except OSError as error:
        raise InvalidConfig(f"the mapping {file} cannot be read: {error.strerror}") from None
    for name in sorted(protocol.files):
        made.update(hashlib.sha256(protocol.files[name].SerializeToString(deterministic=True)).digest())
    return made.hexdigest()


def _protocol(part: Part) -> Protocol:
    table = part.table({"descriptors", "proto", "include", "reflect"})
    sources = [name for name in ("descriptors", "proto", "reflect") if name in table]
    if len(sources) != 1:
        raise part.error("needs one of descriptors, proto and reflect")
    source = table[sources[0]]
    folder = part.file.resolve().parent
    with source.located():
        if "reflect" in table:
            return from_reflection(source.text())
        if "descriptors" in table:
            return from_descriptor_set(folder / source.text())
        include = table["include"].texts() if "include" in table else ()
        return from_protos([folder / each for each in source.texts()], [folder / each for each in include])


def _adapter(name: str, part: Part, descriptor: MethodDescriptor, protocol: Protocol) -> MappedAdapter:
    table = part.table(_KEYS, ("request", "answer"))
    codec = check_codec(part.get("ids"))
    several = None
    if "each" in table:
        several = several_of(table["each"], descriptor.input_type, descriptor.output_type, protocol)
    request = Request(
        table["request"], descriptor.input_type, protocol, codec, several.request.names if several else ()
    )
    answer = Answer(
        table["answer"],
        descriptor.output_type,
        protocol,
        request,
        codec,
        several.answer.fields if several else (),
    )
    empty = table["empty"].one_of(EMPTY) if "empty" in table else "OK"
    sent = {}
    if "answer_metadata" in table:
        for key, each in table["answer_metadata"].table().items():
            named = Part(each.file, each.lines, each.key, key)
            sent[metadata_key(named)] = _SENT[each.one_of(_SENT)]
            if several is not None and each.raw == "count":
                raise each.error("is of one query, and an answer's metadata of several; leave it out")
    # Last, when all paths are known.
    if "accepts" in table:
        request.checks.append(accepted(table["accepts"], request.scope))
    if "strict" in table and table["strict"].flag():
        request.checks.append(unread(request.scope))
    parts = (name, descriptor, protocol.pool, request, answer, empty, sent)
    return MappedAdapter(*parts) if several is None else SeveralAdapter(several, *parts)
