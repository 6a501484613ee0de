"""`import meshfold`: build from tables in memory, open, ask."""

from __future__ import annotations

import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import Tensor, nn

import meshfold
from meshfold.model.errors import InvalidData, InvalidQuery, UnknownName

N = 300
RNG = np.random.default_rng(0)
VECTORS = RNG.standard_normal((N, 8)).astype(np.float32)
COLUMNS: dict[str, Any] = {
    "item_id": np.arange(N) * 2,
    "year": RNG.integers(1980, 2026, N),
    "genre": [("Comedy", "Drama", None)[i % 3] for i in range(N)],
    "genres": [["a", "b"][: i % 3] for i in range(N)],
    "sizes": [[i % 5, 7] for i in range(N)],
    "price": [Decimal("1.5"), None, Decimal("2.25")] * (N // 3),
    "new": [True, False, None] * (N // 3),
    "title": [f"Clip number {i}" for i in range(N)],
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> meshfold.Model:
    store = tmp_path_factory.mktemp("store")
    meshfold.build(COLUMNS, VECTORS, store=store, tasks=("watch", "like"))
    return meshfold.open(store)


def test_kinds_follow_from_types(model: meshfold.Model) -> None:
    assert model.fields == {
        "year": "integer",
        "genre": "category",
        "genres": "categories",
        "sizes": "integers",
        "price": "number",
        "new": "category",
        "title": "text",
    }
    assert (len(model), model.surface, model.tasks) == (N, "items", ("watch", "like"))
    assert repr(model).startswith("<meshfold.Model items ")


def test_an_answer_is_columns(model: meshfold.Model) -> None:
    answer = model.retrieve(history=[0, 2], filter="year >= 2000", max_results=5, fields="*", explain=True)
    assert isinstance(answer.item_ids, np.ndarray)
    assert len(answer) == len(answer.values) == len(answer.fields["year"]) == 5
    assert all(year >= 2000 for year in answer.fields["year"])
    places = answer.item_ids // 2
    assert answer.fields["genre"] == [COLUMNS["genre"][p] for p in places]
    assert answer.fields["genres"] == [COLUMNS["genres"][p] for p in places]
    assert answer.fields["title"] == [COLUMNS["title"][p] for p in places]
    assert answer.fields["price"] == [
        None if COLUMNS["price"][p] is None else float(COLUMNS["price"][p]) for p in places
    ]
    assert set(answer.task_scores) == {"watch", "like"}
    assert answer.version == model.version
    assert answer.explain["user"] == "known"
    table = answer.to_arrow()
    assert table["item_id"].to_pylist() == answer.item_ids.tolist()
    assert table.column_names[:5] == ["item_id", "value", "similarity", "score_watch", "score_like"]


def test_many_are_answered_as_one_by_one(model: meshfold.Model) -> None:
    requests: list[Any] = [{"history": [2 * i], "max_results": 3 + i} for i in range(4)]
    many = model.retrieve_many(requests)
    for request, answer in zip(requests, many, strict=True):
        alone = model.retrieve(**request)
        assert np.array_equal(alone.item_ids, answer.item_ids)
        assert alone.values.tobytes() == answer.values.tobytes()
    assert model.retrieve_many([]) == []


@pytest.mark.parametrize(
    "history", [[4, 6], (4, 6), np.array([4, 6]), np.array([4, 6], np.int32), pa.array([4, 6])]
)
def test_lists_of_any_library_are_taken(model: meshfold.Model, history: Any) -> None:
    expected = model.retrieve(history=[4, 6], max_results=4)
    assert np.array_equal(model.retrieve(history=history, max_results=4).item_ids, expected.item_ids)


def test_parts_of_the_pass(model: meshfold.Model) -> None:
    vectors = model.embed([{"history": [4]}, {}])
    assert vectors.shape == (2, 2, 8)
    assert vectors[0].any()
    assert not vectors[1].any()
    first, second = model.search(VECTORS[:2] * 10, max_results=3, filter='genre != "Drama"', excluded_ids=[0])
    assert len(first.item_ids) == len(second.similarities) == 3
    assert 0 not in first.item_ids
    scored = model.score([4, 1, 6], history=[8])
    assert np.array_equal(scored.item_ids, [4, 6])
    assert np.array_equal(scored.unknown_ids, [1])
    assert set(scored.task_scores) == {"watch", "like"}


def test_a_cap_and_weights(model: meshfold.Model) -> None:
    answer = model.retrieve(
        history=[4], max_per_value=("genre", 2), task_weights={"watch": 2.0}, fields=["genre"], max_results=50
    )
    assert answer.fields["genre"].count("Comedy") <= 2


@pytest.mark.parametrize(
    ("request_", "error", "message"),
    [
        ({"histroy": [1]}, InvalidQuery, "histroy: is no argument; did you mean 'history'"),
        ({"history": ["a"]}, InvalidQuery, "history: holds strings"),
        ({"history": 3}, InvalidQuery, "history: must be a list"),
        ({"filter": "yeer > 3"}, InvalidQuery, "yeer"),
        ({"filter": "year >"}, InvalidQuery, "line 1"),
        ({"max_results": 0}, InvalidQuery, "max_results"),
        ({"max_per_value": "year"}, InvalidQuery, "max_per_value"),
        ({"filter": 5}, InvalidQuery, "filter"),
        ({"features": [1]}, InvalidQuery, "features"),
        ({"task_weights": {"watch": "a"}}, InvalidQuery, "task_weights"),
        ({"fields": ["nope"]}, InvalidQuery, r"fields\[0\]: no field 'nope'"),
        ({"value_formula": "nope"}, UnknownName, "nope"),
    ],
)
def test_a_request_that_does_not_fit_is_named(
    model: meshfold.Model, request_: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        model.retrieve(**request_)


def _rows() -> list[dict[str, Any]]:
    return [{name: COLUMNS[name][i] for name in ("item_id", "year", "genre")} for i in range(N)]


def test_tables_of_every_kind_give_one_version(tmp_path: Path) -> None:
    held = {name: COLUMNS[name] for name in ("item_id", "year", "genre")}
    versions = set()
    for place, items in enumerate((held, pa.table(held), _rows(), pa.table(held).to_batches()[0])):
        store = tmp_path / str(place)
        meshfold.build(items, VECTORS, store=store)
        versions.add(meshfold.open(store).version)
    with_column = pa.table({**held, "vector": list(VECTORS)})
    meshfold.build(with_column, "vector", store=tmp_path / "column")
    versions.add(meshfold.open(tmp_path / "column").version)
    assert len(versions) == 1


def test_a_data_frame(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    meshfold.build(pandas.DataFrame(_rows()), VECTORS, store=tmp_path)
    frame = meshfold.open(tmp_path).retrieve(history=[4], max_results=3).to_pandas()
    assert len(frame) == 3


def test_strings_as_ids(tmp_path: Path) -> None:
    meshfold.build({"item_id": [f"vid_{i}" for i in range(N)]}, VECTORS, store=tmp_path, surface="clips")
    model = meshfold.open(tmp_path, "clips")
    answer = model.retrieve(history=["vid_3"], excluded_ids=["vid_4"], max_results=N)
    assert isinstance(answer.item_ids, list)
    assert set(answer.item_ids) == {f"vid_{i}" for i in range(N)} - {"vid_3", "vid_4"}


@pytest.mark.parametrize(
    ("items", "options", "message"),
    [
        ({"id": [1]}, {}, "items: there is no column 'item_id'"),
        ({"item_id": [1, 1]}, {}, "column item_id, row 2: row 1 has the id 1, too"),
        ({"item_id": [1, None]}, {}, "column item_id, row 2: the id is missing"),
        ({"item_id": [1, 2], "x": [{"a": 1}, None]}, {}, r"column x must hold .* fields=\{\"x\": \"\"\}"),
        (
            {"item_id": [1, 2], "x": [1, 2]},
            {"fields": {"x": "int"}},
            r"fields\['x'\] is 'int'; expected one of",
        ),
        ({"item_id": [1, 2], "x": [1, 2]}, {"fields": {"y": "integer"}}, "no column 'y'"),
        ({"item_id": [1, 2], "x": ["a", 2]}, {}, "items: cannot be read as a table"),
        ({"item_id": [1, 2], "x": [1]}, {}, "items: cannot be read as a table"),
        ("items.csv", {}, "got str; for files use `meshfold build`"),
        ({"item_id": [1, 2], "p": [1.0, -1.0]}, {"popularity": "p"}, "popularity must be"),
        ({"item_id": [1, 2**63]}, {}, "items: cannot be read as a table"),
        ({"item_id": [1, 2], "g": "ab"}, {}, "items: column g is the text 'ab'; expected a list"),
        (pa.table([[1, 2], [3, 4]], ["item_id", "item_id"]), {}, "two columns are named 'item_id'"),
        ({"item_id": [1, 2]}, {"tasks": "like"}, r"tasks is 'like'; expected a list of names: \['like'\]"),
        ({"item_id": [1, 2]}, {"exclude_history": "no"}, "exclude_history is 'no'; expected True or False"),
        ({"item_id": [1, 2]}, {"formulas": "similarity"}, "formulas is 'similarity'; expected texts by name"),
        ({"item_id": [1, 2, 3]}, {}, r"vectors must be \[3, D\], got \[2, 8\]"),
    ],
)
def test_items_that_cannot_be_built_are_named(
    tmp_path: Path, items: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidData, match=message):
        meshfold.build(items, VECTORS[:2], store=tmp_path, **options)


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        ([[1.0, 2.0], [1.0]], "vectors"),
        ([["a"], ["b"]], "vectors"),
        ([1.0, 2.0], r"vectors: expected \[n, D\] numbers, got \[2\]"),
        (np.ma.masked_array(np.ones((2, 2)), np.eye(2) > 0), "vectors: has a mask"),
        (np.ones((2, 2), complex), "numbers, got complex128"),
        ([[True], [False]], "numbers, got bool"),
        ([[np.nan], [1.0]], "the vector of item 1 holds NaN"),
        ("vector", "there is no column 'vector'"),
    ],
)
def test_vectors_that_cannot_be_built_are_named(tmp_path: Path, vectors: Any, message: str) -> None:
    with pytest.raises(InvalidData, match=message):
        meshfold.build({"item_id": [1, 2]}, vectors, store=tmp_path)


def test_a_tensor_that_learns_is_taken(tmp_path: Path) -> None:
    tensor = torch.from_numpy(VECTORS[:2]).clone().requires_grad_()
    meshfold.build({"item_id": [1, 2]}, tensor, store=tmp_path)
    assert len(meshfold.open(tmp_path).search(tensor, max_results=1)) == 2


def test_rows_may_have_other_keys_than_the_first(tmp_path: Path) -> None:
    rows = [{"item_id": 1}, {"item_id": 2, "year": 1999}]
    meshfold.build(rows, VECTORS[:2], store=tmp_path)
    assert list(meshfold.open(tmp_path).retrieve(filter="year > 1").item_ids) == [2]


def test_a_field_hides_no_column_of_the_answer(tmp_path: Path) -> None:
    items = {"sku": [1, 2], "item_id": ["x", "y"], "value": [6.0, 7.0], "score_relevance": [8.0, 9.0]}
    meshfold.build(items, VECTORS[:2], store=tmp_path, id="sku")
    answer = meshfold.open(tmp_path).retrieve(history=[1], fields="*")
    table = answer.to_arrow()
    assert table["item_id"].to_pylist() == [2]
    assert table["value"].to_pylist() == answer.values.tolist()
    assert table["field_item_id"].to_pylist() == ["y"]
    assert table["field_value"].to_pylist() == [7.0]
    assert table["field_score_relevance"].to_pylist() == [9.0]


def test_a_store_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidData, match="file/store: cannot be written"):
        meshfold.build({"item_id": [1, 2]}, VECTORS[:2], store=tmp_path / "file" / "store")


def test_requests_that_are_none_are_named(model: meshfold.Model) -> None:
    with pytest.raises(InvalidQuery, match="requests: is one request; give a list of them"):
        model.retrieve_many({"history": [2]})  # type: ignore[arg-type]
    with pytest.raises(InvalidQuery, match="request: must be a mapping of arguments, got None"):
        model.retrieve_many([None])  # type: ignore[list-item]
    with pytest.raises(InvalidQuery, match=r"fields: must be a list of names, got 'year'"):
        model.retrieve(fields="year")
    with pytest.raises(InvalidQuery, match=r"vectors: expected \[n, D\] numbers, got \[8\]"):
        model.search(VECTORS[0])


def test_what_no_query_may_hold_is_named(model: meshfold.Model) -> None:
    broken = np.full(8, np.inf, np.float32)
    with pytest.raises(InvalidQuery, match=r'^task_weights\["watch"\]: must be a finite number, got nan'):
        model.retrieve(task_weights={"watch": float("nan")})
    with pytest.raises(InvalidQuery, match=r'^users\[1\].features\["query_vector"\]\[0\]: must be a finite'):
        model.embed([{}, {"features": {"query_vector": broken}}])
    with pytest.raises(InvalidQuery, match=r"^queries\[0\]\[0\]: must be a finite number, got inf"):
        model.search(broken[None])
    with pytest.raises(InvalidQuery, match="^k: must be a whole number, got True"):
        model.search(VECTORS[:1], max_results=True)
    with pytest.raises(InvalidQuery, match=r"^item_ids\[1\]: is an empty string"):
        model.score(["a", ""])


def test_a_store_without_the_surface_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidData, match="0 surfaces"):
        meshfold.open(tmp_path)
    folder = meshfold.build({"item_id": [1, 2]}, VECTORS[:2], store=tmp_path)
    with pytest.raises(InvalidData, match="no surface 'itms'; did you mean 'items'"):
        meshfold.open(tmp_path, "itms")
    assert meshfold.open(folder).surface == "items"
    meshfold.build({"item_id": [1, 2]}, VECTORS[:2], store=tmp_path, surface="others")
    with pytest.raises(InvalidData, match="2 surfaces; name one; known: items, others"):
        meshfold.open(tmp_path)


class _Tower(nn.Module):
    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        history: Tensor = inputs["history_vectors"]
        return history.sum(1, keepdim=True)


class _OverArch(nn.Module):
    def forward(self, user: Tensor, items: Tensor, similarities: Tensor) -> Tensor:
        return torch.tanh(similarities)


def test_modules_and_formulas_are_published(tmp_path: Path) -> None:
    meshfold.build(
        {"item_id": range(N)} | {"year": COLUMNS["year"]},
        VECTORS,
        store=tmp_path,
        user_tower=_Tower(),
        over_arch=_OverArch(),
        formulas={"newest": "relevance + year / 1000.0"},
    )
    answer = meshfold.open(tmp_path).retrieve(
        history=[3], max_results=5, fields=["year"], value_formula="newest"
    )
    expected = answer.task_scores["relevance"] + np.array(answer.fields["year"]) / 1000
    assert np.allclose(answer.values, expected, atol=1e-5)


def test_importing_the_package_imports_no_torch() -> None:
    code = "import sys, meshfold; assert 'torch' not in sys.modules; assert 'build' in meshfold.__all__"
    subprocess.run([sys.executable, "-P", "-c", code], check=True)
    with pytest.raises(AttributeError, match="no attribute 'nope'"):
        meshfold.nope  # noqa: B018
