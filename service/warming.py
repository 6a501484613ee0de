"""Warms a snapshot before it is active: with callers' latest requests, or else with made ones."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from meshfold.model.errors import MeshfoldError, SnapshotRefused
from meshfold.model.limits import Limits
from meshfold.model.types import Ids, Query
from meshfold.service.runner import Runner
from meshfold.service.work import Work, run_alone

_log = logging.getLogger(__name__)

# Made queries: their number, items of a history, results.
_MADE, _HISTORY, _RESULTS = 8, 10, 100

# The requests of a surface: (adapter, message) of each.
Requests = Callable[[str], Sequence[tuple[Any, bytes]]]


def warm(runner: Runner, requests: Sequence[tuple[Any, bytes]], limits: Limits) -> None:
    """Answers the requests and drops the answers.

    Raises SnapshotRefused where a request fails with an internal error. Requests that the snapshot refuses as invalid,
    such as those whose filters name fields that it lacks, are counted in the log.
    """
    refused, reason = 0, ""
    for adapter, message in requests:
        try:
            run_alone(Work(adapter, runner, limits), message)
        except MeshfoldError as error:
            refused, reason = refused + 1, type(error).__name__
        except Exception as error:
            raise SnapshotRefused(
                f"version {runner.version[:12]} fails on a request that callers sent ({type(error).__name__}); what is"
                " served stays. Publish a version that answers it"
            ) from error
    if refused:
        _log.warning(
            "version %s refuses %d of %d requests that callers sent lately (%s)",
            *(runner.version[:12], refused, len(requests), reason),
        )
    if refused == len(requests):
        for query in made_queries(runner):
            runner.run([runner.prepare(query)])


def made_queries(runner: Runner) -> list[Query]:
    """Made queries: users with histories of distant items, and one user without a history."""
    results = min(_RESULTS, runner.items)
    histories: list[Ids] = [
        runner.some_ids(np.linspace(start, runner.items - 1, _HISTORY).astype(np.int64))
        for start in np.linspace(0, runner.items // 2, _MADE).astype(np.int64)
    ]
    return [Query(runner.surface, results), *(Query(runner.surface, results, history=h) for h in histories)]
