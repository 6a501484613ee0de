"""A snapshot is run before callers meet it: with requests that they sent, else with some made from it."""

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

# Of queries that are made from a snapshot: how many, items of a history, and results.
_MADE, _HISTORY, _RESULTS = 8, 10, 100

# The requests of a surface: (adapter, message) of each.
Requests = Callable[[str], Sequence[tuple[Any, bytes]]]


def warm(runner: Runner, requests: Sequence[tuple[Any, bytes]], limits: Limits) -> None:
    """Answers the requests, and throws the answers away.

    Raises SnapshotRefused where the snapshot fails on one, which would be INTERNAL for a caller. Requests that it
    refuses as invalid, for their filters know other fields, are counted in the log.
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
    """Users who met items that lie apart, and one of whom nothing is known."""
    results = min(_RESULTS, runner.items)
    histories: list[Ids] = [
        runner.some_ids(np.linspace(start, runner.items - 1, _HISTORY).astype(np.int64))
        for start in np.linspace(0, runner.items // 2, _MADE).astype(np.int64)
    ]
    return [Query(runner.surface, results), *(Query(runner.surface, results, history=h) for h in histories)]
