"""The plan of a ramp: a TOML file with surfaces, servers, sources of evidence and steps."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from meshfold.compat.gate.settings import GateSettings, settings_of
from meshfold.compat.mapped.mapping_file import Part
from meshfold.compat.mapped.toml_lines import lines_of
from meshfold.compat.migration.modes import Mode
from meshfold.compat.ramp.steps import DEFAULT, check_steps, step_of
from meshfold.compat.shadow.attribution.mesh_facts import MeshFacts
from meshfold.model.errors import InvalidConfig

EXAMPLE = """\
# A plan for `meshfold migrate plan.toml`. Paths are relative to this file's folder.

# Operators' addresses (admin_address) of all servers in front of the mesh.
servers = ["127.0.0.1:50052"]
# Surfaces to move, each at its own pace.
surfaces = ["feed"]
# Folders of the servers' comparison (comparison.folder), and the store that the servers serve from.
pairs = [".meshfold/pairs"]
store = ".meshfold/store"

# From the mesh to the model. `only` is not a step: the operator takes it by hand.
steps = ["mirror", "canary 1", "canary 5", "canary 25", "canary 50", "serve"]
# Least seconds of a step: one number for all steps, or a list with one for each.
hold_s = 3600

# Where the ramp keeps its state, and its audit log.
state = ".meshfold/ramp.json"
log = ".meshfold/ramp-log.jsonl"
# Seconds between looks at new pairs.
poll_s = 5

# Bounds for the evidence; `meshfold gate --help` names all settings.
[gate]
margin = 0.02
min_users = 200

# Services of the mesh, if reachable. Without them more causes of differences stay unknown.
# [mesh]
# tower = "tower:50061"
# retrieval = "retrieval:50062"
# scoring = "scoring:50063"
"""

_NEEDED = ("servers", "surfaces", "pairs", "store")
_KNOWN = (*_NEEDED, "steps", "hold_s", "state", "log", "poll_s", "gate", "mesh")
_MESH = ("tower", "retrieval", "scoring", "candidates", "timeout_s")
_MOST_BYTES = 1 << 20
_MOST_HOLD_S = 365 * 86_400.0
_MOST_ENTRIES = 100
_ADDRESS = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\s:/,]+):(?P<port>\d{1,5})|unix:\S+|dns:\S+")
_SERVICE = re.compile(r"\S+:\S+")
_URL = re.compile(r"(redis|rediss|unix)://")

_T = TypeVar("_T")


@dataclass(frozen=True)
class Plan:
    """A plan.

    file: the file that it was read from. state: a file, or a URL of Redis. hold_s: for each step. poll_s: between
    looks at new pairs. mesh: reachable services of the mesh.
    """

    file: Path
    servers: tuple[str, ...]
    surfaces: tuple[str, ...]
    pairs: tuple[Path, ...]
    store: Path
    steps: tuple[Mode, ...]
    hold_s: tuple[float, ...]
    state: str
    log: Path
    poll_s: float = 5.0
    gate: GateSettings = field(default_factory=GateSettings)
    mesh: MeshFacts = field(default_factory=MeshFacts)


def read_plan(file: Path) -> Plan:
    """Reads a plan. Raises InvalidConfig with the line, the key and the remedy."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise InvalidConfig(
            f"the plan {file} cannot be read: {error.strerror}; `meshfold migrate --example` prints one to begin with"
        ) from None
    if len(content) > _MOST_BYTES:
        raise InvalidConfig(f"the plan {file} has more than {_MOST_BYTES} bytes")
    try:
        text = content.decode("utf-8-sig").replace("\r\n", "\n")
        raw = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidConfig(f"{file} is not a TOML file: {error}") from None
    return _plan(Part(file, lines_of(text), (), raw))


def _plan(whole: Part) -> Plan:
    parts = whole.table(_KNOWN, _NEEDED)
    folder = whole.file.parent
    steps = _steps(parts.get("steps"))
    state = _text(parts.get("state"), ".meshfold/ramp.json")
    log = parts.get("log")
    if not _URL.match(state):
        state = str(folder / state)
    return Plan(
        file=whole.file,
        servers=_entries(parts["servers"], _address),
        surfaces=_entries(parts["surfaces"], Part.text),
        pairs=_entries(parts["pairs"], lambda part: folder / part.text()),
        store=folder / parts["store"].text(),
        steps=steps,
        hold_s=_hold_s(parts.get("hold_s"), len(steps)),
        state=state,
        log=folder / log.text() if log is not None else log_beside(state, folder),
        poll_s=_number(parts.get("poll_s"), 5.0, 0.05, 3600),
        gate=_gate(parts.get("gate")),
        mesh=_mesh(parts.get("mesh")),
    )


def log_beside(state: str, folder: Path) -> Path:
    """The default place of the audit log: beside the state, or in `folder` if the state is in Redis."""
    if _URL.match(state):
        return folder / ".meshfold" / "ramp-log.jsonl"
    path = Path(state)
    return path.with_name(f"{path.stem}-log.jsonl")


def _entries(part: Part, of: Callable[[Part], _T]) -> tuple[_T, ...]:
    """Entries of a list, without duplicates."""
    if not isinstance(part.raw, list):
        raise part.error(f"must be a list, got {part.raw!r:.100}")
    found = tuple(of(entry) for entry in part.entries())
    if len(found) > _MOST_ENTRIES:
        raise part.error(f"has {len(found)} entries; at most {_MOST_ENTRIES} are allowed")
    if len(set(found)) < len(found):
        raise part.error("has an entry twice; leave the second out")
    return found


def _address(part: Part) -> str:
    text = part.text()
    found = _ADDRESS.fullmatch(text)
    if found is None or (found["port"] and not 0 < int(found["port"]) < 1 << 16):
        raise part.error(f"must be such as 127.0.0.1:50052, the admin_address of a server; got {text!r:.100}")
    return text


def _steps(part: Part | None) -> tuple[Mode, ...]:
    if part is None:
        return tuple(map(step_of, DEFAULT))
    if not isinstance(part.raw, list):
        raise part.error(f"must be a list such as {list(DEFAULT)}, got {part.raw!r:.100}")
    steps = []
    for entry in part.entries():
        try:
            steps.append(step_of(entry.text()))
        except ValueError as error:
            raise entry.error(str(error)) from None
    try:
        check_steps(steps)
    except ValueError as error:
        raise part.error(str(error)) from None
    return tuple(steps)


def _hold_s(part: Part | None, steps: int) -> tuple[float, ...]:
    if part is None or not isinstance(part.raw, list):
        return (_number(part, 3600.0, 0, _MOST_HOLD_S),) * steps
    if len(part.raw) != steps:
        raise part.error(f"must be one number, or one for each of the {steps} steps; got {len(part.raw)}")
    return tuple(_number(part[place], 0, 0, _MOST_HOLD_S) for place in range(steps))


def _number(part: Part | None, default: float, low: float, high: float) -> float:
    if part is None:
        return default
    value = part.number()
    if not low <= value <= high:
        raise part.error(f"must be from {low:g} to {high:g}, got {value:g}")
    return value


def _text(part: Part | None, default: str) -> str:
    return default if part is None else part.text()


def _gate(part: Part | None) -> GateSettings:
    if part is None:
        return GateSettings()
    if not isinstance(part.raw, dict):
        raise part.error(f"must be a table, got {part.raw!r:.100}")
    return settings_of(part.raw, f"{part.file}:{_line(part)}")


def _line(part: Part) -> int:
    return part.lines.get(part.key, 1)


def _mesh(part: Part | None) -> MeshFacts:
    if part is None:
        return MeshFacts()
    parts = part.table(_MESH)
    tower, retrieval, scoring = (_service(parts.get(name)) for name in _MESH[:3])
    return MeshFacts(
        tower,
        retrieval,
        scoring,
        candidates=int(_number(parts.get("candidates"), 0, 0, 10_000)),
        timeout_s=_number(parts.get("timeout_s"), 10.0, 0.1, 600),
    )


def _service(part: Part | None) -> str:
    """An address, or several, in the form that gRPC takes; "" for none."""
    text = _text(part, "")
    if part is not None and not _SERVICE.fullmatch(text):
        raise part.error(f"must be such as tower:50061, an address of the mesh's service; got {text!r:.100}")
    return text
