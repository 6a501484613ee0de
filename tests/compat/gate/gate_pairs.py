"""Pairs of a mesh and a model that differ by known causes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from meshfold.compat.gate.gate import Gate
from meshfold.compat.gate.settings import GateSettings
from meshfold.compat.gate.verdict import Decision, Reason, Verdict
from meshfold.compat.shadow.comparison import Cause, Difference, ItemText
from meshfold.compat.shadow.pairs import Pair, SideAnswer

LENGTH = 10
# Few users are enough for these.
SETTINGS = GateSettings(error_rate=0.05, margin=0.05, errors_pass=0.03, causes_pass=0.03)
USERS = 300


class Digits:
    """A catalog whose items have their last digit as a field. A pair's filter is the digit that it does not admit."""

    fields: Sequence[str] = ("digit",)

    def violations(self, pair: Pair, item_ids: Sequence[int | str]) -> int | None:
        return (
            None
            if pair.filter is None
            else sum(self.values(item, "digit")[0] == pair.filter for item in item_ids)
        )

    def known(self, item_ids: Sequence[int | str]) -> int:
        return len(item_ids)

    def values(self, item_id: int | str, field: str) -> tuple[str, ...]:
        return (str(int(item_id) % 10),)

    def text(self, item_id: int | str) -> ItemText:
        return ItemText()


@dataclass(frozen=True)
class World:
    """Of each pair: the share of places at which the mesh or the model has another item, for a cause. digit: of the
    other items; None for that of the item whose place they take. noise: share of places at which any answer of the mesh
    misses an item."""

    mesh: float = 0.0
    mesh_cause: Cause = Cause.MESH_FILTER
    model: float = 0.0
    model_cause: Cause = Cause.SCORES
    digit: int | None = None
    noise: float = 0.03
    asked_twice: float = 1.0
    mesh_errors: float = 0.0
    model_errors: float = 0.0
    mesh_slower_ms: float = 0.0
    model_slower_ms: float = 0.0
    filter: str | None = ""
    is_redacted: bool = False

    def pairs(
        self, users: int = USERS, each: int = 2, seed: int = 0
    ) -> Iterator[tuple[Pair, tuple[Difference, ...]]]:
        """Each user's pairs, with the causes of their differences."""
        generator = np.random.default_rng(seed)
        for number in range(users * each):
            base = [int(item) for item in generator.choice(5000, LENGTH, replace=False)]
            is_faulty = generator.random(LENGTH) < self.mesh
            (mesh, missed), (again, _) = (self._mesh(base, is_faulty, generator) for _ in range(2))
            changed = generator.random(LENGTH) < self.model
            model = [
                self._other(item, 20_000) if is_other else item
                for item, is_other in zip(base, changed, strict=True)
            ]
            causes = [self.model_cause if changed[place] else missed[place] for place in range(LENGTH)]
            yield (
                Pair(
                    request_id=f"r{seed}-{number}",
                    surface="shop",
                    user_key=f"u{number % users}",
                    unix_ms=1000 + number,
                    mesh=self._answer(mesh, self.mesh_errors, self.mesh_slower_ms, generator),
                    model=self._answer(model, self.model_errors, self.model_slower_ms, generator),
                    again=SideAnswer(tuple(again)) if generator.random() < self.asked_twice else None,
                    filter=self.filter,
                    request=b"asked",
                    is_redacted=self.is_redacted,
                ),
                tuple(_differences(mesh, model, causes)),
            )

    def _mesh(
        self, base: list[int], is_faulty: NDArray[np.bool_], generator: np.random.Generator
    ) -> tuple[list[int], list[Cause]]:
        """One answer: the mesh's faults are the same in each, what it misses is not."""
        items, causes = [], []
        for item, faulty, missed in zip(base, is_faulty, generator.random(LENGTH) < self.noise, strict=True):
            items.append(self._other(item, 10_000) if faulty else item + 30_000 if missed else item)
            causes.append(self.mesh_cause if faulty else Cause.MESH_ANN_MISS)
        return items, causes

    def _other(self, item: int, added: int) -> int:
        return item + added if self.digit is None else item - item % 10 + self.digit + added

    def _answer(
        self, items: list[int], errors: float, slower_ms: float, generator: np.random.Generator
    ) -> SideAnswer:
        latency_ms = 10 * math.exp(generator.normal(0, 0.3)) + slower_ms
        if generator.random() < errors:
            return SideAnswer((), status="UNAVAILABLE", latency_ms=latency_ms)
        return SideAnswer(tuple(items), latency_ms=latency_ms)


def verdict_of(
    world: World, settings: GateSettings = SETTINGS, known: bool = True, users: int = USERS
) -> Verdict:
    """known: whether causes are looked for."""
    gate = Gate(settings, "shop", Digits())
    for pair, differences in world.pairs(users):
        gate.add(pair, differences if known and gate.wants_causes(pair) else None)
    return gate.verdict()


def reason_of(verdict: Verdict, name: str) -> Reason:
    [reason] = [one for one in verdict.reasons if one.name == name]
    return reason


def stopped_by(verdict: Verdict) -> set[str]:
    return {reason.name for reason in verdict.reasons if reason.decision is Decision.NO}


def _differences(mesh: list[int], model: list[int], causes: list[Cause]) -> Iterator[Difference]:
    for place, (old, new) in enumerate(zip(mesh, model, strict=True)):
        if old != new:
            yield Difference(new, "mesh", place + 1, causes[place])
            yield Difference(old, "model", place + 1, causes[place])
