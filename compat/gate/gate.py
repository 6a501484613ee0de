"""The gate of one surface: pairs go in, a verdict comes out at any time.

    pair        -> agreement (overlap and other measures), errors, latencies, eligibility, exposure
    its causes  -> agreement without what is the mesh's own, and what the model's catalog and filter lose
    verdict     -> NO where anything surely stops the model, YES where everything passes

A verdict may be asked for after every pair: the chances of a wrong YES and of a wrong NO hold for all of them together.
A wrong YES needs every question wrong, so that each has the whole chance; a NO needs one, so that they share it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol, runtime_checkable

from meshfold.compat.gate.agreement import Agreement
from meshfold.compat.gate.excused import Swaps, by_mesh_scores, excused_causes, without
from meshfold.compat.gate.exposure_moves import ExposureMoves
from meshfold.compat.gate.guards import Errors, LostByCause, Violations
from meshfold.compat.gate.latencies import Latencies
from meshfold.compat.gate.prometheus import asked
from meshfold.compat.gate.settings import GateSettings
from meshfold.compat.gate.verdict import Reason, Verdict, decision_of, ordered
from meshfold.compat.shadow.compare_settings import MeasureSettings
from meshfold.compat.shadow.comparison import Catalog, Cause, Difference
from meshfold.compat.shadow.exposure import user_share_of
from meshfold.compat.shadow.pair_measures import measure
from meshfold.compat.shadow.pairs import OK, Pair

# Neither tau nor scores are asked for.
_MEASURES = MeasureSettings(tau_share=0.0, score_points=0)
_OWN_CAUSES = {Cause.MODEL_CATALOG: "the model's catalog", Cause.MODEL_FILTER: "the model's filter"}


@runtime_checkable
class VersionedCatalog(Protocol):
    """A catalog of one version of the model, which tells nothing of answers of other versions."""

    @property
    def version(self) -> str: ...


class _Question(Protocol):
    """Stops the model with the chance wrong_no where it should not, and passes it with wrong_yes, at all looks."""

    def reason(self, wrong_yes: float, wrong_no: float, min_users: int) -> Reason: ...


def chance_of_no(settings: GateSettings, name: str) -> float:
    """The part of the error rate that a question has for a wrong NO: more for those that need many pairs."""
    parts = {settings.overlap: 0.4, "errors": 0.2, "p99": 0.2}
    # Violations, exposure, two kinds of causes, and further measures.
    return settings.error_rate * parts.get(name, 0.2 / (4 + len(settings.measures)))


class Gate:
    """Of one surface. Users are told apart by their keys; a pair without one is a user of its own."""

    def __init__(
        self,
        settings: GateSettings,
        surface: str,
        catalog: Catalog | None,
        is_drawn: Callable[[Pair], bool] | None = None,
    ) -> None:
        """catalog: of the model's snapshot; None where there is none, then nothing passes. is_drawn: whether a pair is
        in the sample for causes, which must not depend on its answers; None for a share of users, causes_share."""
        self._settings = settings
        self._surface = surface
        self._catalog = catalog
        self._is_drawn = is_drawn
        self._users: dict[str, int] = {}
        self._pairs = self._noise_pairs = self._user_count = 0
        self._from_ms = self._to_ms = 0
        # Pairs in which the mesh's answer contradicts its own scores.
        self._disordered = 0
        self._overlap = Agreement(settings.overlap, settings.margin)
        self._measures = {name: Agreement(name, margin) for name, margin in settings.measures.items()}
        self._lost = {
            cause: LostByCause(cause.value, words, settings.causes_stop, settings.causes_pass)
            for cause, words in _OWN_CAUSES.items()
            if cause not in settings.accepted_causes
        }
        self._violations = Violations(settings.violations)
        self._exposure = None if catalog is None else ExposureMoves(catalog, settings)
        self._errors = Errors(settings.errors_stop, settings.errors_pass)
        self._latencies = Latencies(settings.p99_ratio, settings.p99_stop_ms, settings.p99_pass_ms)

    def wants_causes(self, pair: Pair) -> bool:
        """Whether the pair is in the sample of pairs whose causes are to be looked for.

        The sample does not depend on answers. Causes of other pairs, such as the worst, tell the gate nothing.
        """
        if self._is_drawn is not None:
            return self._is_drawn(pair)
        return user_share_of(pair.user_key, pair.request_id) < self._settings.causes_share

    def add(self, pair: Pair, differences: Sequence[Difference] | None) -> None:
        """A pair of the surface. differences: with their causes; None where they were not looked for."""
        self._pairs += 1
        if pair.unix_ms:
            self._from_ms = min(self._from_ms or pair.unix_ms, pair.unix_ms)
            self._to_ms = max(self._to_ms, pair.unix_ms)
        user = self._user(pair.user_key)
        mesh, model = pair.mesh, pair.model
        if model is not None and model.status == OK:
            self._check(user, pair)
        if mesh is None or model is None:
            return
        self._errors.add(user, model.status != OK, mesh.status != OK)
        self._latencies.add(user, mesh.latency_ms, model.latency_ms)
        measures = measure(pair, _MEASURES)
        if measures.difference is None:
            return
        noise: Mapping[str, float] = measures.noise or {}
        self._noise_pairs += measures.noise is not None
        for name, agreement in {self._settings.overlap: self._overlap, **self._measures}.items():
            agreement.add(user, measures.difference[name], noise.get(name, math.nan))
        is_wanted = self.wants_causes(pair)
        known = _known(pair, differences) if is_wanted else None
        if is_wanted:
            self._add_causes(user, pair, measures.difference, known)
        if self._exposure is not None:
            self._exposure.add(user, pair, known)

    def verdict(self) -> Verdict:
        """Of all pairs so far. Asks the queries of the settings, each up to its timeout."""
        reasons = ordered(self._reasons())
        return Verdict(
            surface=self._surface,
            decision=decision_of(reasons),
            reasons=reasons,
            pairs=self._pairs,
            noise_pairs=self._noise_pairs,
            users=self._user_count,
            from_unix_ms=self._from_ms,
            to_unix_ms=self._to_ms,
        )

    def _reasons(self) -> list[Reason]:
        settings = self._settings
        questions: dict[str, _Question] = {
            settings.overlap: self._overlap,
            **self._measures,
            "errors": self._errors,
        }
        if settings.asks_causes:
            questions |= {cause.value: lost for cause, lost in self._lost.items()}
        if settings.asks_p99:
            questions["p99"] = self._latencies
        users = settings.min_users
        reasons = [
            question.reason(settings.error_rate, chance_of_no(settings, name), users)
            for name, question in questions.items()
        ]
        if self._disordered:
            told = f"in {self._disordered:,} pairs the mesh's answer contradicts its own scores, which does not count"
            reasons[0] = _with(reasons[0], f"{told} against the model")
        if settings.accepted_causes:
            names = ", ".join(cause.value for cause in settings.accepted_causes)
            reasons[0] = _with(reasons[0], f"accepted by gate.accepted_causes: {names}")
        reasons.append(self._violations.reason(chance_of_no(settings, "violations"), users))
        if self._exposure is not None:
            reasons += self._exposure.reasons(chance_of_no(settings, "exposure"), users)
        return reasons + [asked(query) for query in settings.queries]

    def _check(self, user: int, pair: Pair) -> None:
        """The items of the model's answer by its own snapshot."""
        catalog, model = self._catalog, pair.model
        if catalog is None or model is None:
            return
        if isinstance(catalog, VersionedCatalog) and model.version not in ("", catalog.version):
            self._violations.add(user, None, 0)
            return
        self._violations.add(user, catalog.violations(pair, model.item_ids), catalog.known(model.item_ids))

    def _add_causes(
        self, user: int, pair: Pair, difference: Mapping[str, float], differences: Sequence[Difference] | None
    ) -> None:
        """difference: the pair's measures. Where causes were not looked for, none is excused, and none is the model's
        for certain."""
        overlap = difference[self._settings.overlap]
        excusing = excused_causes(pair, self._settings.accepted_causes)
        is_known = bool(differences)
        if Cause.MERGE in excusing:
            is_known = True
            self._disordered += 1
            pair = by_mesh_scores(pair)
        both = (excusing, excusing | {Cause.UNKNOWN})
        swaps = Swaps(pair, differences or (), self._settings.depth)
        excused, named = (max(overlap, swaps.overlap(causes)) for causes in both)
        if differences is None:
            named = 1.0
        self._overlap.add_causes(user, overlap, excused, named, is_known)
        for cause, lost in self._lost.items():
            least = swaps.share((cause,))
            lost.add(user, least, 1 - swaps.overlap(()) if differences is None else least)
        if not self._measures:
            return
        undone = [
            measure(without(pair, differences or (), causes), _MEASURES).difference or {} for causes in both
        ]
        for name, agreement in self._measures.items():
            value = difference[name]
            excused, named = (max(value, one[name]) for one in undone)
            agreement.add_causes(user, value, excused, 1.0 if differences is None else named, is_known)

    def _user(self, key: str) -> int:
        """From 0."""
        user = self._users.get(key, self._user_count) if key else self._user_count
        if user == self._user_count:
            self._user_count += 1
            if key:
                self._users[key] = user
        return user


def _with(reason: Reason, note: str) -> Reason:
    return replace(reason, sentence=f"{reason.sentence}; {note}")


def _known(pair: Pair, differences: Sequence[Difference] | None) -> Sequence[Difference] | None:
    """The causes of a pair's differences, as far as they were looked for."""
    assert pair.mesh is not None
    assert pair.model is not None
    if set(pair.mesh.item_ids) == set(pair.model.item_ids):
        return ()
    # Causes of a request that is not whole could not be looked for.
    is_whole = bool(pair.request) and not pair.is_redacted
    if differences and not is_whole and all(one.cause is Cause.UNKNOWN for one in differences):
        return None
    return differences
