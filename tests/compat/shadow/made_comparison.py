"""Comparisons that look like real ones: movies, users and figures of our own making, the same for the same seed."""

from __future__ import annotations

import math
import random
from dataclasses import replace

from meshfold.compat.shadow.comparison import (
    Cause,
    Comparison,
    Difference,
    Drift,
    Example,
    Exposure,
    Figure,
    Interval,
    ItemText,
    Latency,
    Rate,
    Slice,
    SurfaceComparison,
)
from meshfold.compat.shadow.pairs import Pair, SideAnswer

_FIRST = [
    "Quiet",
    "Last",
    "Paper",
    "Crimson",
    "Northern",
    "Hollow",
    "Second",
    "Borrowed",
    "Winter",
    "Electric",
    "Midnight",
    "Glass",
    "Lost",
    "Golden",
    "Silent",
]
_SECOND = [
    "Harbour",
    "Letters",
    "Orchard",
    "Machine",
    "Sisters",
    "Meridian",
    "Garden",
    "Promise",
    "Tides",
    "Station",
    "Wolves",
    "Summer",
    "Border",
    "Waltz",
]
_THIRD = ("", "", "", " of Tomorrow", " in Lisbon", " Returns", ": Part Two", " and the Sea")
_GENRES = ["Comedy", "Drama", "Thriller", "Romance", "Documentary", "Horror", "Animation", "Western"]
_LANGUAGES = ["en", "fr", "es", "ja", "hi", "pt"]

# What a page or a terminal could stumble over: scripts, quotes, formulas, directions, control characters, half a
# surrogate pair, emoji of several characters, a stack of accents, and no place to break a line.
HOSTILE_TEXT = (
    "</script><script>planted = 1</script><img src=x onerror='planted = 1'>\"'`&amp;{{ 7 * 7 }}{% raw %}$x^$\\"
    "\u202e\u05e9\u05dc\u05d5\u05dd\u2069\x00\x1b[2J\r\n\ud800\U0001f468\u200d\U0001f469\u200d\U0001f467"
    + "a" + "\u0301" * 30 + "\u0645" * 40 + "W" * 2000
)  # fmt: skip


def made(surfaces: tuple[str, ...] = ("home",), examples: int = 12, results: int = 100) -> Comparison:
    return Comparison(
        surfaces=tuple(made_surface(name, examples, results, seed) for seed, name in enumerate(surfaces)),
        counted={
            "dropped, over the budget of calls": 18,
            "answers that do not decode": 1,
            "one side only": 42,
        },
        from_unix_ms=1_796_000_000_000,
        to_unix_ms=1_796_086_000_000,
        sources=("pairs/home-20261130.parquet", "recordings/monday"),
        notes=("User features are redacted: these pairs cannot be replayed.",),
    )


def made_surface(name: str, examples: int = 12, results: int = 100, seed: int = 0) -> SurfaceComparison:
    chance = random.Random(seed)
    curve = tuple(
        (
            depth,
            0.905 + 0.05 / math.sqrt(depth) - 0.03 * math.exp(-depth / 4),
            0.936 + 0.04 / math.sqrt(depth),
        )
        for depth in (1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100)
    )
    return SurfaceComparison(
        surface=name,
        pairs=5000,
        noise_pairs=1200,
        users=1000,
        figures=_figures(),
        curve=curve,
        histogram=(_bins(chance, 5000, 17.9), _bins(chance, 1200, 18.5)),
        rates=(
            Rate("violations", "mesh", 37, 498_211, 5.2e-5, 1.02e-4),
            Rate("violations", "model", 0, 497_903, 0.0, 7.4e-6),
            Rate("errors", "mesh", 3, 5003, 1.2e-4, 1.75e-3),
            Rate("errors", "model", 0, 5003, 0.0, 7.4e-4),
            Rate("duplicates", "mesh", 2, 5000, 4.8e-5, 1.44e-3),
            Rate("duplicates", "model", 0, 5000, 0.0, 7.4e-4),
        ),
        latencies=(
            Latency("mesh", 5003, 21.4, 38.9, 92.7),
            Latency("model", 5003, 4.2, 6.8, 11.9),
            Latency("again", 1200, 20.8, 37.5, 88.1),
        ),
        exposure=_exposure(chance),
        drift=_drift(chance),
        slices=_slices(),
        attributed_pairs=640,
        causes={
            ("model", Cause.MODEL_ANN_MISS): 1310,
            ("mesh", Cause.MESH_ANN_MISS): 2904,
            ("model", Cause.TIE): 611,
            ("mesh", Cause.TIE): 604,
            ("mesh", Cause.MESH_CATALOG): 420,
            ("model", Cause.MODEL_FILTER): 0,
            ("mesh", Cause.MESH_FILTER): 130,
            ("model", Cause.PRECISION): 75,
            ("model", Cause.CAP): 22,
            ("model", Cause.UNKNOWN): 9,
        },
        examples=tuple(made_example(chance, name, i, results) for i in range(examples)),
    )


def made_example(chance: random.Random, surface: str, number: int, results: int = 100) -> Example:
    items = chance.sample(range(1000, 60_000), results + 12)
    scores = sorted((chance.gauss(0.6, 0.15) for _ in items), reverse=True)
    scores[20:24] = [scores[20]] * 4
    scored = list(zip(items, scores, strict=True))
    lost_by_mesh = set(chance.sample(range(2, results - 3), 6))
    lost_by_model = set(chance.sample(range(2, results - 3), 4)) - lost_by_mesh
    mesh = [scored[i] for i in range(len(scored)) if i not in lost_by_mesh][:results]
    model = [scored[i] for i in range(len(scored)) if i not in lost_by_model][:results]
    for at in range(5, results - 8, 9):
        model[at], model[at + 2] = model[at + 2], model[at]
    again = [scored[i] for i in range(len(scored)) if i not in set(chance.sample(range(results), 5))][
        :results
    ]
    return Example(
        pair=Pair(
            request_id=f"req-{number:04d}-{chance.getrandbits(32):08x}",
            surface=surface,
            user_key=f"{chance.getrandbits(64):016x}",
            unix_ms=1_796_000_000_000 + number * 7_200_000,
            mesh=_answer(mesh, 20 + number, "mesh-2026.11.3"),
            model=_answer(model, 4 + number / 10, "29bb6e4e8984"),
            again=_answer(again, 22, "mesh-2026.11.3") if number % 2 == 0 else None,
            served_by="mesh",
            max_results=results,
            filter='language in ["en", "fr"] && !("Horror" in genres) && year >= 1990' if number % 3 else "",
            is_redacted=number == 3,
            slices={
                "country": chance.choice(("PT", "NZ", "JP")),
                "history": chance.choice(("0", "1-9", "10+")),
            },
        ),
        measures={
            "overlap@10": 0.9,
            "overlap@K": 0.5 + number / 40,
            "noise overlap@K": 0.95,
            "rbo": 0.71 + number / 60,
            "tau": 0.83,
        },
        differences=_differences(chance, mesh, model),
        items={item: _text(chance) for item, _ in scored},
    )


def hostile(text: str) -> Comparison:
    """Every place that holds other people's text holds this one."""
    surface = made_surface(text, examples=2, results=30)
    examples = tuple(
        replace(
            example,
            pair=replace(
                example.pair,
                request_id=text,
                user_key=text,
                filter=text,
                served_by=text,
                slices={text: text},
                mesh=replace(example.pair.mesh, version=text) if example.pair.mesh else None,
                model=SideAnswer((), status=text, version=text) if i else example.pair.model,
            ),
            measures={text: 0.5},
            items={item: ItemText(text, {text: text, "year": text}) for item in example.items},
        )
        for i, example in enumerate(surface.examples)
    )
    surface = replace(
        surface,
        figures=(*surface.figures, Figure(text, Interval(0.5, 0.4, 0.6), None, None, 10, 0, 5)),
        rates=(*surface.rates, Rate(text, text, 1, 2, 0.0, 1.0)),
        latencies=(*surface.latencies, Latency(text, 3, 1.0, 2.0, 3.0)),
        exposure=(Exposure(text, text, 0, 0.1, 0.2, Interval(2.0, 1.5, 2.5), 0.01),),
        slices=(Slice(text, text, 60, 90, Interval(0.5, 0.4, 0.6), None, -0.4, 0.001, 0.002),),
        examples=examples,
    )
    return Comparison((surface,), counted={text: 3}, sources=(text,), notes=(text,))


def _figures() -> tuple[Figure, ...]:
    def figure(name: str, difference: float, noise: float, half: float) -> Figure:
        excess = difference - noise
        return Figure(
            name,
            Interval(difference, difference - half, difference + half),
            Interval(noise, noise - 1.5 * half, noise + 1.5 * half),
            Interval(excess, excess - 2 * half, excess + 2 * half),
            5000,
            1200,
            1000,
        )

    return (
        figure("overlap@10", 0.918, 0.949, 0.004),
        figure("overlap@50", 0.911, 0.943, 0.003),
        figure("overlap@100", 0.912, 0.941, 0.003),
        figure("overlap@K", 0.912, 0.941, 0.003),
        figure("jaccard@100", 0.838, 0.889, 0.004),
        figure("rbo", 0.921, 0.952, 0.003),
        figure("tau", 0.884, 0.962, 0.006),
        figure("ndcg@100", 0.957, 0.981, 0.002),
        figure("first_difference", 8.31, 11.2, 0.4),
        figure("length_difference", 0.0, 0.0, 0.001),
        figure("latency_difference_ms", -17.3, -0.4, 0.6),
    )


def _bins(chance: random.Random, pairs: int, middle: float) -> tuple[int, ...]:
    bins = [0] * 20
    for _ in range(pairs):
        at = 0 if chance.random() < 0.004 else round(chance.gauss(middle, 1.3))
        bins[min(19, max(0, at))] += 1
    return tuple(bins)


def _exposure(chance: random.Random) -> tuple[Exposure, ...]:
    rows = []
    for depth in (0, 10):
        for name, values in (("genres", _GENRES), ("language", _LANGUAGES)):
            for value in values:
                share = chance.uniform(0.002, 0.3)
                times = {"Documentary": 0.58, "hi": 0.71}.get(value, chance.gauss(1, 0.02))
                half = 0.15 if depth else 0.05
                rows.append(
                    Exposure(
                        name,
                        value,
                        depth,
                        share,
                        share * times,
                        Interval(times, times - half, times + half),
                        0.0004 if abs(times - 1) > 0.2 else 0.4,
                    )
                )
    rows.append(Exposure("studio", "Lantern Row", 10, 0.0, 0.0004, Interval(math.inf, math.nan, math.nan)))
    return tuple(sorted(rows, key=lambda row: (not row.q < 0.05, -abs(row.ratio.value - 1))))


def _drift(chance: random.Random) -> Drift:
    points = []
    for _ in range(600):
        score = chance.betavariate(4, 3)
        points.append((score, 0.92 * score**1.1 + 0.03 + chance.gauss(0, 0.012)))
    curve = tuple((x / 40, 0.92 * (x / 40) ** 1.1 + 0.03) for x in range(2, 40))
    return Drift(Interval(0.041, 0.038, 0.045), 22_380, curve, tuple(points))


def _slices() -> tuple[Slice, ...]:
    rows = (
        ("history", "0", 88, 310, 0.842, -0.076, 0.0001, 0.0011),
        ("filter", "under 1 % pass", 131, 402, 0.861, -0.057, 0.0004, 0.0026),
        ("country", "NZ", 52, 120, 0.893, -0.019, 0.031, 0.11),
        ("hour", "03", 61, 92, 0.898, -0.014, 0.2, 0.41),
        ("country", "PT", 420, 1980, 0.913, 0.001, 0.8, 0.88),
        ("history", "10+", 610, 3010, 0.924, 0.021, 0.004, 0.019),
    )
    return tuple(
        Slice(
            name,
            value,
            users,
            pairs,
            Interval(overlap, overlap - 0.02, overlap + 0.02),
            Interval(overlap - 0.941, overlap - 0.961, overlap - 0.921) if users > 60 else None,
            rest,
            p,
            q,
        )
        for name, value, users, pairs, overlap, rest, p, q in rows
    )


def _answer(scored: list[tuple[int, float]], latency_ms: float, version: str) -> SideAnswer:
    return SideAnswer(
        tuple(item for item, _ in scored),
        tuple(score for _, score in scored),
        latency_ms=float(latency_ms),
        version=version,
    )


def _differences(
    chance: random.Random, mesh: list[tuple[int, float]], model: list[tuple[int, float]]
) -> tuple[Difference, ...]:
    ids = {"mesh": [item for item, _ in mesh], "model": [item for item, _ in model]}
    causes = {"mesh": Cause.MESH_ANN_MISS, "model": Cause.MODEL_ANN_MISS}
    found = []
    for side, other in (("mesh", "model"), ("model", "mesh")):
        for rank, item in enumerate(ids[other], 1):
            if item not in ids[side]:
                cause = causes[side] if chance.random() < 0.7 else chance.choice(list(Cause))
                found.append(Difference(item, side, rank, cause))
    return tuple(found)


def _text(chance: random.Random) -> ItemText:
    title = f"The {chance.choice(_FIRST)} {chance.choice(_SECOND)}{chance.choice(_THIRD)}"
    fields = {"year": str(chance.randint(1962, 2026)), "genres": ", ".join(chance.sample(_GENRES, 2))}
    return ItemText(title, fields)
