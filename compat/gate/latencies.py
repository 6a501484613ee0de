"""Latencies: whether the model's 99th percentile is above the mesh's."""

from __future__ import annotations

import math
from array import array

import numpy as np
from numpy.typing import NDArray

from meshfold.compat.gate.quantiles import Sample
from meshfold.compat.gate.verdict import Decision, Reason

_SHARE = 0.99
_NAME = "p99"


class Latencies:
    """Latencies of both sides for the same requests, in milliseconds. Failed answers count, too."""

    def __init__(self, ratio: float, stop_ms: float, pass_ms: float) -> None:
        self._ratio, self._stop, self._pass = ratio, stop_ms, pass_ms
        self._users = array("q")
        self._mesh = Sample()
        self._model = Sample()

    def add(self, user: int, mesh_ms: float, model_ms: float) -> None:
        if math.isfinite(mesh_ms) and math.isfinite(model_ms):
            self._users.append(user)
            self._mesh.values.append(mesh_ms)
            self._model.values.append(model_ms)

    def add_many(
        self, users: NDArray[np.int64], mesh_ms: NDArray[np.float64], model_ms: NDArray[np.float64]
    ) -> None:
        """The same as `add` for each pair. [N] each, all finite."""
        self._users.frombytes(users.tobytes())
        self._mesh.values.frombytes(mesh_ms.tobytes())
        self._model.values.frombytes(model_ms.tobytes())

    def reason(self, wrong_yes: float, wrong_no: float, min_users: int) -> Reason:
        users = np.array(self._users, np.int64)
        if not len(users):
            sentence = "no pair has latencies of both sides; p99_stop_ms = inf leaves the question out"
            return Reason(_NAME, Decision.NOT_ENOUGH, sentence, bound=self._stop)
        # Either side's bound may be wrong.
        (model_no, model_yes), (mesh_no, mesh_yes) = (
            side.bounds(users, _SHARE, (wrong_no / 2, wrong_yes / 2)) for side in (self._model, self._mesh)
        )
        ratio = self._ratio
        value = model_no.value - ratio * mesh_no.value
        low, high = model_no.low - ratio * mesh_no.high, model_yes.high - ratio * mesh_yes.low
        figure = f"p99 of the model is {model_no.value:.1f} ms, of the mesh {mesh_no.value:.1f} ms"
        of = "the mesh's" if ratio == 1 else f"{ratio:g} times the mesh's"
        if (count := int(np.count_nonzero(np.bincount(users)))) < min_users:
            decision, bound = Decision.NOT_ENOUGH, self._pass
            sentence = f"{figure}, over {count:,} users; {min_users:,} users are needed"
        elif low > self._stop:
            decision, bound = Decision.NO, self._stop
            sentence = f"{figure}: surely over {of} plus {low:.1f} ms, with {self._stop:g} ms allowed"
        elif high < self._pass:
            decision, bound = Decision.YES, self._pass
            sentence = f"{figure}: surely below {of} plus {high:.1f} ms, and {self._pass:g} ms would pass"
        else:
            decision, bound = Decision.NOT_ENOUGH, self._pass
            far = f"plus {high:.1f} ms is possible" if math.isfinite(high) else "without an upper bound yet"
            sentence = f"{figure}: {of} {far}, and below {self._pass:g} ms passes; more pairs are needed"
        return Reason(_NAME, decision, sentence, value, low, high, bound)
