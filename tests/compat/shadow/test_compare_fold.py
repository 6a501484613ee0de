"""Whole comparisons of pairs with planted differences."""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Sequence

import pytest

from meshfold.compat.shadow.compare import compare
from meshfold.compat.shadow.compare_settings import CompareSettings, MeasureSettings
from meshfold.compat.shadow.comparison import (
    Catalog,
    Cause,
    Comparison,
    Difference,
    Exposure,
    Figure,
    ItemText,
    SurfaceComparison,
)
from meshfold.compat.shadow.pair_measures import MEASURES, measure
from meshfold.compat.shadow.pairs import Pair, SideAnswer
from meshfold.model.errors import InvalidConfig

SETTINGS = CompareSettings(resamples=300)


class Genres:
    """Items 0 to 999, of ten genres and two makers; items from 900 on violate every filter."""

    fields: Sequence[str] = ("genre", "maker")

    def violations(self, pair: Pair, item_ids: Sequence[int | str]) -> int | None:
        return None if pair.filter is None else sum(int(item_id) >= 900 for item_id in item_ids)

    def known(self, item_ids: Sequence[int | str]) -> int:
        return len(item_ids)

    def values(self, item_id: int | str, field: str) -> tuple[str, ...]:
        number = int(item_id)
        return (f"g{number % 10}",) if field == "genre" else (("a", "b")[number // 10 % 2],)

    def text(self, item_id: int | str) -> ItemText:
        return ItemText(f"item {item_id}")


def only(comparison: Comparison) -> SurfaceComparison:
    [surface] = comparison.surfaces
    return surface


def figure(surface: SurfaceComparison, name: str) -> Figure:
    [found] = [one for one in surface.figures if one.name == name]
    return found


def answer(items: Sequence[int], **others: object) -> SideAnswer:
    scores = tuple(1.0 - 0.01 * place for place in range(len(items)))
    return dataclasses.replace(SideAnswer(tuple(items), scores), **others)  # type: ignore[arg-type]


def drawn(count: int = 400, users: int = 80, seed: int = 0) -> list[Pair]:
    """Lists of 20; the model lacks genre g3 in half of its places, and is worse for the slice `shop=odd`."""
    generator = random.Random(seed)
    pairs = []
    for number in range(count):
        mesh = generator.sample(range(900), 20)
        again = mesh[:19] + [generator.randrange(900, 1000)]
        user = number % users
        lost = [item for item in mesh if item % 10 == 3 and generator.random() < 0.5]
        if user % 4 == 0:
            lost += mesh[:6]
        model = [generator.choice(range(0, 900, 10)) if item in lost else item for item in mesh]
        pairs.append(
            Pair(
                request_id=f"r{number}",
                surface="home",
                user_key=f"u{user}",
                unix_ms=1_700_000_000_000 + number * 60_000,
                mesh=answer(mesh, latency_ms=10.0),
                model=answer(model, latency_ms=12.0),
                again=answer(again, latency_ms=10.0) if (number + number // users) % 2 else None,
                served_by="mesh",
                max_results=25,
                filter="" if number % 3 else "year > 3",
                slices={"shop": "odd" if user % 4 == 0 else "even"},
            )
        )
    return pairs


def test_no_pairs_and_pairs_without_answers() -> None:
    assert compare([], lambda surface: None, {}, SETTINGS).surfaces == ()
    told = compare(
        [
            Pair("a", mesh=answer([1])),
            Pair("b", model=answer([1])),
            Pair("c"),
            Pair("d", mesh=SideAnswer((), status="UNAVAILABLE"), model=answer([1])),
        ],
        lambda surface: Genres(),
        {},
        SETTINGS,
    )
    surface = only(told)
    assert surface.pairs == 4
    assert [one.name for one in surface.figures] == list(MEASURES)
    for one in surface.figures:
        assert math.isnan(one.difference.value)
        assert (one.noise, one.excess, one.pairs, one.users) == (None, None, 0, 0)
    assert (surface.curve, surface.slices, surface.exposure, surface.drift, surface.examples) == (
        (),
        (),
        (),
        None,
        (),
    )
    assert told.counted == {
        "pairs without an answer of the mesh": 2,
        "pairs without an answer of the model": 2,
    }
    errors = {one.side: (one.count, one.of) for one in surface.rates if one.name == "errors"}
    assert errors == {"mesh": (1, 2), "model": (0, 2)}
    assert "Pairs without a user key: 4." in told.notes[0]
    twice = compare(drawn(10, 5) * 2, lambda surface: None, {}, SETTINGS)
    assert twice.counted == {"pairs whose request id came before, compared all the same": 10}


def test_figures_stand_as_difference_noise_and_excess() -> None:
    pairs = drawn()
    comparison = compare(pairs, lambda surface: None, {}, SETTINGS)
    assert comparison.counted == {}
    surface = only(comparison)
    overlap = figure(surface, "overlap@K")
    assert (overlap.pairs, overlap.noise_pairs, overlap.users) == (400, 200, 80)
    assert overlap.noise is not None
    assert overlap.excess is not None
    assert overlap.noise.value == pytest.approx(0.95)
    # By hand: the mean over users of the mean over their pairs.
    told: dict[str, list[float]] = {}
    for pair in pairs:
        assert pair.mesh is not None
        assert pair.model is not None
        shared = len(set(pair.mesh.item_ids) & set(pair.model.item_ids))
        told.setdefault(pair.user_key, []).append(shared / 20)
    means = [sum(values) / len(values) for values in told.values()]
    # Fewer items than asked for were cut by nobody; a draw may repeat an item, which is then a shorter list.
    assert overlap.difference.value == pytest.approx(sum(means) / len(means), abs=1e-9)
    assert overlap.difference.low < overlap.difference.value < overlap.difference.high
    assert overlap.excess.value == pytest.approx(overlap.difference.value - 0.95, abs=0.03)
    assert overlap.excess.low < overlap.excess.value < overlap.excess.high < 0
    assert sum(surface.histogram[0]) == 400
    assert surface.histogram[1][19] == 200
    depths = [depth for depth, _, _ in surface.curve]
    assert depths == [1, 2, 3, 5, 7, 10, 15, 20]
    assert surface.curve[-1][1] == pytest.approx(overlap.difference.value)
    latency = figure(surface, "latency_difference_ms")
    assert latency.difference.value == 2
    assert {one.side: one.p50 for one in surface.latencies} == {"mesh": 10, "model": 12, "again": 10}


def test_an_identical_model_beside_a_noisy_mesh() -> None:
    pairs = [dataclasses.replace(pair, model=pair.mesh) for pair in drawn(100, 50)]
    surface = only(compare(pairs, lambda surface: Genres(), {}, SETTINGS))
    for name in MEASURES[:12]:
        assert figure(surface, name).difference.value == 1
    excess = figure(surface, "overlap@K").excess
    assert excess is not None
    assert excess.value == pytest.approx(0.05)
    assert figure(surface, "first_difference").difference.value == 21
    assert surface.drift is not None
    assert surface.drift.error.value == pytest.approx(0, abs=1e-9)
    assert all(one.q == 1 and one.ratio.value == 1 for one in surface.exposure)
    assert all(one.q == 1 for one in surface.slices)


def test_a_slice_that_differs_is_first_and_the_rest_are_not_significant() -> None:
    surface = only(compare(drawn(), lambda surface: None, {}, SETTINGS))
    names = [(one.name, one.value) for one in surface.slices]
    assert names[0] == ("shop", "odd")
    worst = surface.slices[0]
    assert worst.q < 1e-3
    assert worst.difference_from_rest == pytest.approx(-0.3, abs=0.05)
    assert worst.users == 20
    assert worst.overlap.low < worst.overlap.value < worst.overlap.high
    others = [one for one in surface.slices if one.name != "shop"]
    assert {one.name for one in others} == {"filtered", "hour"}
    # served_by and max_results have no rest beside them.
    assert all(one.q > 0.05 for one in others)


def test_exposure_shows_the_genre_that_is_lost() -> None:
    surface = only(compare(drawn(), lambda surface: Genres(), {}, SETTINGS))

    def of(field: str, value: str, depth: int = 0) -> Exposure:
        [found] = [
            one for one in surface.exposure if (one.field, one.value, one.depth) == (field, value, depth)
        ]
        return found

    lost, gained = of("genre", "g3"), of("genre", "g0")
    assert lost.ratio.value == pytest.approx(0.43, abs=0.1)
    assert lost.ratio.low < lost.ratio.value < lost.ratio.high < 0.6
    assert lost.model_share == pytest.approx(lost.ratio.value * lost.mesh_share)
    assert gained.ratio.low > 1
    assert max(lost.q, gained.q) < 1e-3
    assert {surface.exposure[0].value, surface.exposure[1].value} <= {"g0", "g3"}
    # Both depths of ten genres and two makers.
    assert len(surface.exposure) == 24
    few = only(compare(drawn(), lambda surface: Genres(), {}, dataclasses.replace(SETTINGS, min_users=81)))
    assert few.exposure == ()
    assert few.slices == ()


def test_violations_duplicates_and_empty_answers_are_counted_a_side() -> None:
    pairs = drawn(40, 20)
    pairs[0] = dataclasses.replace(pairs[0], model=answer([5, 5, 950]), filter="a > 1")
    pairs[1] = dataclasses.replace(pairs[1], model=answer([]), filter=None)
    pairs[2] = dataclasses.replace(pairs[2], model=SideAnswer((1, 2), (math.nan, 1.0)), filter=None)
    pairs[3] = dataclasses.replace(pairs[3], model=SideAnswer((1, 2), (1.0,)), filter=None)
    surface = only(compare(pairs, lambda surface: Genres(), {}, SETTINGS))
    rates = {(one.name, one.side): one for one in surface.rates}
    assert rates["violations", "mesh"].count == 0
    assert rates["violations", "mesh"].of == 37 * 20
    assert rates["violations", "model"].count == 1
    assert rates["violations", "model"].of == 36 * 20 + 3
    assert rates["violations", "model"].low < 1 / (36 * 20 + 3) < rates["violations", "model"].high
    for name in ("empty", "nan_scores", "odd_scores"):
        assert (rates[name, "model"].count, rates[name, "model"].of) == (1, 40)
    assert rates["duplicates", "model"].count >= 1
    # 25 were asked for.
    assert rates["short", "mesh"].count == rates["short", "mesh"].of == 40
    enough = [dataclasses.replace(pair, max_results=20 if number else 0) for number, pair in enumerate(pairs)]
    surface = only(compare(enough, lambda surface: None, {}, SETTINGS))
    [short] = [one for one in surface.rates if (one.name, one.side) == ("short", "model")]
    assert (short.count, short.of) == (3, 39)


def test_violations_are_of_items_that_the_catalog_has() -> None:
    class Half(Genres):
        def known(self, item_ids: Sequence[int | str]) -> int:
            return len(item_ids) // 2

    surface = only(compare(drawn(40, 20), lambda surface: Half(), {}, SETTINGS))
    assert {one.of for one in surface.rates if one.name == "violations"} == {40 * 20 // 2}


def test_slices_of_too_many_names_are_counted() -> None:
    slices = {f"name{number}": "a" for number in range(53)}
    pairs = [dataclasses.replace(pair, slices=slices) for pair in drawn(10, 5)]
    told = compare(pairs, lambda surface: None, {}, SETTINGS)
    # Of 53 and the four that every pair has.
    assert list(told.counted.values()) == [70]


def test_examples_are_the_worst_one_a_user_with_their_causes() -> None:
    pairs = drawn()
    causes = {
        "r8": (Difference(7, "model", 1, Cause.TIE), Difference(8, "mesh", 2, Cause.UNKNOWN)),
        "r9": (Difference(7, "model", 1, Cause.TIE),),
        "r10": (),
    }
    pairs[8] = dataclasses.replace(pairs[8], model=answer(list(range(880, 900))), again=None)
    told = only(compare(pairs, lambda surface: Genres(), causes, SETTINGS))
    assert told.examples == only(compare(pairs[::-1], lambda surface: Genres(), causes, SETTINGS)).examples
    assert len({example.pair.user_key for example in told.examples}) == len(told.examples) == 12
    worst = told.examples[0]
    assert worst.pair.request_id == "r8"
    assert worst.differences == causes["r8"]
    assert worst.items[880].title == "item 880"
    assert told.attributed_pairs == 3
    assert told.causes == {("model", "tie"): 2, ("mesh", "unknown"): 1}
    # Pairs that are asked again are measured against their own noise.
    assert any("noise overlap@100" in example.measures for example in told.examples)


def test_surfaces_are_apart_and_slices_of_all() -> None:
    home = drawn()
    shop = [dataclasses.replace(pair, surface="shop", model=pair.mesh) for pair in drawn(seed=1)]
    catalogs: dict[str, Catalog] = {"home": Genres()}
    told = compare([*home, *shop], catalogs.get, {}, SETTINGS)
    assert [surface.surface for surface in told.surfaces] == ["home", "shop"]
    assert [bool(surface.exposure) for surface in told.surfaces] == [True, False]
    by_surface = [one for surface in told.surfaces for one in surface.slices if one.name == "surface"]
    assert [one.value for one in by_surface] == ["home", "shop"]
    # The same users on both sides.
    assert by_surface[0].difference_from_rest == pytest.approx(-by_surface[1].difference_from_rest)
    assert by_surface[0].difference_from_rest < -0.05
    assert by_surface[0].q < 1e-6
    assert (told.from_unix_ms, told.to_unix_ms) == (1_700_000_000_000, 1_700_000_000_000 + 399 * 60_000)


def test_one_pair_is_measured_alone() -> None:
    told = measure(
        Pair("a", mesh=answer([1, 2, 3]), model=answer([1, 3, 2, 4])), MeasureSettings(tau_share=1)
    )
    assert told.difference is not None
    assert tuple(told.difference) == MEASURES
    assert told.difference["overlap@10"] == 0.75
    assert told.difference["tau"] == pytest.approx(1 / 3)
    assert told.difference["first_difference"] == 2
    assert told.difference["length_difference"] == 1
    assert told.noise is None
    assert told.scores.tolist() == [[1.0, 1.0], [0.99, 0.98], [0.98, 0.99]]
    unsampled = measure(Pair("a", mesh=answer([1, 2]), model=answer([1, 2])), MeasureSettings(tau_share=0))
    assert unsampled.difference is not None
    assert math.isnan(unsampled.difference["tau"])


@pytest.mark.parametrize(
    ("name", "value"),
    [("rbo_p", 1.0), ("tie_tolerance", -1e-9), ("tau_share", math.nan), ("score_points", -1)],
)
def test_settings_out_of_bounds_are_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(InvalidConfig, match=name):
        dataclasses.replace(MeasureSettings(), **{name: value})  # type: ignore[arg-type]
