"""The gate of one surface: it takes pairs and gives a verdict at any time.

    pair        -> agreement (overlap and other measures), errors, latencies, eligibility, exposure
    its causes  -> agreement without the mesh's own part, and losses by the model's catalog and filter
    verdict     -> NO if anything surely stops the model, YES if everything passes

Error rates hold for all verdicts together, so a verdict may follow every pair. A wrong YES needs every question to be
wrong, so each has the whole error rate. A wrong NO needs one wrong question, so they share it.
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

# Tau and score drift are not computed.
_MEASURES = MeasureSettings(tau_share=0.0, score_points=0)
_OWN_CAUSES = {Cause.MODEL_CATALOG: "the model's catalog", Cause.MODEL_FILTER: "the model's filter"}


@runtime_checkable
class VersionedCatalog(Protocol):
    """A catalog of one version of the model, which cannot check answers of other versions."""

    @property
    def version(self) -> str: ...


class _Question(Protocol):
    """A question of the gate.

    It stops a good model with chance wrong_no and passes a bad one with chance wrong_yes, at all looks together.
    """

    def reason(self, wrong_yes: float, wrong_no: float, min_users: int) -> Reason: ...


def chance_of_no(settings: GateSettings, name: str) -> float:
    """The part of the error rate for a wrong NO of one question; questions that need many pairs get more."""
    parts = {settings.overlap: 0.4, "errors": 0.2, "p99": 0.2}
    # Violations, exposure, two kinds of causes, and further measures.
    return settings.error_rate * parts.get(name, 0.2 / (4 + len(settings.measures)))


class Gate:
    """The gate of one surface. A user is identified by its key; a pair without one is a user of its own."""

    def __init__(
        self,
        settings: GateSettings,
        surface: str,
        catalog: Catalog | None,
        is_drawn: Callable[[Pair], bool] | None = None,
    ) -> None:
        """catalog: of the model's snapshot; None stands for none, and then nothing passes.

        is_drawn: whether a pair is in the sample for causes, which must not depend on its answers; None draws a share
        of users, causes_share.
        """
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
        """Whether the pair is in the sample of pairs whose causes are to be computed.

        The sample does not depend on answers. Causes of other pairs, such as the worst, are ignored.
        """
        if self._is_drawn is not None:
            return self._is_drawn(pair)
        return user_share_of(pair.user_key, pair.request_id) < self._settings.causes_share

    def add(self, pair: Pair, differences: Sequence[Difference] | None) -> None:
        """Adds a pair of the surface. differences: with their causes; None if causes were not computed."""
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
        """The verdict over all pairs so far. Sends the queries of the settings, each up to its timeout."""
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
            note = f"in {self._disordered:,} pairs the mesh's answer contradicts its own scores, which does not count"
            reasons[0] = _with(reasons[0], f"{note} against the model")
        if settings.accepted_causes:
            names = ", ".join(cause.value for cause in settings.accepted_causes)
            reasons[0] = _with(reasons[0], f"accepted by gate.accepted_causes: {names}")
        reasons.append(self._violations.reason(chance_of_no(settings, "violations"), users))
        if self._exposure is not None:
            reasons += self._exposure.reasons(chance_of_no(settings, "exposure"), users)
        return reasons + [asked(query) for query in settings.queries]

    def _check(self, user: int, pair: Pair) -> None:
        """Checks the items of the model's answer against its own snapshot."""
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
        """difference: the pair's measures. differences: None if causes were not computed.

        Without computed causes, no cause is excused and none is surely the model's.
        """
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
        """The user's number, from 0."""
        user = self._users.get(key, self._user_count) if key else self._user_count
        if user == self._user_count:
            self._user_count += 1
            if key:
                self._users[key] = user
        return user


def _with(reason: Reason, note: str) -> Reason:
    return replace(reason, sentence=f"{reason.sentence}; {note}")


def _known(pair: Pair, differences: Sequence[Difference] | None) -> Sequence[Difference] | None:
    """The differences with their causes; () for the same items, None if causes are not known."""
    assert pair.mesh is not None
    assert pair.model is not None
    if set(pair.mesh.item_ids) == set(pair.model.item_ids):
        return ()
    # A request that is missing or redacted has no computed causes.
    is_whole = bool(pair.request) and not pair.is_redacted
    if differences and not is_whole and all(one.cause is Cause.UNKNOWN for one in differences):
        return None
    return differences
