"""State shared by servers in Redis: a hash with its JSON and a stamp, which every write replaces.

A write compares the stamp in a script, which Redis runs atomically, so that no change is lost. Redis refuses a write
after its time limit, so that a Redis that hung does not carry out an abandoned write. A Redis that lost writes, because
it restarted empty or with an older dump, gets the latest state known to a server. A state of another lineage, begun by
another write to an empty Redis, takes precedence over a server's own.
"""

from __future__ import annotations

import json
import logging
import random
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic

from meshfold.model.errors import InvalidConfig, InvalidQuery, NotDurable
from meshfold.service.redis_place import redis_place
from meshfold.service.state_copy import COPIES, NOTHING, StateCopy, Written
from meshfold.service.state_kind import State, StateKind, Unreachable, Unsure

_log = logging.getLogger(__name__)

# Time limit of an answer of Redis and of a connection to it, in seconds.
ANSWER_S = 0.3
# Time limit of a change, in seconds, with its retries after other servers' changes.
CHANGE_S = 0.8
# Longest wait between attempts of a change, in seconds.
_PAUSE_S = 0.02
# Most bytes of the history in Redis; the oldest changes are dropped.
HISTORY_BYTES = 8 << 20

# KEYS: the hash. ARGV: a stamp whose state is known, most bytes of a state.
# Returns the time, stamp, lineage, size and state; no state where it is known or too long.
_READ = """
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local found = redis.call('HMGET', KEYS[1], 'stamp', 'lineage', 'generation')
local size = redis.call('HSTRLEN', KEYS[1], 'state')
local state = ''
if found[1] ~= ARGV[1] and size <= tonumber(ARGV[2]) then state = redis.call('HGET', KEYS[1], 'state') or '' end
return {string.format('%d', now_ms), redis.call('EXISTS', KEYS[1]), found[1] or '', found[2] or '',
        found[3] or '', size, state}
"""

# KEYS: the hash, the history. ARGV: the time limit; the expected stamp; the new stamp, lineage, generation and state;
# most bytes of the history, the number of new changes, and all known changes, newest first.
_WRITE = """
local time = redis.call('TIME')
if time[1] * 1000 + math.floor(time[2] / 1000) > tonumber(ARGV[1]) then return 'late' end
local found = redis.call('HGET', KEYS[1], 'stamp') or ''
if found == ARGV[3] then return 'written' end
if found ~= ARGV[2] then return 'changed' end
-- A script that fails undoes nothing, so that all that may fail comes before the first write.
local length = redis.pcall('LLEN', KEYS[2])
if type(length) ~= 'number' then return string.find(length.err, 'WRONGTYPE') and 'no history' or length end
local first = 8 + tonumber(ARGV[8])
local bytes = tonumber(redis.call('HGET', KEYS[1], 'history_bytes') or '') or 0
if not (bytes >= 0 and bytes < 1e15) then bytes = 0 end
if length == 0 then
  first = #ARGV
  bytes = 0
end
redis.call('HSET', KEYS[1], 'stamp', ARGV[3], 'lineage', ARGV[4], 'generation', ARGV[5], 'state', ARGV[6])
for i = first, 9, -1 do
  redis.call('LPUSH', KEYS[2], ARGV[i])
  bytes = bytes + #ARGV[i]
end
while bytes > tonumber(ARGV[7]) and redis.call('LLEN', KEYS[2]) > 1 do
  bytes = bytes - #redis.call('RPOP', KEYS[2])
end
redis.call('HSET', KEYS[1], 'history_bytes', string.format('%d', bytes))
return 'written'
"""


@dataclass(frozen=True)
class _Found:
    """The content of Redis. now_ms: by its clock. written: None where it is empty; its state is "" where already known.
    size: bytes of the state."""

    now_ms: int
    written: Written | None
    size: int
    found_s: float = field(default_factory=time.monotonic)

    def late_ms(self) -> int:
        """The time limit of a write sent now, by the clock of Redis."""
        return self.now_ms + int((time.monotonic() - self.found_s + ANSWER_S) * 1000)


class _Refused(Unreachable):
    """Redis answered that it refused the command."""


class RedisState(Generic[State]):
    """A Shared state in Redis. Keys: PREFIX:KIND and PREFIX:KIND:history."""

    def __init__(
        self,
        place: str,
        kind: StateKind[State],
        on_write: Callable[[State], None] = lambda _: None,
        copies: Path = COPIES,
    ) -> None:
        """Connects with the first read. Raises InvalidConfig where the place is invalid, or redis is not installed."""
        try:
            from redis import Redis
            from redis.backoff import NoBackoff
            from redis.exceptions import ConnectionError, RedisError, ResponseError, TimeoutError
            from redis.retry import Retry
        except ImportError as error:
            raise InvalidConfig(f"{error.name} is missing: pip install 'meshfold[redis]'") from None
        self._place = redis_place(place)
        self._kind = kind
        self._on_write = on_write
        self._failures = (RedisError, OSError)
        self._dropped, self._late, self._refused = ConnectionError, TimeoutError, ResponseError
        self._key = f"{self._place.prefix}:{kind.key}"
        self._client: Any = Redis(
            **self._place.options,
            socket_timeout=ANSWER_S,
            socket_connect_timeout=ANSWER_S,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
        )
        self._copy = StateCopy(copies, self._place.name, kind.key, kind.most_bytes)
        # The latest state known to this server, encoded and decoded.
        self._written: Written | None = None
        self._state: State | None = None
        self._is_seen = False
        # The stamp of content that cannot be decoded, and its error.
        self._damage: tuple[str, InvalidConfig] | None = None
        self._remember_copy()

    @property
    def name(self) -> str:
        return self._place.name

    @property
    def last(self) -> State | None:
        return self._state

    @property
    def is_seen(self) -> bool:
        return self._is_seen

    def read(self) -> State | None:
        found = self._found()
        if self._is_ahead(found):
            found = self._given_back(found)
        return self._followed(found)

    def change(self, change: Callable[[State | None], State]) -> State:
        end_s = time.monotonic() + CHANGE_S
        while True:
            found = self._found()
            if self._is_ahead(found):
                found = self._given_back(found)
            kept = self._followed(found)
            state = change(kept)
            if state is kept:
                return state
            before = self._written if found.written is not None else None
            written = self._encoded(state, before)
            outcome = self._write(before, written, state, found.late_ms())
            if outcome == "written":
                break
            if time.monotonic() > end_s:
                raise NotDurable(
                    f"the {self._kind.noun} in {self.name} could not be changed within {CHANGE_S:g} s"
                    " (Redis is slow, or others change them all the time); try again"
                )
            time.sleep(random.uniform(0, _PAUSE_S))
        self._remember(written, state)
        self._on_write(state)
        return state

    def keep(self, state: State) -> bool:
        return self._copy.write(self._encoded(state, self._written))

    def history(self, count: int) -> Sequence[Mapping[str, Any]]:
        try:
            lines = self._asked(lambda: self._client.lrange(f"{self._key}:history", 0, count - 1))
        except InvalidConfig as error:
            raise NotDurable(str(error)) from None
        return [entry for entry in map(_entry, lines) if entry is not None]

    def close(self) -> None:
        self._client.close()

    def _found(self) -> _Found:
        """The present content of Redis. Raises Unreachable, InvalidConfig."""
        known = "" if self._written is None else self._written.stamp
        if self._damage is not None:
            known = self._damage[0]
        answer = self._asked(lambda: self._client.eval(_READ, 1, self._key, known, self._kind.most_bytes))
        now_ms, exists, stamp, lineage, generation, size, state = answer
        if not exists:
            return _Found(int(now_ms), None, 0)
        try:
            written = Written(stamp.decode(), lineage.decode(), int(generation), state.decode())
        except ValueError as error:
            raise self._damaged(str(error)) from None
        if not written.stamp or not written.lineage:
            raise self._damaged("stamp and lineage are expected beside the state")
        return _Found(int(now_ms), written, size)

    def _is_ahead(self, found: _Found) -> bool:
        """Whether this server knows a later state than Redis, which then lost writes."""
        if self._written is None:
            return False
        if found.written is None:
            return True
        return (
            found.written.lineage == self._written.lineage
            and found.written.generation < self._written.generation
        )

    def _given_back(self, lost: _Found) -> _Found:
        """Writes the latest known state back; returns the content of Redis after it. Raises Unreachable,
        InvalidConfig."""
        known, state = self._written, self._state
        assert known is not None
        assert state is not None
        had = "no" if lost.written is None else f"generation {lost.written.generation} of the"
        try:
            outcome = self._write(lost.written, known, state, lost.late_ms())
        except NotDurable as error:
            raise Unreachable(str(error)) from None
        if outcome == "written":
            _log.warning(
                "%s held %s %s, as after a restart that lost them; generation %d is written back",
                *(self.name, had, self._kind.noun, known.generation),
            )
        # Where another server was faster, its state counts; else the next read tries again.
        found = self._found()
        if self._is_ahead(found):
            raise Unreachable(
                f"{self.name} has lost {self._kind.noun}, and they could not be written back yet"
            )
        return found

    def _followed(self, found: _Found) -> State | None:
        """Decodes the state and makes it the latest known. Raises InvalidConfig."""
        written = found.written
        if written is None:
            if not self._is_seen:
                self._is_seen = True
                self._copy.write(NOTHING)
            return None
        if self._written is not None and written.stamp == self._written.stamp:
            return self._state
        if self._damage is not None and self._damage[0] == written.stamp:
            raise self._damage[1]
        try:
            if found.size > self._kind.most_bytes:
                raise ValueError(f"they have {found.size} bytes, of {self._kind.most_bytes} that are allowed")
            state = self._kind.decode(json.loads(written.state))
        except (ValueError, InvalidQuery, RecursionError) as error:
            reason = "they are nested too deeply" if isinstance(error, RecursionError) else str(error)
            self._damage = written.stamp, self._damaged(reason)
            raise self._damage[1] from None
        if self._written is not None and written.lineage != self._written.lineage:
            _log.warning("the %s in %s were begun anew, and are followed", self._kind.noun, self.name)
        self._remember(written, state)
        return state

    def _write(self, before: Written | None, written: Written, state: State, late_ms: int) -> str:
        """Writes a state; returns "written", "changed" where another server wrote meanwhile, or "late". Raises
        InvalidConfig, Unsure, Unreachable where Redis refused it."""
        entries = self._kind.changes(state)
        kept = 0 if before is None else before.generation
        lines = [json.dumps({"generation": g, **change}, ensure_ascii=False) for g, change in entries]
        new = sum(generation > kept for generation, _ in entries)
        arguments = (
            *(late_ms, "" if before is None else before.stamp),
            *(written.stamp, written.lineage, written.generation, written.state),
            *(HISTORY_BYTES, new, *lines),
        )
        keys = (self._key, f"{self._key}:history")
        try:
            outcome: bytes = self._asked(lambda: self._client.eval(_WRITE, 2, *keys, *arguments))
        except _Refused:
            raise
        except Unreachable as error:
            return self._looked_up(written, late_ms, error)
        if outcome == b"no history":
            raise InvalidConfig(
                f"{self.name} holds no list of changes under {keys[1]!r}, and nothing was changed: remove that key, "
                "or use another prefix"
            )
        return outcome.decode()

    def _looked_up(self, written: Written, late_ms: int, error: Unreachable) -> str:
        """Reads the outcome of a write whose answer was lost. Raises Unsure."""
        try:
            while True:
                found = self._found()
                if found.written is not None and found.written.stamp == written.stamp:
                    return "written"
                if found.now_ms > late_ms:
                    return "changed"
                time.sleep(_PAUSE_S)
        except InvalidConfig:
            raise Unsure(f"it is not known whether the {self._kind.noun} were changed: {error}") from None

    def _asked(self, ask: Callable[[], Any]) -> Any:
        """Runs a command, once more where an idle connection was lost. Raises Unreachable, InvalidConfig."""
        try:
            try:
                return ask()
            except self._dropped:
                return ask()
        except self._refused as error:
            # The part after " script: " is a position in the script.
            text = self._place.hidden(str(error)).partition(" script: ")[0]
            # An error of the key's type stays until someone deletes the key; other errors may pass.
            if text.startswith("WRONGTYPE"):
                raise self._damaged(text) from None
            raise _Refused(f"Redis refused the {self._kind.noun} in {self.name}: {text}") from None
        except self._failures as error:
            reason = self._place.hidden(str(error)) or type(error).__name__
            raise Unreachable(f"the {self._kind.noun} in {self.name} cannot be reached: {reason}") from None

    def _encoded(self, state: State, before: Written | None) -> Written:
        """The next written state. Raises InvalidQuery where it is too large."""
        found = self._kind.encode(state)
        text = json.dumps(found, ensure_ascii=False)
        size = len(text.encode())
        if size > self._kind.most_bytes:
            raise InvalidQuery(
                self._kind.noun, f"would take {size} bytes in {self.name}, of {self._kind.most_bytes}"
            )
        generation: int = found["generation"]
        # A state whose count starts again gets a new lineage, so that it does not look like an older state.
        is_next = before is not None and generation > before.generation
        lineage = before.lineage if before is not None and is_next else secrets.token_hex(8)
        return Written(secrets.token_hex(16), lineage, generation, text)

    def _remember(self, written: Written, state: State) -> None:
        self._written, self._state, self._damage, self._is_seen = written, state, None, True
        self._copy.write(written)

    def _remember_copy(self) -> None:
        written = self._copy.read()
        if written is None or written == NOTHING:
            self._is_seen = written is not None
            return
        try:
            self._state = self._kind.decode(json.loads(written.state))
            self._written, self._is_seen = written, True
        except (ValueError, InvalidQuery, RecursionError) as error:
            _log.warning("the copy %s is left out: %s", self._copy.path, error)

    def _damaged(self, reason: str) -> InvalidConfig:
        return InvalidConfig(
            f"{self.name} holds no {self._kind.noun} under {self._key!r}: {reason}; {self._kind.remedy}"
        )


def _entry(line: bytes) -> Mapping[str, Any] | None:
    """The change of a line of the history; None for a line of unknown form."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and type(found.get("generation")) is int else None
