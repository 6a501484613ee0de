"""Rows of the assignment log, which records the side that answered each user."""

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

# side: the answering side. fallback: the status with which the first side failed; "" where the first side answered.
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
# Most fields scanned in an answer, far above those of a largest answer.
_MOST_FIELDS = 10_000_000
_INT64 = 1 << 63

Row = tuple[Any, ...]


class AssignmentRows:
    def __init__(self, keys: AssignmentKeys, methods: Sequence[Method]) -> None:
        """methods: the logged methods."""
        self._keys = keys
        # Calls of Retrieve have an empty method name.
        self._methods: Mapping[str, Method] = {
            "" if method.traffic is None else method.name: method for method in methods if method.is_observed
        }

    def row(self, unix_ms: int, answered: Answered) -> Row:
        """The row of a call, by SCHEMA."""
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
    # Converted from an unsigned 64-bit integer.
    return scanned.user_id if scanned.user_id < _INT64 else scanned.user_id - 2 * _INT64


def _text(content: bytes) -> str:
    return content.decode("utf-8", "replace")


def _version(method: Method, reply: Reply) -> str:
    """The version of an answer; where its parts have different ones, all of them; "" where it has none."""
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
