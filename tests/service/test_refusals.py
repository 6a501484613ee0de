from __future__ import annotations

import asyncio
import logging

import grpc
import pytest

from meshfold.service import refusals as module
from meshfold.service.refusals import Refusals

CODE = grpc.StatusCode


def test_the_first_is_told_at_once_and_later_ones_together(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LOG_S", 0.05)
    caplog.set_level(logging.INFO)
    refusals = Refusals()

    async def many() -> None:
        for _ in range(1000):
            refusals.note(CODE.RESOURCE_EXHAUSTED, "128 requests wait already")
        refusals.note(CODE.INVALID_ARGUMENT, "")
        await asyncio.sleep(0.3)

    asyncio.run(many())
    assert [record.message for record in caplog.records] == [
        "calls refused: RESOURCE_EXHAUSTED=1: 128 requests wait already",
        "calls refused: RESOURCE_EXHAUSTED=999 INVALID_ARGUMENT=1 within_s=0.05: 128 requests wait already",
    ]
    assert refusals.counts == {"RESOURCE_EXHAUSTED": 1000, "INVALID_ARGUMENT": 1}


def test_a_quiet_time_begins_again(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LOG_S", 0.01)
    caplog.set_level(logging.INFO)
    refusals = Refusals()

    async def two() -> None:
        refusals.note(CODE.NOT_FOUND, "")
        await asyncio.sleep(0.1)
        refusals.note(CODE.NOT_FOUND, "")

    asyncio.run(two())
    assert [record.message for record in caplog.records] == ["calls refused: NOT_FOUND=1"] * 2
