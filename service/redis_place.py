"""A place in Redis, parsed from the URL of a setting."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from meshfold.model.errors import InvalidConfig

SCHEMES = ("redis://", "rediss://", "unix://")
FORMS = "redis://HOST:6379/0/PREFIX, rediss://HOST:6379/0/PREFIX or unix:///PATH?db=0&prefix=PREFIX"
_PREFIX = "meshfold"
_MOST_PREFIX = 200
# TLS options of rediss:// URLs, by redis-py's names.
_TLS = ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile")
_PATH = re.compile(r"(?:/(\d{1,5}))?(?:/(.+))?/?\Z")


def is_redis(place: str) -> bool:
    return place.startswith(SCHEMES)


def place_within(state: str, name: str) -> str:
    """The place of a named state: a file in the folder; a place in Redis unchanged, since its keys have the names."""
    return state if is_redis(state) else str(Path(state) / f"{name}.json")


@dataclass(frozen=True)
class RedisPlace:
    """A place in Redis.

    name: the place without a password, for messages and logs. prefix: prefix of all keys. options: arguments of
    redis.Redis. secrets: texts that no message may contain.
    """

    name: str
    prefix: str
    options: Mapping[str, Any] = field(repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)

    def hidden(self, text: str) -> str:
        """The text on one line, with secrets replaced."""
        for secret in self.secrets:
            text = text.replace(secret, "***")
        return " ".join(text.split())


def redis_place(url: str) -> RedisPlace:
    """Parses a URL. Raises InvalidConfig, whose message omits the URL since it may contain a password."""
    try:
        parts = urlsplit(url)
        query = {
            name: values[0]
            for name, values in parse_qs(parts.query, strict_parsing=bool(parts.query)).items()
        }
        return _unix(parts, query) if parts.scheme == "unix" else _tcp(parts, query)
    except ValueError as error:
        raise InvalidConfig(f"a place in Redis must be {FORMS}: {error}") from None


def _tcp(parts: SplitResult, query: dict[str, str]) -> RedisPlace:
    found = _PATH.match(parts.path)
    if not parts.hostname or not found:
        raise ValueError("after the host comes the number of the database, then the prefix")
    port = parts.port or 6379
    db = int(found[1] or query.pop("db", "0"))
    prefix = _checked_prefix(unquote(found[2] or query.pop("prefix", _PREFIX)))
    options: dict[str, Any] = {"host": parts.hostname, "port": port, "db": db}
    if parts.scheme == "rediss":
        options["ssl"] = True
        options |= {name: query.pop(name) for name in _TLS if name in query}
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return _place(f"{parts.scheme}://{host}:{port}/{db}/{prefix}", prefix, options, parts, query)


def _unix(parts: SplitResult, query: dict[str, str]) -> RedisPlace:
    path = unquote(parts.path)
    if not path.strip("/"):
        raise ValueError("the path of the socket is missing")
    db, prefix = int(query.pop("db", "0")), _checked_prefix(query.pop("prefix", _PREFIX))
    options: dict[str, Any] = {"unix_socket_path": path, "db": db}
    return _place(f"unix://{path}?db={db}&prefix={prefix}", prefix, options, parts, query)


def _place(
    name: str, prefix: str, options: dict[str, Any], parts: SplitResult, left: dict[str, str]
) -> RedisPlace:
    if left or parts.fragment:
        raise ValueError(f"unknown options {', '.join(sorted(left)) or 'after #'}")
    secrets: set[str] = set()
    if parts.password:
        options["password"] = unquote(parts.password)
        secrets = {parts.password, unquote(parts.password)}
    if parts.username:
        options["username"] = unquote(parts.username)
    return RedisPlace(name, prefix, options, tuple(sorted(secrets, key=len, reverse=True)))


def _checked_prefix(prefix: str) -> str:
    if not (0 < len(prefix) <= _MOST_PREFIX and prefix.isprintable()):
        raise ValueError(f"the prefix must be 1 to {_MOST_PREFIX} printable characters")
    return prefix
