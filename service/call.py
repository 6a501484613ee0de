"""A unary call, free of gRPC's own objects."""

from __future__ import annotations

import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from meshfold.model.types import User

Metadata = tuple[tuple[str, str | bytes], ...]

# Bytes that HTTP/2 counts for a header field besides its name and value (RFC 9113 6.5.2).
_FIELD_BYTES = 32


def metadata_bytes(metadata: Metadata) -> int:
    """The size of metadata, as HTTP/2 counts it."""
    return sum(len(name) + len(value) + _FIELD_BYTES for name, value in metadata)


@dataclass(eq=False)
class Call:
    """A whole request, and the metadata of its answer.

    message: the request's bytes. deadline_s: on time.monotonic()'s clock. has_deadline: False where the caller set none
    and the server's own limit holds. metadata: the caller's. peer: the connection, in gRPC's notation. is_shadow:
    whether the answer is only for comparison. initial, trailing: metadata of the answer, set while it is made.
    hydrated: the user as the model got it; None where the server filled nothing in.
    """

    message: bytes
    deadline_s: float
    has_deadline: bool = True
    metadata: Metadata = ()
    peer: str = ""
    is_shadow: bool = False
    initial: Metadata = ()
    trailing: Metadata = ()
    hydrated: User | None = None

    def left_s(self) -> float:
        """Seconds until the deadline; negative once it passed."""
        return self.deadline_s - time.monotonic()


# Makes the bytes of an answer. Raises the errors of service/errors.py; is cancelled when the caller leaves.
Answer = Callable[[Call], Awaitable[bytes]]


def deadline_s(context: Any) -> float | None:
    """The deadline of a call, on time.monotonic()'s clock; None where the caller set none."""
    left_s = context.time_remaining()
    return time.monotonic() + left_s if left_s is not None and left_s < threading.TIMEOUT_MAX else None
