"""The mesh's methods that follow the mode of a surface, and how."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import Descriptor

from meshfold.compat.mesh_v1 import embed, retrieve, score, search
from meshfold.compat.migration.wire_scan import MOST_FIELDS, Scanned
from meshfold.compat.migration.wire_scan import scan as scan_retrieve
from meshfold.compat.traffic import Metadata, Traffic
from meshfold.compat.wire import Scanner
from meshfold.kernels.wire.table import Verdict
from meshfold.protos.mesh.v1 import retrieval_pb2, scoring_pb2, user_tower_pb2

_SURFACE, _USER_ID, _USER_KEY = range(3)
_64_BITS = (1 << 64) - 1


@dataclass(frozen=True)
class Method:
    """A method that follows modes.

    name: its full name. scan: reads surface and user of a request's bytes; for a mapped method also from the caller's
    metadata. is_observed: whether it is shadowed and recorded. traffic: of a mapped method. stands_alone: whether its
    answer can be used without another call's. Embed and Search do not stand alone: a vector of one side may mean
    nothing to the other, and a search has no user. So in a canary the mesh answers both until the model has every user,
    and the other side is called only where the first is down.
    """

    name: str
    scan: Callable[..., Scanned | None]
    stands_alone: bool
    is_observed: bool = False
    traffic: Traffic | None = None

    @property
    def label(self) -> str:
        """The method's name without package and service."""
        return self.name.rpartition("/")[2]

    def scanned(self, message: bytes, metadata: Metadata) -> Scanned | None:
        """Surface and user of a request. metadata: the caller's metadata that the mapping reads."""
        return self.scan(message) if self.traffic is None else self.scan(message, metadata)

    def can_be_shadowed(self, message: bytes, metadata: Metadata) -> bool:
        """Whether both sides can answer a request; not one that continues an answer of one side."""
        return self.is_observed and not (
            self.traffic is not None and self.traffic.is_later_page(message, metadata)
        )


def _scan_of(message: Descriptor, has_user: bool) -> Callable[[bytes], Scanned | None]:
    """The counterpart of wire_scan.scan for another message."""
    user = ("UserContext.user_id", "UserContext.user_key") if has_user else ()
    scanner = Scanner(message, captures=(f"{message.name}.surface", *user))

    def scan(request: bytes) -> Scanned | None:
        scanned = scanner.scan(request, MOST_FIELDS)
        if scanned.verdict != Verdict.MESSAGE:
            return None
        try:
            surface = request[slice(*scanned.span(_SURFACE))].decode()
        except UnicodeDecodeError:
            return None
        if not has_user:
            return Scanned(surface, 0, b"")
        user_id = scanned.number(_USER_ID) & _64_BITS
        return Scanned(surface, user_id, b"", request[slice(*scanned.span(_USER_KEY))])

    return scan


RETRIEVE = Method(retrieve.METHOD, scan_retrieve, stands_alone=True, is_observed=True)
EMBED = Method(
    embed.METHOD, _scan_of(user_tower_pb2.EmbedRequest.DESCRIPTOR, has_user=False), stands_alone=False
)
SEARCH = Method(
    search.METHOD, _scan_of(retrieval_pb2.SearchRequest.DESCRIPTOR, has_user=False), stands_alone=False
)
SCORE = Method(score.METHOD, _scan_of(scoring_pb2.ScoreRequest.DESCRIPTOR, has_user=True), stands_alone=True)
METHODS = (RETRIEVE, EMBED, SEARCH, SCORE)


def mapped_methods(answers: Mapping[str, Any]) -> tuple[Method, ...]:
    """The methods of callers' own protocols: the model's answers, by full name, that have the attributes `traffic` and
    `scan`."""
    return tuple(
        Method(name, answer.scan, stands_alone=True, is_observed=True, traffic=traffic)
        for name, answer in answers.items()
        if (traffic := getattr(answer, "traffic", None)) is not None
    )
