"""The examples' towers, built as their first lines say and served."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from meshfold.commands.__main__ import main
from meshfold.model.data.generated import item_vectors
from meshfold.model.data.vector_file import write_vectors
from meshfold.model.errors import InvalidData
from meshfold.model.exports import export_user_tower
from meshfold.model.filter.text import parse_filter
from meshfold.model.import_path import module_at
from meshfold.model.inputs import hash_of
from meshfold.model.program import load_program
from meshfold.model.program_samples import user_inputs
from meshfold.model.schema import Input, InputKind, Schema
from meshfold.model.store import Store
from meshfold.model.types import Candidates, MaxPerValue, Query
from meshfold.service.runner import Runner

REPOSITORY = Path(__file__).resolve().parent.parent.parent
TRANSFORMER, WRAPPED = (
    f"{REPOSITORY}/examples/{name}.py:tower" for name in ("history_transformer", "wrapped_checkpoint")
)
ITEMS, D = 1200, 64
SCHEMA = """
surface = "movies"
[items]
source = "items.csv"
id = "id"
[fields]
year.kind = "integer"
genres = { kind = "categories", separator = "|" }
rating.kind = "number"
[inputs.country]
kind = "strings"
[tasks.like]
[tasks.watch]
[weights]
like = { default = 1.0, min = 0.0, max = 4.0 }
[formulas]
default = "mixed"
mixed = "weights.like * like + watch"
rated = "rating / 5 + similarity"
recent = "year >= 1990 ? 0.7 * like + 0.3 * watch : 0.2 * watch"
"""


class Rank(nn.Module):
    """An OverArch that multiplies matrices, so that sums in another order would show."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(2 * D, 48), nn.GELU(), nn.Linear(48, 2))

    def forward(self, users: Tensor, items: Tensor, similarities: Tensor) -> Tensor:
        mean = users.mean(1, keepdim=True)
        scores: Tensor = self.layers(torch.cat([items, items * mean], -1))
        return scores.transpose(1, 2) + similarities


@pytest.fixture(scope="module", autouse=True)
def _anywhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The working folder is any, and the checkpoint is made as its example says."""
    folder = tmp_path_factory.mktemp("anywhere")
    checkpoint = folder / "checkpoint.safetensors"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "path", [*sys.path])
        patch.setattr(sys, "argv", ["wrapped_checkpoint.py", "--make", str(checkpoint)])
        patch.setenv("CHECKPOINT", str(checkpoint))
        runpy.run_path(f"{REPOSITORY}/examples/wrapped_checkpoint.py", run_name="__main__")
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Movies 1, 2, ... with vectors of 64 numbers, in a file beside."""
    folder = tmp_path_factory.mktemp("movies")
    rng = np.random.default_rng(0)
    lines = ["id,year,genres,rating"]
    for i in range(1, ITEMS + 1):
        genres = "|".join(f"g{g}" for g in rng.integers(0, 12, 2))
        lines.append(f"{i},{1930 + i % 90},{genres},{rng.random() * 5:.2f}")
    (folder / "items.csv").write_text("\n".join(lines))
    (folder / "schema.toml").write_text(SCHEMA)
    write_vectors(folder / "vectors.parquet", np.arange(1, ITEMS + 1), item_vectors(ITEMS, D), D)
    return folder


@pytest.fixture(scope="module", params=[TRANSFORMER, WRAPPED])
def runner(request: pytest.FixtureRequest, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Runner:
    store = tmp_path_factory.mktemp("store")
    argv = ["build", str(data), "--vectors", str(data / "vectors.parquet"), "--store", str(store)]
    with pytest.MonkeyPatch.context() as patch:
        # An attribute of this module: an import path may name any module that is there.
        patch.setitem(sys.modules, "rank_of_a_test", sys.modules[__name__])
        assert main([*argv, "--user-tower", request.param, "--over-arch", "rank_of_a_test:Rank"]) == 0
    (folder,) = Store(store).published("movies")
    return Runner.open(folder, "movies")


def query(seed: int) -> Query:
    rng = np.random.default_rng(seed)
    filters = (None, '"g3" in genres', "year >= 1990 && rating > 2.5", "year == 1940", '!("g1" in genres)')
    text = filters[seed % 5]
    features: dict[str, Any] = {"country": (f"c{seed}", "unread")} if seed % 3 == 0 else {}
    return Query(
        "movies",
        (1, 20, 100, 1100)[seed % 4],
        history=rng.integers(1, ITEMS + 300, (seed * 13) % 200).astype(np.int64),
        features=features,
        filter=None if text is None else parse_filter(text),
        value_formula=("", "rated", "recent")[seed % 3],
        task_weights={"like": float(seed % 4)} if seed % 3 == 0 and seed % 2 else {},
        max_per_value=MaxPerValue("year", 3) if seed % 6 == 0 else None,
    )


QUERIES = [query(seed) for seed in range(20)]


def bytes_of(c: Candidates) -> tuple[bytes, ...]:
    return tuple(np.asarray(held).tobytes() for held in (c.item_ids, c.values, c.similarities, c.task_scores))


def test_one_answer_alone_in_any_company_and_with_any_threads(runner: Runner) -> None:
    prepared = [runner.prepare(q) for q in QUERIES]
    answers = [runner.run([p])[0] for p in prepared]
    assert sum(len(a.item_ids) > 0 for a in answers) == 20
    alone = [bytes_of(a) for a in answers]
    assert len(set(alone)) == 20
    rng = np.random.default_rng(0)
    before = torch.get_num_threads()
    try:
        # Two threads wait long for each other where others work beside: few queries tell as well.
        for threads, size, count in ((1, 3, 20), (1, 20, 20), (2, 2, 4)):
            torch.set_num_threads(threads)
            order = rng.permutation(20)[:count].tolist()
            for some in (order[i : i + size] for i in range(0, count, size)):
                got = runner.run([prepared[i] for i in some])
                assert [bytes_of(a) for a in got] == [alone[i] for i in some]
    finally:
        torch.set_num_threads(before)


def test_answers_fit_the_request(runner: Runner) -> None:
    for q in QUERIES:
        (answer,) = runner.run([runner.prepare(q)])
        assert len(answer.item_ids) <= q.max_results
        assert not set(list(answer.item_ids)) & set(list(q.history))
        assert (np.diff(answer.values) <= 0).all()
        if q.filter is None and q.max_per_value is None:
            assert len(answer.item_ids) == min(
                q.max_results, ITEMS - len(set(np.asarray(q.history)[np.asarray(q.history) <= ITEMS]))
            )


def inputs_of(history: list[int], country: str = "") -> dict[str, Tensor]:
    schema = Schema("movies", (), ("like", "watch"), inputs=(Input("country", InputKind.STRINGS, 1),))
    inputs = user_inputs(schema, D)
    vectors = np.concatenate(list(item_vectors(ITEMS, D)))
    inputs["history"][0, : len(history)] = torch.tensor(history, dtype=torch.int64)
    for place, item in enumerate(history):
        if item <= ITEMS:
            inputs["history_vectors"][0, place] = torch.from_numpy(vectors[item - 1])
            inputs["in_history"][0, place] = True
    if country:
        inputs["country"][0, 0] = hash_of(country)
    return inputs


def test_the_transformer_is_nearly_the_mean_of_the_history() -> None:
    tower = module_at(TRANSFORMER).eval()
    for history in ([1], [5, 7, 2000, 9], list(range(1, 129))):
        inputs = inputs_of(history)
        mean = inputs["history_vectors"][inputs["in_history"]].mean(0)
        with torch.no_grad():
            out = tower(inputs)
        assert out.shape == (1, 2, D)
        assert (torch.cosine_similarity(out[0], mean.unsqueeze(0)) > 0.8).all()
    with torch.no_grad():
        assert torch.isfinite(tower(inputs_of([]))).all()


def test_the_checkpoint_reads_its_own_tables() -> None:
    tower = module_at(WRAPPED).eval()
    theirs = tower.get_submodule("theirs")
    with torch.no_grad():
        known = tower(inputs_of([3, 500], "de"))
        unknown = tower(inputs_of([3, 500, 501, 2000], "de"))
        own = theirs(torch.tensor([[3, 500]]), torch.tensor([[hash_of("de") % 64 + 1]]))
    assert torch.equal(known, unknown), "ids that it has no row for change nothing"
    assert torch.allclose(known, own, rtol=0, atol=1e-6)
    with torch.no_grad():
        assert not torch.equal(known, tower(inputs_of([3, 500], "fr")))


@pytest.mark.parametrize("path", [TRANSFORMER, WRAPPED])
def test_surfaces_of_other_sizes_are_refused_with_what_was_expected(path: str) -> None:
    schema = Schema("movies", (), ("like", "watch"))
    tower = load_program(export_user_tower(module_at(path), schema, D), "x")
    assert tower(user_inputs(schema, D)).shape == (1, 2, D)
    with pytest.raises(InvalidData):
        export_user_tower(module_at(path), schema, 32)
    with pytest.raises(InvalidData, match=r"gives \(1, 2, 64\).*expected \[1, 1, 64\] float32"):
        export_user_tower(module_at(path), Schema("movies", (), ("like",)), D)
