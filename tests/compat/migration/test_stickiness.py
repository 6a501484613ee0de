from __future__ import annotations

from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from meshfold.compat.migration.stickiness import chosen, shadowed
from meshfold.compat.migration.wire_scan import Scanned, scan
from meshfold.protos.mesh.v1 import orchestrator_pb2 as pb
from tests.compat.migration.conftest import request

PERCENT = st.floats(0, 100)
# Of the first hundred users on feed, those whom 5 per cent take.
PLACES = [18, 19, 30, 78, 79, 85]
# And of the first hundred strings "u1", "u2", ...
KEY_PLACES = [3, 10, 16, 19, 43, 66, 68, 80, 87]
# Of the users on feed, the first ten whom a quarter of shadows takes.
SHADOWED = [2, 7, 11, 18, 21, 23, 25, 28, 34, 42]
USERS = st.integers(1, (1 << 64) - 1)
SURFACES = st.text(max_size=12)


def of_key(
    percent: float, surface: str, user_key: str, request_id: bytes = b"", message: bytes = b""
) -> bool:
    return chosen(percent, surface, Scanned(surface, 0, request_id, user_key.encode()), message)


def of_user(
    percent: float, surface: str, user_id: int, request_id: bytes = b"", message: bytes = b""
) -> bool:
    return chosen(percent, surface, Scanned(surface, user_id, request_id), message)


@settings(deadline=None)
@given(USERS, SURFACES, PERCENT, st.binary(max_size=5), st.binary(max_size=5))
def test_a_user_stays_on_one_side_whatever_else_a_request_says(
    user_id: int, surface: str, percent: float, request_id: bytes, message: bytes
) -> None:
    assert of_user(percent, surface, user_id, request_id, message) == of_user(percent, surface, user_id)


@settings(deadline=None)
@given(USERS, SURFACES, PERCENT, PERCENT)
def test_raising_the_percentage_only_ever_moves_users_over(
    user_id: int, surface: str, one: float, other: float
) -> None:
    low, high = sorted((one, other))
    assert of_user(high, surface, user_id) >= of_user(low, surface, user_id)


@settings(deadline=None)
@given(USERS, SURFACES)
def test_none_at_0_and_all_at_100(user_id: int, surface: str) -> None:
    assert not of_user(0, surface, user_id)
    assert of_user(100, surface, user_id)


def test_the_share_of_users_is_the_percentage() -> None:
    for percent in (1, 5, 50, 99):
        share = sum(of_user(percent, "feed", user_id) for user_id in range(1, 20_001)) / 200
        # Five standard deviations of a binomial count.
        assert abs(share - percent) < 5 * (percent * (100 - percent) / 20_000) ** 0.5


def test_surfaces_draw_different_users() -> None:
    feed, video = ({u for u in range(1, 2001) if of_user(20, surface, u)} for surface in ("feed", "video"))
    assert len(feed & video) / len(feed) < 0.35


def test_places_are_these_for_ever() -> None:
    """Another hash would move every user of a running canary."""
    assert [u for u in range(1, 101) if of_user(5, "feed", u)] == PLACES


KEYS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)


@settings(deadline=None)
@given(KEYS, SURFACES, PERCENT, PERCENT, st.binary(max_size=5), st.binary(max_size=5))
def test_a_user_whose_id_is_a_string_stays_too(
    key: str, surface: str, one: float, other: float, request_id: bytes, message: bytes
) -> None:
    low, high = sorted((one, other))
    assert of_key(low, surface, key, request_id, message) == of_key(low, surface, key)
    assert of_key(high, surface, key) >= of_key(low, surface, key)
    assert not of_key(0, surface, key)
    assert of_key(100, surface, key)


def test_strings_are_drawn_evenly_and_for_ever() -> None:
    for percent in (1, 5, 50, 99):
        share = sum(of_key(percent, "feed", f"{number:032x}") for number in range(20_000)) / 200
        assert abs(share - percent) < 5 * (percent * (100 - percent) / 20_000) ** 0.5
    assert [u for u in range(1, 101) if of_key(5, "feed", f"u{u}")] == KEY_PLACES


def test_an_integer_and_a_string_are_two_users() -> None:
    likes: list[Callable[[int], str]] = [
        lambda number: str(number),
        lambda number: number.to_bytes(8, "big").decode("latin-1"),
        lambda number: "user" + number.to_bytes(8, "big").decode("latin-1"),
        lambda number: f"key{number}",
        lambda number: f"{number:016x}",
    ]
    numbers = range(1, 201)
    sides = [of_user(50, "feed", number) for number in numbers]
    for like in likes:
        assert 50 < sum(a == of_key(50, "feed", like(n)) for a, n in zip(sides, numbers, strict=True)) < 150


def test_an_integer_goes_before_a_string_where_a_request_has_both() -> None:
    for number in range(1, 50):
        both = Scanned("feed", number, b"", b"AE22")
        assert chosen(50, "feed", both, b"") == of_user(50, "feed", number)


def test_the_user_of_a_message_is_told_by_either_id() -> None:
    for key in ("AE22", "é", "0"):
        message = pb.RetrieveRequest(surface="shop", user={"user_key": key}).SerializeToString()
        assert chosen(50, "shop", scan(message), message) == of_key(50, "shop", key)


@settings(deadline=None)
@given(st.text(min_size=1, max_size=9), PERCENT)
def test_without_a_user_a_request_stands_by_its_request_id(request_id: str, percent: float) -> None:
    sides = set()
    for results in (1, 2):
        message = request(0, request_id=request_id, max_results=results)
        sides.add(chosen(percent, "shop", scan(message), message))
    assert len(sides) == 1


def test_without_either_it_stands_by_its_bytes() -> None:
    messages = [request(0, max_results=results) for results in range(1, 200)]
    assert 20 < sum(chosen(50, "shop", scan(m), m) for m in messages) < 180
    assert 20 < sum(chosen(50, "shop", None, m) for m in messages) < 180


def test_who_is_shadowed_is_drawn_on_either_side_alike_and_for_ever() -> None:
    users = range(1, 2001)
    with_shadow = [u for u in users if shadowed(0.25, "feed", Scanned("feed", u, b""), b"")]
    assert with_shadow[:10] == SHADOWED
    for side in (True, False):
        of_side = [u for u in users if of_user(50, "feed", u) is side]
        share = sum(u in set(with_shadow) for u in of_side) / len(of_side)
        assert abs(share - 0.25) < 5 * (0.25 * 0.75 / len(of_side)) ** 0.5
    assert not any(shadowed(0.0, "feed", Scanned("feed", u, b""), b"") for u in users)
    assert all(shadowed(1.0, "feed", Scanned("feed", u, b""), b"") for u in users)
