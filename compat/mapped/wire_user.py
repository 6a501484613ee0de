"""Reads surface, user and request id of a caller's request, for the modes in front of a mesh: from the wire where
possible, else from the parsed message and the metadata."""

from __future__ import annotations

from typing import Any

from meshfold.compat.mapped.request import Request
from meshfold.compat.mapped.size import WireCounts, as_parsed, is_capturable
from meshfold.compat.mapped.values import Metadata, Value
from meshfold.compat.migration.wire_scan import MOST_FIELDS, Scanned
from meshfold.kernels.wire.table import Scan, Verdict
from meshfold.model.errors import InvalidQuery

_64_BITS = (1 << 64) - 1
_NO_USER = 0
_PARTS = ("surface", "user_id", "request_id")
_NO_METADATA: Metadata = {}


class WireUser:
    """Scans requests of one method."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._values: dict[str, Value] = {
            name: value for name in _PARTS if (value := request.value(name)) is not None
        }
        found = [value.path for value in self._values.values() if value.path is not None]
        self._scans = all(
            value.path is not None and is_capturable(value.path) for value in self._values.values()
        )
        self._wire = WireCounts([], found if self._scans else [])

    def scan(self, message: bytes, metadata: Metadata = _NO_METADATA) -> Scanned | None:
        """Surface, user and request id; None where the bytes cannot be parsed or have values that are refused."""
        # Imported here, since it imports torch, which command lines do not need.
        from meshfold.kernels.wire.scan import scan

        scanned = scan(self._wire.table, message, MOST_FIELDS)
        if scanned.verdict != Verdict.MESSAGE:
            return None
        try:
            parsed = None if self._scans else self._request.parse(message)
            got = [
                self._captured(place, value, scanned, message)
                if self._scans
                else value.read(parsed, metadata)
                for place, value in enumerate(self._values.values())
            ]
        except (InvalidQuery, UnicodeDecodeError):
            return None
        held = dict(zip(self._values, got, strict=True))
        user = held.get("user_id") or _NO_USER
        surface, request_id = held.get("surface") or "", (held.get("request_id") or "").encode()
        if isinstance(user, str):
            return Scanned(surface, _NO_USER, request_id, user.encode())
        return Scanned(surface, user & _64_BITS, request_id)

    def _captured(self, place: int, value: Value, scanned: Scan, message: bytes) -> Any:
        assert value.path is not None
        if value.path.kind == "string":
            raw: Any = message[slice(*scanned.span(place))].decode()
        else:
            raw = as_parsed(scanned.number(place), value.path.leaf)
        if not raw:
            return value.default
        return raw if value.convert is None else value.convert(raw)
