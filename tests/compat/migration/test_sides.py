from __future__ import annotations

import time

import pytest

from meshfold.compat.migration.sides import Bounded, Side, Unattended, passed_back, passed_on


@pytest.mark.parametrize("passed", [passed_on, passed_back])
def test_what_belongs_to_a_connection_is_not_passed(passed: object) -> None:
    assert callable(passed)
    kept = (
        ("authorization", "x"),
        ("traceparent", "00-1"),
        ("x-bin", b"\x00"),
        ("x-twice", "1"),
        ("x-twice", "2"),
    )
    dropped = (
        ("user-agent", "some"),
        ("te", "trailers"),
        ("grpc-timeout", "1S"),
        ("grpc-accept-encoding", "gzip"),
        ("content-type", "application/grpc"),
        (":authority", "mesh"),
        ("connection", "close"),
    )
    assert passed((*kept, *dropped)) == kept


def test_the_details_of_a_status_come_back() -> None:
    details = (("grpc-status-details-bin", b"\x08"),)
    assert passed_back(details) == details
    assert passed_on(details) == ()
    assert passed_back(None) == ()


def test_a_bounded_call_has_the_shorter_of_two_times() -> None:
    now_s = time.monotonic()
    assert 4 < Bounded(Unattended(), now_s + 5).time_remaining() <= 5
    assert Bounded(Bounded(Unattended(), now_s + 5), now_s + 100).time_remaining() <= 5


def test_sides_have_an_other() -> None:
    assert [side.other for side in Side] == [Side.MODEL, Side.MESH]
