"""Explains an answer of a caller's protocol, from a file or computed by a store's newest snapshot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from google.protobuf import json_format
from google.protobuf.message_factory import GetMessageClass

from meshfold.compat.mapped.adapter import MappedAdapter
from meshfold.compat.mapped.requests import Sent, message_of
from meshfold.compat.mapped.several import unpacked
from meshfold.compat.mapped.several_adapter import SeveralAdapter
from meshfold.compat.shadow.pairs import SideAnswer
from meshfold.model.errors import InvalidData, InvalidQuery, UnknownName
from meshfold.model.limits import Limits
from meshfold.model.schema import nearest
from meshfold.model.store import Store


def answer_in(file: Path, adapter: MappedAdapter) -> bytes:
    """The bytes of an answer, from bytes or from protobuf's JSON. Raises InvalidData."""
    return message_of(file, adapter.descriptor.output_type, adapter.POOL)


def answer_by(store: Path, sent: Sent, adapter: MappedAdapter) -> bytes:
    """The answer of a server of the store. Raises InvalidData, InvalidQuery, UnknownName, SnapshotRefused."""
    if not store.is_dir():
        raise InvalidData(f"{store} is no store; `meshfold build` publishes to one")
    # Imported here, since it imports torch.
    from meshfold.service.runner import Runner
    from meshfold.service.work import Work, run_alone

    surface = adapter.measure(adapter.parts(sent.message, sent.metadata)[0], Limits()).surface
    published = Store(store, only=surface).look().published
    if not surface and len(published) > 1:
        raise InvalidQuery("surface", f"several are published; name one of {', '.join(published)}")
    surface = surface or next(iter(published), "")
    if surface not in published:
        raise UnknownName(f"{store} holds no surface {surface!r}{nearest(surface, published)}")
    runner = Runner.open(published[surface][0], surface, "cpu")
    work = Work(adapter, runner, Limits())
    if isinstance(adapter, SeveralAdapter):
        split = adapter.split(sent.message, sent.metadata)
        return adapter.several.answer.joined(
            [(places, unpacked(run_alone(work, part))[1:]) for places, part in split]
        )
    return run_alone(work, adapter.framed(sent.message, sent.metadata))


def parts_of(message: bytes, adapter: MappedAdapter) -> tuple[SideAnswer, ...]:
    """Item ids and scores of an answer, as a comparison reads them. Raises InvalidData where it cannot."""
    assert adapter.traffic is not None
    return tuple(adapter.traffic.answers(message, 0.0))


def as_json(message: bytes, adapter: MappedAdapter) -> str:
    """An answer as protobuf's JSON. Raises InvalidData."""
    kind = GetMessageClass(adapter.descriptor.output_type)
    try:
        parsed: Any = kind.FromString(message)
        text: str = json_format.MessageToJson(
            parsed, descriptor_pool=adapter.POOL, preserving_proto_field_name=True
        )
    except Exception as error:
        reason = " ".join(str(error).split())
        raise InvalidData(f"the answer is no {kind.DESCRIPTOR.full_name}: {reason:.300}") from None
    return text
