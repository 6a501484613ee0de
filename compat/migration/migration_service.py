"""meshfold.v1.MigrationService: modes over the wire."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

from google.protobuf.message import DecodeError, Message

from meshfold.compat.migration.mode_switch import ModeSwitch
from meshfold.compat.migration.modes import Change, Kind, Mode, Modes
from meshfold.model.errors import InvalidQuery, UnknownName, Unprepared
from meshfold.model.schema import nearest
from meshfold.protos.meshfold.v1 import migration_pb2 as pb
from meshfold.service.comparison import ComparisonConfig
from meshfold.service.intake import Operation

SERVICE = "meshfold.v1.MigrationService"
# Most changes in one answer.
MOST_HISTORY = 1000
KINDS: Mapping[Kind, pb.Mode.Kind] = {kind: pb.Mode.Kind.Value(kind.name) for kind in Kind}


class MigrationService:
    """Answers the service's calls, from bytes to bytes."""

    def __init__(
        self,
        switch: ModeSwitch,
        mesh: str,
        served: Callable[[], Collection[str]],
        comparison: ComparisonConfig | None = None,
    ) -> None:
        """mesh: its addresses, HOST:PORT with commas between. served: returns the surfaces that the model serves
        now. comparison: its settings."""
        self._switch = switch
        self._mesh = mesh
        self._served = served
        self._comparison = comparison or ComparisonConfig()

    @property
    def answers(self) -> dict[str, Operation]:
        """Operators' calls by full name."""
        return {
            f"/{SERVICE}/GetModes": self._get_modes,
            f"/{SERVICE}/SetMode": self._set_mode,
            f"/{SERVICE}/Kill": self._kill,
        }

    def _get_modes(self, message: bytes, _: Any) -> bytes:
        request = decoded(pb.GetModesRequest, message)
        if not 0 <= request.changes <= MOST_HISTORY:
            raise InvalidQuery("changes", f"must be 0 to {MOST_HISTORY}, got {request.changes}")
        modes = self._switch.current
        if request.changes:
            modes = replace(modes, history=tuple(self._switch.history(request.changes)))
        return self._encoded(modes)

    def _set_mode(self, message: bytes, _: Any) -> bytes:
        request = decoded(pb.SetModeRequest, message)
        if not request.who:
            raise InvalidQuery("who", "is empty; say who changes the mode")
        mode = _mode(request)
        if mode is not None and mode.wants_model:
            self._check_served(request.surface, mode)
        elif not request.force:
            self._check_known(request.surface)
        generation = request.generation if request.HasField("generation") else None
        return self._encoded(self._switch.set(request.surface, mode, request.who, request.why, generation))

    def _kill(self, message: bytes, _: Any) -> bytes:
        request = decoded(pb.KillRequest, message)
        return self._encoded(self._switch.kill(request.who, request.why))

    def _check_served(self, surface: str, mode: Mode) -> None:
        served = self._served()
        if not served:
            raise Unprepared(
                f"{mode} needs the model, which serves nothing yet; publish with `meshfold build`"
            )
        if surface and surface not in served:
            raise Unprepared(
                f"{mode} needs the model, which does not serve {surface!r}; publish a snapshot of it with "
                f"`meshfold build`{nearest(surface, served)}"
            )

    def _check_known(self, surface: str) -> None:
        """Refuses an unknown surface: a typing error must not look like a switch, and each mode is a label of
        metrics."""
        known = {*self._served(), *self._switch.current.surfaces}
        if surface and surface not in known:
            raise UnknownName(
                f"{surface!r} is not served and has no mode; `force` (--force) sets it all the same"
                f"{nearest(surface, known)}"
            )

    def _encoded(self, modes: Modes) -> bytes:
        message = encode_modes(modes, self._mesh, sorted(self._served()))
        message.trouble = self._switch.trouble
        message.comparison.CopyFrom(_encode_comparison(self._comparison))
        encoded: bytes = message.SerializeToString()
        return encoded


def encode_modes(modes: Modes, mesh: str, served: Collection[str]) -> pb.Modes:
    return pb.Modes(
        mesh=mesh,
        generation=modes.generation,
        default=_change(modes.default),
        surfaces=[_change(own) for _, own in sorted(modes.surfaces.items())],
        history=[_change(change) for change in modes.history],
        served=served,
    )


def _encode_comparison(config: ComparisonConfig) -> pb.Comparison:
    return pb.Comparison(
        on=config.on,
        share=config.share,
        surface_shares=config.shares,
        canary_share=config.canary_share,
        noise_share=config.noise_share,
        folder=config.folder,
        file_age_s=config.file_age_s,
        keep_requests=config.keep_requests,
        has_key=bool(config.key_file),
        omit=config.omitted,
    )


def decode_modes(message: pb.Modes) -> Modes:
    """The modes of a message. Raises InvalidQuery where a mode is unknown."""
    return Modes(
        generation=message.generation,
        default=_decoded_change(message.default),
        surfaces={own.surface: _decoded_change(own) for own in message.surfaces},
        history=tuple(_decoded_change(change) for change in message.history),
    )


def _change(change: Change) -> pb.Change:
    return pb.Change(
        surface=change.surface,
        mode=pb.Mode(kind=KINDS[change.mode.kind], percent=change.mode.percent),
        who=change.who,
        why=change.why,
        unix_ms=change.unix_ms,
        kill=change.kill,
    )


def _decoded_change(change: pb.Change) -> Change:
    mode = Mode(_kind(change.mode.kind), change.mode.percent)
    return Change(change.surface, mode, change.who, change.why, change.unix_ms, change.kill)


def _mode(request: pb.SetModeRequest) -> Mode | None:
    """The requested mode; None to follow the default. Raises InvalidQuery."""
    if request.mode.kind == pb.Mode.DEFAULT:
        if not request.surface:
            raise InvalidQuery("surface", "is empty, which means the default; that has no other to follow")
        return None
    return Mode(_kind(request.mode.kind), request.mode.percent)


def _kind(number: int) -> Kind:
    for kind, known in KINDS.items():
        if known == number:
            return kind
    raise InvalidQuery("mode.kind", f"must be one of {', '.join(kind.name for kind in Kind)}, got {number}")


def decoded(kind: type[Message], message: bytes) -> Any:
    try:
        return kind.FromString(message)
    except DecodeError:
        raise InvalidQuery("request", f"the bytes are not a {kind.DESCRIPTOR.full_name}") from None
