"""A state in a real Redis: shared, lost, older than what is known, slow, refused."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from meshfold.model.errors import InvalidConfig, InvalidQuery, NotDurable
from meshfold.service import state_redis as module
from meshfold.service.state import begin
from meshfold.service.state_kind import Unreachable, Unsure
from meshfold.service.state_redis import RedisState
from tests.service.shared_redis import NAMES, FailingRedis, Names, adds, shared_redis

__all__ = ["shared_redis"]

Make = Callable[..., RedisState[Names]]


@pytest.fixture
def make(shared_redis: FailingRedis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """(machine, on_write) -> a state of a server on that machine, which has copies of its own.

    A busy machine is no Redis that hangs.
    """
    monkeypatch.setattr(module, "ANSWER_S", 5.0)
    monkeypatch.setattr(module, "CHANGE_S", 20.0)
    made: list[RedisState[Names]] = []

    def make(machine: str = "a", on_write: Callable[[Names], None] = lambda _: None) -> RedisState[Names]:
        made.append(RedisState(shared_redis.url(), NAMES, on_write, tmp_path / machine))
        return made[-1]

    yield make
    for state in made:
        state.close()


def names(state: RedisState[Names]) -> str:
    found = state.read()
    return "none" if found is None else f"{found.generation} {' '.join(found.names)}"


def test_what_one_writes_others_read(make: Make, shared_redis: FailingRedis) -> None:
    written: list[Names] = []
    one, other = make("a", written.append), make("b")
    assert (one.read(), one.last) == (None, None)
    assert one.change(adds("x")) == Names(1, ("x",))
    assert names(other) == "1 x"
    assert other.read() is other.read() is other.last
    other.change(adds("y"))
    assert names(one) == "2 x y"
    assert written == [Names(1, ("x",))]
    assert one.history(10) == [{"generation": 2, "name": "y"}, {"generation": 1, "name": "x"}]
    assert one.name == f"redis://{shared_redis.address}/0/fleet"
    assert {key.decode() for key in shared_redis.client.scan_iter()} == {
        "fleet:known-names",
        "fleet:known-names:history",
    }


def test_writers_at_once_lose_no_change(make: Make) -> None:
    states = [make(machine) for machine in "abcd"]

    def write(state: RedisState[Names]) -> None:
        for _ in range(15):
            state.change(lambda kept: Names((kept or Names()).generation + 1, ("x",)))

    threads = [threading.Thread(target=write, args=(state,)) for state in states]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {names(state) for state in states} == {"60 x"}
    assert [entry["generation"] for entry in states[0].history(100)] == list(range(60, 0, -1))


def test_a_change_that_changes_nothing_writes_nothing(make: Make, shared_redis: FailingRedis) -> None:
    one = make()
    one.change(adds("x"))
    before = shared_redis.client.hgetall("fleet:known-names")
    assert one.change(lambda kept: kept or Names()) is one.last
    assert shared_redis.client.hgetall("fleet:known-names") == before


def test_a_state_that_is_too_large_and_a_change_that_fails_change_nothing(make: Make) -> None:
    one = make()
    one.change(adds("x"))
    with pytest.raises(InvalidQuery, match=r"known names: would take .* bytes in redis://.*, of 2000"):
        one.change(adds("y" * 2000))
    with pytest.raises(ZeroDivisionError):
        one.change(lambda _: Names(1 // 0))
    assert names(one) == "1 x"


def test_the_history_is_bounded_by_bytes(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HISTORY_BYTES", 100)
    one = make()
    for i in range(10):
        one.change(adds(str(i)))
    assert [entry["name"] for entry in one.history(100)] == ["9", "8", "7"]
    assert [entry["name"] for entry in one.history(2)] == ["9", "8"]


def test_a_redis_that_is_gone_leaves_what_is_known(make: Make, shared_redis: FailingRedis) -> None:
    one = make()
    one.change(adds("x"))
    shared_redis.kill()
    with pytest.raises(Unreachable, match=r"the known names in redis://127.* cannot be reached: .*refused"):
        one.read()
    with pytest.raises(Unreachable):
        one.change(adds("y"))
    with pytest.raises(NotDurable, match="cannot be reached"):
        one.history(5)
    assert one.last == Names(1, ("x",))


@pytest.mark.parametrize("is_dumped", [False, True])
def test_a_redis_that_lost_writes_gets_them_back(
    make: Make, shared_redis: FailingRedis, is_dumped: bool, caplog: pytest.LogCaptureFixture
) -> None:
    one, other = make("a"), make("b")
    one.change(adds("x"))
    if is_dumped:
        shared_redis.dump()
    one.change(adds("y"))
    assert names(other) == "2 x y"
    one.change(adds("z"))
    shared_redis.kill()
    shared_redis.start()
    # Neither order may lose what the first knows.
    assert names(other) == "2 x y"
    assert names(one) == names(other) == "3 x y z"
    held = "generation 1 of the" if is_dumped else "no"
    assert (
        f"held {held} known names, as after a restart that lost them; generation 2 is written" in caplog.text
    )
    assert [entry["name"] for entry in one.history(9)] == ["z", "y", "x"]


def test_a_change_in_a_redis_that_lost_writes_is_one_of_the_latest_state(
    make: Make, shared_redis: FailingRedis
) -> None:
    one, other = make("a"), make("b")
    one.change(adds("x"))
    one.change(adds("y"))
    shared_redis.client.flushall()
    assert one.change(adds("z")).names == ("x", "y", "z")
    assert names(other) == "3 x y z"


def test_a_server_that_starts_knows_the_last_state_of_its_machine(
    make: Make, shared_redis: FailingRedis, caplog: pytest.LogCaptureFixture
) -> None:
    make("a").change(adds("x"))
    shared_redis.kill()
    last, trouble = begin(make("a"), "nothing is known")
    assert last == Names(1, ("x",))
    assert "cannot be reached" in trouble
    assert "the last state that this machine saw is in effect" in caplog.text
    assert begin(make("b"), "nothing is known")[0] is None
    assert "cannot be reached: Error 111" in caplog.text
    assert "; nothing is known" in caplog.text
    assert not make("b").is_seen
    shared_redis.start()
    new = make("b")
    assert begin(new, "") == (None, "")
    assert new.is_seen
    # That there was nothing is known, too.
    assert (make("b").is_seen, make("b").last) == (True, None)
    assert begin(make("a"), "") == (last, "")
    assert begin(make("b"), "") == (last, "")


def test_what_was_begun_anew_is_followed_and_an_old_copy_is_not_written_over_it(
    make: Make, shared_redis: FailingRedis, caplog: pytest.LogCaptureFixture
) -> None:
    old = make("a")
    for name in "xyz":
        old.change(adds(name))
    shared_redis.client.flushall()
    make("b").change(adds("new"))
    assert names(make("a")) == "1 new"
    assert names(old) == "1 new"
    assert "the known names in redis://" in caplog.text
    assert "were begun anew, and are followed" in caplog.text


def test_a_redis_that_hangs_is_given_up_and_writes_nothing_later(
    make: Make, shared_redis: FailingRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ANSWER_S", 0.3)
    one = make()
    one.change(adds("x"))
    shared_redis.hang()
    with pytest.raises(Unreachable, match="Timeout"):
        one.read()
    shared_redis.go_on()

    def hangs(kept: Names | None) -> Names:
        shared_redis.hang()
        return adds("y")(kept)

    with pytest.raises(Unsure, match="it is not known whether the known names were changed: .*Timeout"):
        one.change(hangs)
    shared_redis.go_on()
    # The write was sent, and comes too late.
    assert names(one) == names(make("b")) == "1 x"
    assert one.change(adds("z")).names == ("x", "z")


def test_a_write_whose_answer_is_lost_is_known(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    one = make()
    asked = one._client.eval

    def lost(script: str, *arguments: object) -> object:
        answer = asked(script, *arguments)
        if script is module._WRITE:
            raise one._late("no answer came")
        return answer

    monkeypatch.setattr(one._client, "eval", lost)
    assert one.change(adds("x")) == Names(1, ("x",))
    assert one.change(adds("y")) == Names(2, ("x", "y"))
    assert names(make("b")) == "2 x y"


def test_a_connection_that_was_closed_while_idle_is_no_failure(
    make: Make, shared_redis: FailingRedis
) -> None:
    one = make()
    for name in "xy":
        one.change(adds(name))
        shared_redis.client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    assert names(one) == "2 x y"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("text", "WRONGTYPE"),
        ({"other": "1"}, "stamp and lineage|invalid literal"),
        ({"stamp": "s", "lineage": "l", "generation": "1", "state": "{"}, "Expecting property name"),
        (
            {"stamp": "s", "lineage": "l", "generation": "1", "state": "[]"},
            "an object of format 1 is expected",
        ),
        ({"stamp": "s", "lineage": "l", "generation": "1", "state": b"\xff"}, "can't decode byte"),
        (
            {"stamp": "s", "lineage": "l", "generation": "1", "state": "[" * 1900},
            "nested too deeply|Expecting",
        ),
        (
            {"stamp": "s", "lineage": "l", "generation": "1", "state": "x" * 2001},
            "they have 2001 bytes, of 2000",
        ),
    ],
)
def test_what_is_no_state_is_told_with_the_remedy_and_stays(
    make: Make, shared_redis: FailingRedis, content: str | dict[str, str | bytes], said: str
) -> None:
    if isinstance(content, str):
        shared_redis.client.set("fleet:known-names", content)
    else:
        shared_redis.client.hset("fleet:known-names", mapping=content)
    one = make()
    for _ in range(2):
        with pytest.raises(
            InvalidConfig, match=f"holds no known names under 'fleet:known-names': .*({said})"
        ) as caught:
            one.read()
        assert "put back a copy, or remove it to know none" in str(caught.value)
        assert not isinstance(caught.value, Unreachable)
    with pytest.raises(InvalidConfig):
        one.change(adds("x"))
    shared_redis.client.delete("fleet:known-names")
    assert one.change(adds("x")) == Names(1, ("x",))


def test_a_change_whose_history_cannot_be_kept_changes_nothing(
    make: Make, shared_redis: FailingRedis
) -> None:
    one, history = make(), "fleet:known-names:history"
    one.change(adds("x"))
    shared_redis.client.delete(history)
    shared_redis.client.set(history, "text")
    with pytest.raises(InvalidConfig, match=f"holds no list of changes under '{history}'.*remove that key"):
        one.change(adds("y"))
    assert names(make("b")) == "1 x"
    shared_redis.client.delete(history)
    # A count that is none begins again.
    shared_redis.client.hset("fleet:known-names", "history_bytes", "many")
    one.change(adds("y"))
    assert [entry["name"] for entry in one.history(10)] == ["y", "x"]


def test_a_redis_that_refuses_says_why_and_no_message_holds_the_password(
    make: Make, shared_redis: FailingRedis, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    one = make()
    one.change(adds("x"))
    shared_redis.client.config_set("maxmemory", "1")
    with pytest.raises(Unreachable, match="Redis refused the known names in .*memory > .maxmemory.\\.$"):
        one.change(adds("y"))
    shared_redis.client.config_set("maxmemory", "0")
    shared_redis.client.config_set("requirepass", "right-secret")
    url = shared_redis.url().replace("://", "://:wrong-secret@")
    wrong = RedisState(url, NAMES, copies=tmp_path / "c")
    with pytest.raises(Unreachable, match="cannot be reached: .*invalid username-password") as caught:
        wrong.read()
    right = RedisState(url.replace("wrong", "right"), NAMES, copies=tmp_path / "c")
    assert names(right) == "1 x"
    for text in (
        str(caught.value),
        right.name,
        caplog.text,
        *(f.read_text() for f in (tmp_path / "c").iterdir()),
    ):
        assert "secret" not in text
    shared_redis.client.close()
    shared_redis.client = None
    shared_redis.client = type(one._client)(port=shared_redis.port, password="right-secret")
    shared_redis.client.config_set("requirepass", "")
    for state in (wrong, right):
        state.close()


def test_a_copy_that_cannot_be_written_or_read_holds_nothing_up(
    make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a").write_text("in the way")
    one = make("a")
    for name in "xy":
        one.change(adds(name))
    assert caplog.text.count("cannot be written, so that a restart without redis://") == 1
    two = make("b")
    two.read()
    (copy,) = (tmp_path / "b").iterdir()
    content = json.loads(copy.read_text())
    for damaged in (
        "",
        "[]",
        json.dumps({**content, "format": 2}),
        json.dumps({**content, "place": "redis://elsewhere:6379/0/fleet"}),
        json.dumps({**content, "generation": "2"}),
        json.dumps({**content, "state": "{}"}),
        "[" * 100_000,
    ):
        caplog.clear()
        copy.write_text(damaged)
        assert make("b").last is None
        assert "left out" in caplog.text
    assert names(make("b")) == "2 x y"
    assert json.loads(copy.read_text()) == content
