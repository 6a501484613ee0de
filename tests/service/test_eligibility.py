"""No ineligible item is returned and no eligible one is lost, whatever the filter."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any as AnyType

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meshfold.model.build import publish
from meshfold.model.data.catalog import Catalog, Column
from meshfold.model.filter.expression import All, Any, AtLeast, Exists, Expression, Match, Not, Range
from meshfold.model.schema import Field, FieldKind, Schema
from meshfold.model.store import Store
from meshfold.model.types import QUERY_VECTOR, Query
from meshfold.service.runner import Runner

FILTERS = 10_000
FILTERS_AT_A_TIME = 50
ITEMS, DIMENSION = 500, 6

LOW, HIGH = -(2**63), 2**63 - 1
# Few enough for planes, with strings that look alike and that two fields share.
STRINGS = ["", "a", "A", "é", "e\u0301", "日本語", "😀", "a\x00", " a", "1", "0", "true", "w7"]
WORDS = [f"w{i}" for i in range(100)] + STRINGS
EXTREMES = [LOW, LOW + 1, -(2**53) - 1, -1, 0, 1, 2**53, 2**53 + 1, HIGH - 1, HIGH]
INTEGERS = EXTREMES + [7 * i - 300 for i in range(100)]
NUMBERS = [
    *(-math.inf, math.inf, -0.0, 0.0, 5e-324, -5e-324, 2.2e-308, 1.8e308, -1.8e308, 0.1, -0.1, 1.0, -1.0),
    *(2.0**53, 2.0**53 + 2, 2.0**63, -(2.0**63), 1e300, 7.0, 0.30000000000000004, 0.3),
]
CHOICES: Mapping[str, tuple[FieldKind, list[AnyType]]] = {
    "kind": (FieldKind.CATEGORY, STRINGS),
    "shop": (FieldKind.CATEGORY, WORDS),
    "tags": (FieldKind.CATEGORIES, STRINGS),
    "labels": (FieldKind.CATEGORIES, WORDS),
    "level": (FieldKind.INTEGER, EXTREMES),
    "code": (FieldKind.INTEGER, INTEGERS),
    "groups": (FieldKind.INTEGERS, EXTREMES),
    "refs": (FieldKind.INTEGERS, INTEGERS),
    "price": (FieldKind.NUMBER, NUMBERS),
    "void": (FieldKind.INTEGER, []),
    "same": (FieldKind.CATEGORY, ["x"]),
}


@dataclass(frozen=True, eq=False)
class World:
    """A published catalog and its rows as Python values. ranking, popular: all item ids, best first."""

    runner: Runner
    item_ids: list[int]
    rows: dict[str, list[list[AnyType]]]
    vector: AnyType
    ranking: list[int]
    popular: list[int]

    def passing(self, expression: Expression) -> set[int]:
        """The places of the items that pass, by the definitions in model/filter/expression.py."""
        everything = range(ITEMS)
        match expression:
            case Match(field, strings, ints):
                wanted = {*strings, *ints}
                return {i for i in everything if not wanted.isdisjoint(self.rows[field][i])}
            case Range(field, minimum, maximum, inclusive):
                low = -math.inf if minimum is None else minimum
                high = math.inf if maximum is None else maximum
                held = [(i, v[0]) for i, v in enumerate(self.rows[field]) if v]
                if inclusive:
                    return {i for i, v in held if low <= v <= high}
                return {
                    i
                    for i, v in held
                    if (minimum is None or minimum < v) and (maximum is None or v < maximum)
                }
            case Exists(field):
                return {i for i in everything if self.rows[field][i]}
            case All(filters):
                return set(everything).intersection(*map(self.passing, filters))
            case Any(filters):
                return set().union(*map(self.passing, filters))
            case AtLeast(count, filters):
                held_by = Counter(i for inner in filters for i in self.passing(inner))
                return {i for i in everything if held_by[i] >= count}
            case Not(inner):
                return set(everything) - self.passing(inner)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    rng = np.random.default_rng(0)

    def draw(kind: FieldKind, pool: list[AnyType]) -> list[AnyType]:
        if not pool or (rng.random() < 0.2 and pool != ["x"]):
            return []
        most = int(rng.choice([1, 2, 3, 30])) if kind.many else 1
        return [pool[i] for i in rng.integers(0, len(pool), most)]

    rows = {name: [draw(kind, pool) for _ in range(ITEMS)] for name, (kind, pool) in CHOICES.items()}
    columns = {}
    for name, (kind, _) in CHOICES.items():
        if kind is FieldKind.NUMBER:
            columns[name] = Column.of_numbers(np.array([v[0] if v else np.nan for v in rows[name]]))
        elif kind.holds_strings:
            columns[name] = Column.of_strings(kind, rows[name])
        else:
            columns[name] = Column.of_integers(kind, rows[name])
    ids = rng.permutation([LOW, HIGH, 0, -1, *range(1000, 1000 + ITEMS - 4)])
    vectors = rng.standard_normal((ITEMS, DIMENSION)).astype(np.float32)
    vectors[rng.random(ITEMS) < 0.1] = 0
    popularity = rng.integers(0, 20, ITEMS).astype(np.float32)
    fields = tuple(Field(name, kind) for name, (kind, _) in CHOICES.items())
    schema = Schema("nasty", fields, ("like", "watch"))
    catalog = Catalog(schema, ids, columns, lambda: iter([vectors]), DIMENSION, {}, popularity)
    runner = Runner.open(publish(catalog, Store(tmp_path_factory.mktemp("store"))), "nasty")
    vector = rng.standard_normal(2 * DIMENSION).astype(np.float32)
    everything = Query("nasty", ITEMS, features={QUERY_VECTOR: vector})
    (ranking,) = runner.run([runner.prepare(everything)])
    assert sorted(list(ranking.item_ids)) == sorted(ids.tolist())
    return World(
        runner,
        ids.tolist(),
        rows,
        vector,
        np.asarray(ranking.item_ids).tolist(),
        sorted(ids.tolist(), key=lambda i: (-popularity[ids.tolist().index(i)], i)),
    )


@st.composite
def matches(draw: st.DrawFn) -> Match:
    name = draw(st.sampled_from(list(CHOICES)))
    kind, pool = CHOICES[name]
    if kind.holds_strings:
        strings = draw(st.lists(st.sampled_from([*pool, "w7", "nowhere", "1"]), min_size=1, max_size=4))
        return Match(name, strings=tuple(strings))
    ints = st.sampled_from([i for i in pool if isinstance(i, int)] or EXTREMES) | st.integers(-3, 3)
    return Match(name, ints=tuple(draw(st.lists(ints | st.sampled_from(EXTREMES), min_size=1, max_size=4))))


bounds = (
    st.none() | st.sampled_from(NUMBERS) | st.sampled_from(INTEGERS).map(float) | st.floats(allow_nan=False)
)
ordered = [name for name, (kind, _) in CHOICES.items() if kind.ordered]
ranges = st.builds(Range, st.sampled_from(ordered), bounds, bounds, st.booleans())
terms = st.one_of(matches(), matches(), ranges, st.builds(Exists, st.sampled_from(list(CHOICES))))


@st.composite
def expressions(draw: st.DrawFn, depth: int = 3) -> Expression:
    kind = draw(st.integers(0, 6)) if depth else 0
    if kind < 2:
        return draw(terms)
    if kind == 2:
        return Not(draw(expressions(depth - 1)))
    inner = tuple(draw(expressions(depth - 1)) for _ in range(draw(st.integers(0, 3))))
    if kind == 3:
        return All(inner)
    if kind in (4, 5):
        return Any(inner)
    return AtLeast(draw(st.integers(0, len(inner) + 1)), inner)


@dataclass(frozen=True)
class Asked:
    filter: Expression
    max_results: int
    personal: bool
    excluded: tuple[int, ...]
    history: tuple[int, ...]


places = st.lists(st.integers(0, ITEMS - 1), max_size=3).map(tuple)
asked = st.builds(Asked, expressions(), st.sampled_from([ITEMS, ITEMS, 1, 20]), st.booleans(), places, places)

seen = Counter[str]()


@settings(
    max_examples=FILTERS // FILTERS_AT_A_TIME,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)
@given(st.lists(asked, min_size=FILTERS_AT_A_TIME, max_size=FILTERS_AT_A_TIME))
def check_filters(world: World, batch: list[Asked]) -> None:
    ids = np.array(world.item_ids, np.int64)
    queries = []
    for a in batch:
        # Popular items answer where nothing is known, so that a history needs a vector beside it.
        features = {QUERY_VECTOR: world.vector if a.personal else np.zeros(DIMENSION, np.float32)}
        queries.append(
            Query(
                "nasty",
                a.max_results,
                filter=a.filter,
                features=features,
                excluded_ids=np.append(ids[list(a.excluded)], 12345),
                history=ids[list(a.history)],
                explain=True,
            )
        )
    answers = world.runner.run([world.runner.prepare(query) for query in queries])
    for a, answer in zip(batch, answers, strict=True):
        eligible = world.passing(a.filter) - {*a.excluded, *a.history}
        wanted = {world.item_ids[i] for i in eligible}
        order = world.ranking if a.personal else world.popular
        found = list(answer.item_ids)
        assert set(found) <= wanted, f"ineligible items came for {a}"
        assert len(found) == min(a.max_results, len(wanted)), f"eligible items are missing for {a}"
        assert found == [i for i in order if i in wanted][: a.max_results], a
        assert answer.explain["eligible"] == str(len(wanted))
        seen.update(
            filters=1, nothing=not wanted, everything=len(wanted) > ITEMS - 7, some=0 < len(wanted) < 400
        )


def test_filters_pass_just_the_items_that_plain_python_passes(world: World) -> None:
    seen.clear()
    check_filters(world)
    assert seen["filters"] >= FILTERS
    # Neither kind of filter crowds out the others.
    assert min(seen["nothing"], seen["everything"]) > FILTERS / 50
    assert seen["some"] > FILTERS / 5
