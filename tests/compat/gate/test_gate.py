from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import chain

import pytest

from meshfold.compat.gate.gate import Gate
from meshfold.compat.gate.settings import ACCEPTABLE, GateSettings
from meshfold.compat.gate.verdict import Decision, Verdict
from meshfold.compat.shadow.comparison import Cause
from meshfold.compat.shadow.pairs import SideAnswer
from tests.compat.gate.gate_pairs import (
    LENGTH,
    SETTINGS,
    USERS,
    Digits,
    World,
    reason_of,
    stopped_by,
    verdict_of,
)


def test_a_model_as_good_as_the_mesh_passes() -> None:
    verdict = verdict_of(World())
    assert verdict.decision is Decision.YES
    names = {"overlap@100", "violations", "errors", "model_catalog", "model_filter", "p99", "exposure"}
    assert {reason.name for reason in verdict.reasons} == names
    assert (verdict.pairs, verdict.noise_pairs, verdict.users) == (2 * USERS, 2 * USERS, USERS)
    assert (verdict.from_unix_ms, verdict.to_unix_ms) == (1000, 1000 + 2 * USERS - 1)
    overlap = reason_of(verdict, "overlap@100")
    assert -SETTINGS.margin == overlap.bound < overlap.low < overlap.value < overlap.high
    document = json.loads(json.dumps(verdict.to_json(), allow_nan=False))
    assert Verdict.from_json(document).to_json() == verdict.to_json()


# What stops the model, whatever else passes.
FAULTS = {
    "overlap@100": World(model=0.2),
    "violations": World(filter="3"),
    "model_catalog": World(model=0.03, model_cause=Cause.MODEL_CATALOG),
    "model_filter": World(model=0.03, model_cause=Cause.MODEL_FILTER),
    "exposure digit=3": World(model=0.05, digit=3),
    "errors": World(model_errors=0.03),
    "p99": World(model_slower_ms=40),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_of_the_model_stops_it(name: str) -> None:
    # A 99th percentile needs some hundred pairs more.
    verdict = verdict_of(FAULTS[name], users=USERS * 2 if name == "p99" else USERS)
    assert verdict.decision is Decision.NO
    assert name in stopped_by(verdict)
    assert verdict.reasons[0].decision is Decision.NO
    # A loss of few items is within the margin.
    if name.startswith("model_"):
        assert stopped_by(verdict) == {name}


@pytest.mark.parametrize("cause", [Cause.MESH_FILTER, Cause.MESH_CATALOG, Cause.MESH_ANN_MISS, Cause.TIE])
def test_a_fault_of_the_mesh_does_not_stop_the_model(cause: Cause) -> None:
    """All of the mesh's answers have it, so that its noise does not tell."""
    world = World(mesh=0.3, mesh_cause=cause, digit=3, noise=0.0)
    assert verdict_of(replace(world, digit=None)).decision is Decision.YES
    # Nor does what the mesh shows too often, by its own fault.
    assert stopped_by(verdict_of(world)) == set()
    # Without causes nobody knows that it is the mesh's.
    assert "overlap@100" in stopped_by(verdict_of(world, known=False))


@pytest.mark.parametrize("cause", ACCEPTABLE)
def test_an_accepted_cause_does_not_stop_the_model_and_hides_no_other(cause: Cause) -> None:
    accepting = replace(SETTINGS, accepted_causes=(cause,))
    world = World(model=0.3, model_cause=cause, digit=3, noise=0.0)
    assert "overlap@100" in stopped_by(verdict_of(world))
    accepted = verdict_of(world, accepting)
    assert stopped_by(accepted) == set()
    assert f"accepted by gate.accepted_causes: {cause}" in reason_of(accepted, "overlap@100").sentence
    assert verdict_of(replace(world, digit=None), accepting).decision is Decision.YES
    for other in {Cause.MERGE, Cause.MODEL_ANN_MISS, Cause.SCORES, Cause.USER_VECTOR} - {cause}:
        assert "overlap@100" in stopped_by(verdict_of(replace(world, model_cause=other), accepting))


@pytest.mark.parametrize("world", [World(mesh_errors=0.1), World(mesh_slower_ms=50)])
def test_errors_and_slowness_of_the_mesh_do_not_stop_the_model(world: World) -> None:
    assert verdict_of(world).decision is Decision.YES


def test_the_models_loss_stops_it_beside_the_meshs() -> None:
    world = World(mesh=0.3, model=0.2)
    assert "overlap@100" in stopped_by(verdict_of(world))


def test_noise_and_causes_are_not_both_taken_off() -> None:
    """The mesh misses a tenth each time. What the model loses stands out by either figure; their sum would hide it."""
    verdict = verdict_of(World(noise=0.1, model=0.2))
    assert "overlap@100" in stopped_by(verdict)
    assert reason_of(verdict, "overlap@100").high < -SETTINGS.margin


def test_requests_asked_once_help_those_asked_twice() -> None:
    """A few requests asked twice tell the noise, the others how far the model is from the mesh."""
    some, alone = Gate(SETTINGS, "shop", None), Gate(SETTINGS, "shop", None)
    for pair, _ in World(asked_twice=0.2, noise=0.1).pairs():
        some.add(pair, None)
        if pair.again is not None:
            alone.add(pair, None)
    widths = []
    for gate in (some, alone):
        reason = reason_of(gate.verdict(), "overlap@100")
        widths.append(reason.high - reason.low)
    assert widths[0] < widths[1]


def test_causes_of_a_sample_tell_of_all_pairs() -> None:
    settings = replace(SETTINGS, causes_share=0.5, causes_pass=0.1)
    gate = Gate(settings, "shop", Digits())
    attributed = 0
    for pair, differences in World(mesh=0.3, asked_twice=0.0).pairs(600):
        if gate.wants_causes(pair):
            attributed += 1
            gate.add(pair, differences)
        else:
            gate.add(pair, None)
    assert 450 < attributed < 750
    overlap = reason_of(gate.verdict(), "overlap@100")
    assert overlap.decision is Decision.YES
    assert overlap.value == pytest.approx(0, abs=0.01)


def test_causes_out_of_the_sample_tell_nothing() -> None:
    """Such as those of the worst pairs."""
    worlds = [World(model=0.02, model_cause=Cause.MODEL_CATALOG, noise=0.0)]
    gates = [Gate(replace(SETTINGS, causes_share=0.5), "shop", Digits()) for _ in range(2)]
    for pair, differences in worlds[0].pairs():
        for gate, is_told in zip(gates, (True, False), strict=True):
            gate.add(pair, differences if is_told or gate.wants_causes(pair) else None)
    assert gates[0].verdict() == gates[1].verdict()


def test_without_noise_and_causes_the_remedy_is_told() -> None:
    verdict = verdict_of(World(asked_twice=0.0, noise=0.1), known=False)
    assert verdict.decision is Decision.NOT_ENOUGH
    assert "comparison.noise_share" in reason_of(verdict, "overlap@100").sentence
    assert "comparison.keep_requests" in reason_of(verdict, "model_catalog").sentence
    assert not stopped_by(verdict)


def test_causes_of_redacted_requests_are_not_known() -> None:
    gate = Gate(SETTINGS, "shop", Digits())
    for pair, differences in World(model=0.05, is_redacted=True).pairs():
        gate.add(pair, tuple(replace(one, cause=Cause.UNKNOWN) for one in differences))
    catalog = reason_of(gate.verdict(), "model_catalog")
    # Pairs whose answers are the same have none; any other may have lost its items so.
    assert catalog.decision is Decision.NOT_ENOUGH
    assert (catalog.value, catalog.low) == (0, 0)
    assert catalog.high > 0.02


def test_few_users_decide_nothing() -> None:
    assert verdict_of(World(model=0.5, model_slower_ms=100), users=30).decision is Decision.NOT_ENOUGH
    # These are told by exact chances, or need none.
    assert stopped_by(verdict_of(World(model_errors=0.5), users=30)) == {"errors"}
    assert stopped_by(verdict_of(World(filter="3"), users=30)) == {"violations"}


def test_a_user_whose_requests_all_fail_is_one_user() -> None:
    gate = Gate(SETTINGS, "shop", Digits())
    for pair, differences in World().pairs():
        gate.add(pair, differences)
    for pair, _ in World(model_errors=1.0).pairs(1, 400, seed=1):
        gate.add(replace(pair, user_key="always"), None)
    assert "errors" not in stopped_by(gate.verdict())


def test_no_catalog_lets_nothing_pass() -> None:
    gate = Gate(SETTINGS, "shop", None)
    for pair, differences in World().pairs():
        gate.add(pair, differences)
    verdict = gate.verdict()
    assert verdict.decision is Decision.NOT_ENOUGH
    assert [reason.name for reason in verdict.reasons if reason.decision is not Decision.YES] == [
        "violations"
    ]


def test_answers_of_another_version_are_not_checked() -> None:
    class Versioned(Digits):
        version = "new"

    gate = Gate(SETTINGS, "shop", Versioned())
    for pair, differences in World(filter="3").pairs():
        assert pair.model is not None
        gate.add(replace(pair, model=replace(pair.model, version="old")), differences)
    assert reason_of(gate.verdict(), "violations").decision is Decision.NOT_ENOUGH


def test_further_measures_have_their_own_margins() -> None:
    settings = replace(SETTINGS, margin=0.3, measures={"rbo": 0.05, "ndcg@100": 0.3})
    verdict = verdict_of(World(model=0.15), settings)
    assert stopped_by(verdict) == {"rbo"}
    assert reason_of(verdict, "ndcg@100").decision is Decision.YES


def test_a_fault_of_the_mesh_is_taken_off_further_measures() -> None:
    settings = replace(SETTINGS, measures={"rbo": 0.05, "ndcg@100": 0.05, "jaccard@K": 0.05})
    assert verdict_of(World(mesh=0.3, noise=0.0), settings).decision is Decision.YES


def test_questions_that_are_not_asked() -> None:
    settings = replace(SETTINGS, p99_stop_ms=math.inf, causes_pass=1.0)
    verdict = verdict_of(World(model_slower_ms=50), settings, known=False)
    assert verdict.decision is Decision.YES
    assert {"p99", "model_catalog"}.isdisjoint(reason.name for reason in verdict.reasons)


def test_nothing_is_not_enough() -> None:
    verdict = Gate(GateSettings(), "shop", Digits()).verdict()
    assert verdict.decision is Decision.NOT_ENOUGH
    assert all(reason.decision is Decision.NOT_ENOUGH for reason in verdict.reasons)
    assert Verdict.from_json(verdict.to_json()).decision is Decision.NOT_ENOUGH


_DESCENDING = tuple(float(LENGTH - place) for place in range(LENGTH))
_ASCENDING = _DESCENDING[::-1]


@pytest.mark.parametrize(
    ("mesh", "model", "is_excused"),
    [
        (_ASCENDING, _DESCENDING, True),
        (_DESCENDING, _ASCENDING, False),
        (_ASCENDING, _ASCENDING, False),
        (_ASCENDING, (), False),
        ((math.nan,) * LENGTH, _DESCENDING, False),
    ],
)
def test_an_order_that_contradicts_the_mesh_s_own_scores_does_not_stop_the_model(
    mesh: tuple[float, ...], model: tuple[float, ...], is_excused: bool
) -> None:
    """Half of the pairs lose items by it; of the others the order alone differs."""
    gate = Gate(replace(SETTINGS, measures={"rbo": 0.05}), "shop", Digits())
    lost, same = (World(mesh=share, mesh_cause=Cause.MERGE, noise=0.0) for share in (0.6, 0.0))
    for pair, differences in chain(lost.pairs(USERS, 1), same.pairs(USERS, 1)):
        assert pair.mesh is not None
        assert pair.model is not None
        ids = pair.mesh.item_ids if mesh != _ASCENDING else pair.mesh.item_ids[::-1]
        other = pair.model.item_ids if model != _ASCENDING else pair.model.item_ids[::-1]
        if mesh == model:
            other = other[::-1]
        answer = SideAnswer(ids, mesh)
        pair = replace(
            pair,
            mesh=replace(answer, latency_ms=10.0),
            again=answer,
            model=SideAnswer(other, model, latency_ms=10.0),
        )
        gate.add(pair, differences)
    verdict = gate.verdict()
    overlap = reason_of(verdict, "overlap@100")
    assert ("contradicts its own scores" in overlap.sentence) == is_excused
    if is_excused:
        assert verdict.decision is Decision.YES
    else:
        assert stopped_by(verdict) >= {"overlap@100", "rbo"}
