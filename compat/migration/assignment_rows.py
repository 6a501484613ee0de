"""Rows of the assignment log: which side answered which user."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from meshfold.compat.migration.assignment_keys import AssignmentKeys
from meshfold.compat.migration.methods import Method
from meshfold.compat.migration.modes import Kind
from meshfold.compat.migration.wire_scan import Scanned
from meshfold.compat.wire import Scanner
from meshfold.kernels.wire.table import Verdict
from meshfold.model.errors import InvalidData
from meshfold.protos.mesh.v1 import orchestrator_pb2 as pb
from meshfold.service.front import Answered, Reply

# side: who answered. fallback: the status with which the other side failed that was asked first; "" where none was.
# canary_percent: null outside a canary.
SCHEMA = pa.schema(
    [
        ("user_key", pa.string()),
        ("request_id", pa.string()),
        ("surface", pa.string()),
        ("side", pa.string()),
        ("version", pa.string()),
        ("unix_ms", pa.int64()),
        ("mode", pa.string()),
        ("canary_percent", pa.float64()),
        ("code", pa.string()),
        ("fallback", pa.string()),
    ]
)
_PARTS = ("user_tower", "index", "filter", "scoring")
_VERSIONS = Scanner(pb.RetrieveResponse.DESCRIPTOR, captures=tuple(f"Versions.{part}" for part in _PARTS))
# Far beyond an answer of the most results.
_MOST_FIELDS = 10_000_000
_INT64 = 1 << 63

Row = tuple[Any, ...]


class AssignmentRows:
    def __init__(self, keys: AssignmentKeys, methods: Sequence[Method]) -> None:
        """methods: those whose calls are logged."""
        self._keys = keys
        # A call of Retrieve names no method.
        self._methods: Mapping[str, Method] = {
            "" if method.traffic is None else method.name: method for method in methods if method.is_observed
        }

    def row(self, unix_ms: int, answered: Answered) -> Row:
        """As SCHEMA has it."""
        method = self._methods[answered.method]
        scanned = method.scanned(answered.message, answered.metadata)
        kind, _, percent = answered.mode.partition(" ")
        outcome = answered.outcome
        return (
            "" if scanned is None else self._keys.user(_user(scanned)),
            "" if scanned is None else self._keys.request(_text(scanned.request_id)),
            answered.surface,
            outcome.side.value,
            "" if outcome.reply is None else _version(method, outcome.reply),
            unix_ms,
            kind,
            float(percent.partition(" ")[0]) if kind == Kind.CANARY else None,
            outcome.code.name,
            answered.fallback,
        )


def batch_of(rows: Sequence[Row]) -> pa.RecordBatch:
    columns = zip(*rows, strict=True)
    return pa.record_batch(
        [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)], schema=SCHEMA
    )


def _user(scanned: Scanned) -> int | str:
    if scanned.user_key:
        return _text(scanned.user_key)
    # From 64 unsigned bits.
    return scanned.user_id if scanned.user_id < _INT64 else scanned.user_id - 2 * _INT64


def _text(content: bytes) -> str:
    return content.decode("utf-8", "replace")


def _version(method: Method, reply: Reply) -> str:
    """One where all parts of an answer have the same; else those of the parts. "" where it names none."""
    if method.traffic is not None:
        try:
            answers = method.traffic.answers(reply.message, 0.0)
        except InvalidData:
            return ""
        return " ".join(dict.fromkeys(answer.version for answer in answers if answer.version))
    scan = _VERSIONS.scan(reply.message, _MOST_FIELDS)
    if scan.verdict != Verdict.MESSAGE:
        return ""
    spans = (scan.span(part) for part in range(len(_PARTS)))
    return " ".join(dict.fromkeys(_text(reply.message[slice(*span)]) for span in spans if span[0] < span[1]))
