"""Settings of hydration: a TOML file with one table, [hydrate.SURFACE], for each surface."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from meshfold.model.errors import InvalidConfig
from meshfold.model.schema import nearest

MISSES = ("empty", "error")
SOURCES = ("file", "redis", "function")
ALL = "*"
_TABLE = "hydrate"


@dataclass(frozen=True)
class Settings:
    """Settings of one surface.

    file: a Parquet file. redis: a URL. function: MODULE:NAME. Exactly one of the three is set.
    key: key of a user in Redis, with {user} for the id.
    miss: handling of a request whose lookup fails or finds no user: `empty` answers it unchanged; `error` refuses it,
    unless it has a history of its own.
    history: whether histories are filled in. features: names of features to fill in; * for all.
    replace: whether data in the request is overwritten.
    deadline_s: time limit of a lookup. concurrency: most lookups at once.
    max_history: most item ids of a history; the newest are kept. max_bytes: most bytes of a value in Redis.
    threads: threads of a function that is not `async def`. poll_interval_s: seconds between checks of the file.
    folder: folder of the file's mapped copy; the system's temporary folder where it is empty.
    """

    file: str = ""
    redis: str = ""
    function: str = ""
    key: str = "meshfold:user:{user}"
    miss: str = "empty"
    history: bool = True
    features: tuple[str, ...] = (ALL,)
    replace: bool = False
    deadline_s: float = 0.05
    concurrency: int = 256
    max_history: int = 1000
    max_bytes: int = 1 << 20
    threads: int = 4
    poll_interval_s: float = 1.0
    folder: str = ""

    def takes(self, feature: str) -> bool:
        """Whether a feature is filled in."""
        return ALL in self.features or feature in self.features


def read_settings(path: Path) -> dict[str, Settings]:
    """Reads the settings of each surface. Paths in the file are relative to its folder. Raises InvalidConfig."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InvalidConfig(f"the hydration file {path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidConfig(f"{path} is not a TOML file: {error}") from None
    for name in table:
        if name != _TABLE:
            raise InvalidConfig(f"{path}: unknown table {name!r}; expected [hydrate.SURFACE]")
    surfaces = table.get(_TABLE)
    if not isinstance(surfaces, dict) or not surfaces:
        raise InvalidConfig(f"{path}: no surface is set; write a table [hydrate.SURFACE] for each")
    return {name: _settings(path, name, values) for name, values in surfaces.items()}


def _settings(path: Path, surface: str, values: Any) -> Settings:
    where = f"{path}: {_TABLE}.{surface}"
    if not isinstance(values, dict):
        raise InvalidConfig(f"{where} must be a table, got {values!r}")
    defaults = {f.name: f.default for f in fields(Settings)}
    given = {}
    for name, value in values.items():
        if name not in defaults:
            raise InvalidConfig(f"{where}: unknown setting {name}{nearest(name, defaults)}")
        given[name] = _value(f"{where}.{name}", value, defaults[name])
    settings = Settings(**_placed(given, path.parent))
    _check(where, settings)
    return settings


def _value(where: str, value: Any, default: Any) -> Any:
    if isinstance(default, tuple):
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise InvalidConfig(f"{where} must be a list of texts, got {value!r}")
        return tuple(value)
    if isinstance(default, float) and type(value) is int:
        return float(value)
    if type(value) is not type(default):
        words = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
        raise InvalidConfig(f"{where} must be {words[type(default)]}, got {value!r}")
    return value


def _placed(given: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    paths = {name: str(folder / given[name]) for name in ("file", "folder") if given.get(name)}
    return {**given, **paths}


def _check(where: str, settings: Settings) -> None:
    chosen = [name for name in SOURCES if getattr(settings, name)]
    if len(chosen) != 1:
        raise InvalidConfig(
            f"{where}: set exactly one of {', '.join(SOURCES)}; {' and '.join(chosen) or 'none'} is set"
        )
    if settings.miss not in MISSES:
        raise InvalidConfig(f"{where}.miss must be {' or '.join(MISSES)}, got {settings.miss!r}")
    if not settings.history and not settings.features:
        raise InvalidConfig(f"{where}: history is false and features is empty, so that nothing is filled in")
    for name in ("deadline_s", "poll_interval_s"):
        if not 0 < getattr(settings, name) < 86_400:
            raise InvalidConfig(
                f"{where}.{name} must be above 0 and below a day, got {getattr(settings, name)}"
            )
    for name in ("concurrency", "max_history", "max_bytes", "threads"):
        if getattr(settings, name) < 1:
            raise InvalidConfig(f"{where}.{name} must be at least 1, got {getattr(settings, name)}")
    if settings.key.count("{user}") != 1:
        raise InvalidConfig(f"{where}.key must hold {{user}} once, got {settings.key!r}")
