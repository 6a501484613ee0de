"""The server's settings: defaults < TOML file < environment < flags.

Every setting is a field of ServerConfig, and one mechanism derives its other names from there: the field
`limits.max_results` is `max_results` under `[limits]` in TOML, MESHFOLD_LIMITS_MAX_RESULTS in the environment
and --limits-max-results on the command line.
"""

from __future__ import annotations

import argparse
import re
import tomllib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints

from meshfold.model.errors import InvalidConfig
from meshfold.model.limits import Limits
from meshfold.model.schema import nearest
from meshfold.service.assignments import AssignmentsConfig
from meshfold.service.comparison import ComparisonConfig
from meshfold.service.migration import MigrationConfig
from meshfold.service.recording import RecordingConfig
from meshfold.service.redis_place import place_within
from meshfold.service.retention import RetentionConfig

ENV_PREFIX = "MESHFOLD_"
_ENV_FILE = "MESHFOLD_CONFIG"
# Environment variables that are no settings: the tests' MovieLens data, and the level of the native kernels.
_ENV_KERNELS = "MESHFOLD_KERNELS"
_ENV_OTHERS = ("MESHFOLD_MOVIELENS", _ENV_KERNELS, "MESHFOLD_KERNELS_LIBRARY")
# The levels of kernels/native/library.py, which is not imported here since torch would slow down every --help.
KERNELS = ("reference", "plain", "avx2", "avx512")
# The names in model/residence.py, which is not imported here for the same reason.
RESIDUALS = ("device", "host")
# Variables that Kubernetes sets in every container beside a Service named meshfold.
_ENV_FOREIGN = re.compile(
    r"MESHFOLD_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP)(_\w+)?)?)\Z"
)
_BOOLS = {"true": True, "false": False}
_HOST_PORT = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]/\s]+):\d{1,5}\Z")
_ADDRESS = re.compile(rf"unix:.+\Z|{_HOST_PORT.pattern}")
_MESH_ADDRESS = re.compile(rf"(dns:///)?{_HOST_PORT.pattern}|unix:[^,]+\Z")
# Flags that may be repeated; their values are joined by commas.
_REPEATED = ("mesh", "mapping", "adapter")


# The operators' address where there is none; NO_ADDRESS of service/ports.py.
_NONE = "none"
_LEAST = {
    "max_batch": 1,
    "queue_limit": 1,
    "queue_bytes": 1,
    "unread_bytes": 1,
    "max_message_bytes": 1,
    "metadata_bytes": 1,
}


@dataclass(frozen=True)
class ServerConfig:
    address: Annotated[str, "host:port to listen on; port 0 takes a free one"] = "127.0.0.1:50051"
    admin_address: Annotated[
        str, "host:port for operators and health checks; on loopback at the next port where it is empty"
    ] = ""
    mesh: Annotated[
        str, "host:port of the mesh to stand in front of, several with commas; none where it is empty"
    ] = ""
    mapping: Annotated[
        str, "TOML file that maps a protocol of callers, several with commas; none where it is empty"
    ] = ""
    adapter: Annotated[
        str, "import path of an adapter for callers' protocol, several with commas; none where it is empty"
    ] = ""
    metrics_address: Annotated[str, "host:port where Prometheus fetches metrics; none where it is empty"] = ""
    store: Annotated[Path, "folder of published snapshots"] = Path(".meshfold/store")
    state: Annotated[
        str,
        "folder, or place in Redis, of pinned versions and denied items; `.serving` in the store where it is empty",
    ] = ""
    copies: Annotated[Path, "folder of local copies of the states in Redis"] = Path(".meshfold/copies")
    hold_previous: Annotated[
        bool, "whether a replaced version stays in memory, so that a roll-back need not load it"
    ] = False
    poll_interval_s: Annotated[float, "seconds between looks at the store for newer snapshots"] = 1.0
    device: Annotated[str, "torch device of the snapshots; cuda:0,cuda:1 splits the items"] = "cpu"
    residuals: Annotated[
        str, "memory of the residuals of a GPU: `device`, or `host` to halve the vectors on the device"
    ] = "device"
    cuda_graphs: Annotated[int, "most CUDA graphs of a snapshot on a GPU; 0 for none"] = 32
    max_batch: Annotated[int, "most requests in one forward pass on a GPU"] = 32
    queue_limit: Annotated[int, "most requests that wait; more are refused at once"] = 128
    queue_bytes: Annotated[int, "most bytes of those requests"] = 64 << 20
    queue_s: Annotated[float, "longest expected wait in seconds; requests beyond it are refused at once"] = (
        0.5
    )
    timeout_s: Annotated[float, "time limit of a call without a deadline, in seconds"] = 10.0
    unread_bytes: Annotated[int, "most bytes of answers that callers have not read"] = 64 << 20
    max_message_bytes: Annotated[int, "most bytes of a request"] = 4 << 20
    metadata_bytes: Annotated[int, "most bytes of a call's metadata, as HTTP/2 counts them"] = 4 << 20
    connection_age_s: Annotated[float, "seconds after which a connection is replaced"] = 1800.0
    hydrate: Annotated[str, "TOML file of the sources of users; none where it is empty"] = ""
    shutdown_grace_s: Annotated[float, "time limit of requests in flight at a stop, in seconds"] = 10.0
    limits: Annotated[Limits, "limits of a request"] = field(default_factory=Limits)
    migration: Annotated[MigrationConfig, "in front of a mesh"] = field(default_factory=MigrationConfig)
    retention: Annotated[RetentionConfig, "of versions in the store"] = field(default_factory=RetentionConfig)
    recording: Annotated[RecordingConfig, "in front of a mesh"] = field(default_factory=RecordingConfig)
    comparison: Annotated[ComparisonConfig, "in front of a mesh"] = field(default_factory=ComparisonConfig)
    assignments: Annotated[AssignmentsConfig, "in front of a mesh"] = field(default_factory=AssignmentsConfig)

    def __post_init__(self) -> None:
        for name, wanted in (
            ("address", True),
            ("admin_address", self.admin_address not in ("", _NONE)),
        ):
            if wanted and not _ADDRESS.match(getattr(self, name)):
                raise InvalidConfig(
                    f"{name} must be host:port, [ipv6]:port or unix:path, such as 127.0.0.1:50051; "
                    f"got {getattr(self, name)!r}"
                )
        for address in self.mesh_addresses:
            if not _MESH_ADDRESS.match(address):
                raise InvalidConfig(
                    "mesh must be host:port, [ipv6]:port, dns:///name:port or unix:path, such as "
                    f"orchestrator:50051, or several with commas; got {address!r}"
                )
        if len(set(self.mesh_addresses)) < len(self.mesh_addresses):
            raise InvalidConfig(f"mesh must name each address once, got {self.mesh!r}")
        if self.metrics_address and not _HOST_PORT.match(self.metrics_address):
            raise InvalidConfig(
                f"metrics_address must be host:port or [ipv6]:port, such as 127.0.0.1:9464; "
                f"got {self.metrics_address!r}"
            )
        for name, least in _LEAST.items():
            if getattr(self, name) < least:
                raise InvalidConfig(f"{name} must be at least {least}, got {getattr(self, name)}")
        for name in ("max_message_bytes", "metadata_bytes"):
            if self.queue_bytes < getattr(self, name):
                raise InvalidConfig(
                    f"queue_bytes must be at least {name}, {getattr(self, name)}, so that each request"
                    f" finds room; got {self.queue_bytes}"
                )
        for name in ("queue_s", "timeout_s", "connection_age_s"):
            if not 0 < getattr(self, name) < 86_400:
                raise InvalidConfig(f"{name} must be above 0 and below a day, got {getattr(self, name)}")
        if self.residuals not in RESIDUALS:
            raise InvalidConfig(f"residuals must be {' or '.join(RESIDUALS)}, got {self.residuals!r}")
        if self.residuals == "host" and "," in self.device:
            raise InvalidConfig(
                f"residuals lie on the host for one device only, got {self.device}: leave --residuals out"
            )
        if self.cuda_graphs < 0:
            raise InvalidConfig(f"cuda_graphs must be at least 0, got {self.cuda_graphs}")
        if not 0 < self.poll_interval_s < 86_400:
            raise InvalidConfig(
                f"poll_interval_s must be above 0 and below a day, got {self.poll_interval_s}"
            )
        if not 0 <= self.shutdown_grace_s < 86_400:
            raise InvalidConfig(
                f"shutdown_grace_s must be at least 0 and below a day, got {self.shutdown_grace_s}"
            )

    def state_place(self, name: str) -> str:
        """The place of a named state: a file, or a place in Redis."""
        return place_within(self.state or str(self.store / ".serving"), name)

    @property
    def mesh_addresses(self) -> tuple[str, ...]:
        return tuple(self.mesh.split(",")) if self.mesh else ()


@dataclass(frozen=True)
class _Setting:
    """One setting, a leaf of ServerConfig: its path, type, meaning and default."""

    path: tuple[str, ...]
    kind: type[Any]
    meaning: str
    default: Any

    @property
    def key(self) -> str:
        return ".".join(self.path)

    @property
    def env(self) -> str:
        return ENV_PREFIX + "_".join(self.path).upper()

    @property
    def flag(self) -> str:
        return "--" + "-".join(self.path).replace("_", "-")


def _settings(config: Any, path: tuple[str, ...] = ()) -> Iterator[_Setting]:
    hints = get_type_hints(type(config), include_extras=True)
    for f in fields(config):
        kind, meaning = get_args(hints[f.name])
        value = getattr(config, f.name)
        if is_dataclass(kind):
            yield from _settings(value, (*path, f.name))
        else:
            yield _Setting((*path, f.name), kind, meaning, value)


SETTINGS = {s.key: s for s in _settings(ServerConfig())}
# Prefixes of the settings that only a server in front of a mesh has.
OF_A_FRONT = ("migration.", "recording.", "comparison.", "assignments.")


def add_flags(parser: argparse.ArgumentParser, leave_out: Collection[str] = ()) -> None:
    """Adds --config and a flag for each setting not in leave_out; the value of an absent flag is None."""
    parser.add_argument("--config", type=Path, metavar="FILE", help="TOML file of settings")
    groups: dict[str, argparse._ArgumentGroup] = {}
    for s in (s for key, s in SETTINGS.items() if key not in leave_out):
        title = "".join(s.path[:-1]) or "settings"
        if title not in groups:
            groups[title] = parser.add_argument_group(title)
        metavar = {int: "N", float: "NUMBER", bool: "true|false", Path: "FOLDER"}.get(
            s.kind, s.path[-1].upper()
        )
        if s.key.endswith("_s") and not s.key.endswith("_per_s"):
            metavar = "SECONDS"
        groups[title].add_argument(
            s.flag,
            dest=s.key,
            metavar=metavar,
            action="append" if s.key in _REPEATED else "store",
            help=f"{s.meaning} (default: {_shown(s.default)})",
        )


def read_config(args: argparse.Namespace, environ: Mapping[str, str]) -> ServerConfig:
    """The settings of a parsed command line. Raises InvalidConfig with the source of the wrong value."""
    values: dict[str, Any] = {}
    file = args.config or (Path(environ[_ENV_FILE]) if environ.get(_ENV_FILE) else None)
    if file is not None:
        values.update(_from_file(file))
    values.update(_from_environment(environ))
    for s in SETTINGS.values():
        text = getattr(args, s.key, None)
        if isinstance(text, list):
            text = ",".join(text)
        if text is not None:
            values[s.key] = _parse(s, text, s.flag)
    config: ServerConfig = _build(ServerConfig, values)
    return config


def check_kernels(environ: Mapping[str, str]) -> None:
    """Raises InvalidConfig where MESHFOLD_KERNELS is set to no level of kernels/native/library.py."""
    level = environ.get(_ENV_KERNELS, "")
    if level not in ("", *KERNELS):
        raise InvalidConfig(f"{_ENV_KERNELS} must be one of {', '.join(KERNELS)}, got {level!r}")


def _from_file(file: Path) -> dict[str, Any]:
    try:
        # "utf-8-sig" drops the byte order mark that some editors write.
        table = tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InvalidConfig(f"the settings file {file} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidConfig(f"{file} is not a TOML file: {error}") from None
    values = {}
    for key, value in _leaves(table):
        if key not in SETTINGS:
            raise InvalidConfig(f"{file}: unknown setting {key}{nearest(key, SETTINGS)}")
        s = SETTINGS[key]
        expected: tuple[type, ...] = {float: (int, float), Path: (str,)}.get(s.kind, (s.kind,))
        if not isinstance(value, expected) or isinstance(value, bool) != (s.kind is bool):
            raise InvalidConfig(f"{file}: {key} must be {_words(s.kind)}, got {value!r}")
        values[key] = s.kind(value)
    return values


def _leaves(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    by_env = {s.env: s for s in SETTINGS.values()}
    values = {}
    for name, text in sorted(environ.items()):
        if name in by_env:
            values[by_env[name].key] = _parse(by_env[name], text, name)
        elif (
            name.startswith(ENV_PREFIX)
            and name not in (_ENV_FILE, *_ENV_OTHERS)
            and not _ENV_FOREIGN.match(name)
        ):
            raise InvalidConfig(f"unknown setting {name} in the environment{nearest(name, by_env)}")
    return values


def _parse(setting: _Setting, text: str, source: str) -> Any:
    try:
        return _BOOLS[text] if setting.kind is bool else setting.kind(text)
    except (KeyError, ValueError):
        raise InvalidConfig(f"{source} must be {_words(setting.kind)}, got {text!r}") from None


def _shown(default: Any) -> str:
    return str(default).lower() if isinstance(default, bool) else str(default)


def _words(kind: type) -> str:
    return {int: "a whole number", float: "a number", bool: "true or false"}.get(kind, "a text")


def _build(kind: type[Any], values: Mapping[str, Any], prefix: str = "") -> Any:
    hints = get_type_hints(kind)
    given: dict[str, Any] = {}
    for f in fields(kind):
        key = prefix + f.name
        if is_dataclass(hints[f.name]):
            given[f.name] = _build(hints[f.name], values, f"{key}.")
        elif key in values:
            given[f.name] = values[key]
    return kind(**given)
