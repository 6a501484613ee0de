"""Settings of the mesh. Fields of MeshConfig define the flags, their values and meanings."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints

from meshfold.model.errors import InvalidConfig

ORCHESTRATOR, TOWER, RETRIEVAL, SCORING = "orchestrator", "tower", "retrieval", "scoring"
# The services behind an orchestrator.
BEHIND = (TOWER, RETRIEVAL, SCORING)
# All services, in the order of their start.
SERVICES = (*BEHIND, ORCHESTRATOR)
# Modules of the packages of the extra `mesh`.
MODULES = ("faiss", "pyroaring")

# Prefix of the destinations of the flags.
_DEST = "mesh."


@dataclass(frozen=True)
class MeshConfig:
    """The settings. Each field has its type, the placeholder of its value in --help, and its meaning."""

    surface: Annotated[str, "NAME", "the only one to serve (default: all)"] = ""
    exact: Annotated[bool, "", "search compares every vector"] = False
    candidates: Annotated[int, "N", "to find and score (default: as many as the model does on a CPU)"] = 0
    indices: Annotated[
        Path, "DIR", "where Faiss's files are kept, built once a version (default: %(default)s)"
    ] = Path(".meshfold/mesh")
    recall: Annotated[
        float,
        "SHARE",
        "recall that the probes are calibrated for; 0 for the measured recall of the snapshot's index",
    ] = 0.0
    seed: Annotated[int, "N", "of the k-means of Faiss's files (default: %(default)s)"] = 0
    threads: Annotated[int, "N", "of one operation (default: %(default)s)"] = 1
    workers: Annotated[
        int, "N", "batches at once, of each service behind the orchestrator (default: %(default)s)"
    ] = 1
    timeout_s: Annotated[float, "SECONDS", "for the answer of one service (default: %(default)g)"] = 5.0
    tower: Annotated[str, "ADDRESS", "where an orchestrator finds tower"] = ""
    retrieval: Annotated[str, "ADDRESS", "where an orchestrator finds retrieval"] = ""
    scoring: Annotated[str, "ADDRESS", "where an orchestrator finds scoring"] = ""

    def __post_init__(self) -> None:
        for name, low in (("threads", 1), ("workers", 1), ("candidates", 0), ("seed", 0)):
            if getattr(self, name) < low:
                raise InvalidConfig(f"{name} must be at least {low}, got {getattr(self, name)}")
        if not 0 <= self.recall <= 1:
            raise InvalidConfig(f"recall must be from 0 to 1, got {self.recall}")
        if not 0 < self.timeout_s < 86_400:
            raise InvalidConfig(f"timeout_s must be above 0 and below a day, got {self.timeout_s}")


# The settings of every service.
SETTINGS = tuple(f.name for f in fields(MeshConfig) if f.name not in BEHIND)


def add_flags(parser: argparse._ActionsContainer, names: Sequence[str]) -> None:
    """Adds the flags of fields."""
    hints = get_type_hints(MeshConfig, include_extras=True)
    defaults = MeshConfig()
    for name in names:
        kind, metavar, meaning = get_args(hints[name])
        named: dict[str, Any] = {"dest": _DEST + name, "default": getattr(defaults, name), "help": meaning}
        if kind is bool:
            parser.add_argument(_flag(name), action="store_true", **named)
        else:
            parser.add_argument(_flag(name), type=kind, metavar=metavar, **named)


def read_flags(args: argparse.Namespace) -> MeshConfig:
    """The settings of a parsed command line. Raises InvalidConfig."""
    given = vars(args)
    return MeshConfig(
        **{f.name: given[_DEST + f.name] for f in fields(MeshConfig) if _DEST + f.name in given}
    )


def flags_of(of: MeshConfig) -> list[str]:
    """The flags of settings, the inverse of read_flags."""
    flags = []
    for f in fields(of):
        value = getattr(of, f.name)
        if value is True:
            flags.append(_flag(f.name))
        elif value is not False:
            flags.append(f"{_flag(f.name)}={value}")
    return flags


def _flag(name: str) -> str:
    return f"--{name.removesuffix('_s')}"
