"""Snapshots whose seals are right and whose tensors are absurd: refused with the file, the tensor and the place."""

from __future__ import annotations

import io
import json
import re
import shutil
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from meshfold.kernels.value.formula import ValueOp
from meshfold.model.build import publish
from meshfold.model.data.catalog import number_keys
from meshfold.model.errors import SnapshotRefused
from meshfold.model.exports import export_over_arch, export_user_tower
from meshfold.model.retrieval import RetrievalModel
from meshfold.model.snapshot import (
    INDEX,
    MANIFEST,
    OVER_ARCH,
    TENSOR_FILES,
    USER_TOWER,
    Content,
    Snapshot,
)
from meshfold.model.snapshot_check import TensorFile
from meshfold.model.store import Store
from meshfold.model.tensor_file import map_tensors, mark_of, write_tensors

Array = npt.NDArray[Any]
Change = Callable[[Array], Array]
LAST = np.iinfo(np.int64)


@pytest.fixture
def copy(snapshot_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(snapshot_folder, tmp_path / "copy"))


def seal(folder: Path, edit: Callable[[dict[str, Any]], None] = lambda raw: None) -> None:
    """Makes marks and version those of what the folder holds."""
    raw = json.loads((folder / MANIFEST).read_text())
    edit(raw)
    files = raw["content"]["files"]
    files.update({name: asdict(mark_of(folder / name)) for name in files})
    raw["version"] = Content.from_json(raw["content"]).version
    (folder / MANIFEST).write_text(json.dumps(raw))


def change(folder: Path, tensor: str, how: Change) -> str:
    """Changes a tensor; returns its file."""
    for file in TENSOR_FILES:
        tensors = {name: held.numpy().copy() for name, held in map_tensors(folder / file).items()}
        if tensor in tensors:
            tensors[tensor] = how(tensors[tensor])
            (folder / file).unlink()
            write_tensors(folder / file, tensors)
            seal(folder)
            return file
    raise AssertionError(f"no file has {tensor}")


def put(*values: float, at: int = 0) -> Change:
    """Writes values over those from a place on."""

    def put(array: Array) -> Array:
        end = at + len(values)
        array.reshape(-1)[at : end if end else None] = values
        return array

    return put


def to(dtype: npt.DTypeLike) -> Change:
    return lambda array: array.astype(dtype)


def shorter(array: Array) -> Array:
    return array[:-1]


def backwards(array: Array) -> Array:
    return np.ascontiguousarray(array[::-1])


def flat(array: Array) -> Array:
    return array.reshape(-1)


@pytest.mark.parametrize(
    ("tensor", "how", "why"),
    [
        # Index: offsets of clusters.
        ("offsets", put(1), "holds 1 at 0; expected 0"),
        ("offsets", put(701, at=-1), r"holds 701 at \d+; expected 700"),
        ("offsets", put(800, at=3), "at 4; expected at least the one before it"),
        ("offsets", put(-5, at=3), "holds -5 at 3; expected at least"),
        ("offsets", to("int32"), r"needs offsets \[\d+\] int64, the file has \[\d+\] int32"),
        ("offsets", shorter, r"needs offsets \[\d+\] int64"),
        # Rows and positions, which are one another's inverse.
        ("rows", put(700, at=9), "holds 700 at 9; expected between 0 and 699"),
        ("rows", put(-1, at=9), "holds -1 at 9"),
        ("rows", lambda a: np.where(a == 5, 6, a), "lacks 5; expected each number below 700 once"),
        ("rows", to("int64"), r"needs rows \[700\] int32"),
        ("positions", put(700), "holds 700 at 0; expected between"),
        ("positions", put(LAST.min), "expected between"),
        ("positions", backwards, "at 0; expected the position of the item of that row"),
        ("popular", put(700), "holds 700 at 0"),
        ("popular", lambda a: np.where(a == 5, 6, a), "lacks 5"),
        ("item_ids", put(7, 7), "holds 7 at 1; expected more than the one before it"),
        ("item_ids", backwards, "expected more than the one before it"),
        # Scales.
        *(
            (tensor, put(value, at=2), "at 2; expected a number between 0 and 1e")
            for tensor in ("units", "centroid_units", "centroid_spreads", "popularity")
            for value in (np.nan, np.inf, -np.inf, -1e-30, 1e21)
        ),
        ("codes", to("uint8"), r"needs codes \[700, 8\] int8"),
        ("residuals", flat, r"needs residuals \[700, 8\] int8, the file has \[5600\] int8"),
        ("centroids", shorter, "needs centroids"),
        # Strings.
        ("text.title.offsets", put(5, 3, at=1), "holds 3 at 2; expected at least"),
        ("text.title.offsets", put(10**9, at=-1), "holds 1,000,000,000 at 700"),
        ("text.title.bytes", put(0xFF, at=12), "holds bytes that are not UTF-8 in string 1"),
        ("text.title.bytes", to("int8"), r"needs text\.title\.bytes \[any\] uint8"),
        ("vocabulary.tags.offsets", lambda a: a[:0], "is empty; expected at least one offset"),
        ("vocabulary.tags.offsets", shorter, "expected"),
        ("vocabulary.tags.bytes", put(0xC3, 0xA4, at=1), "holds bytes that are not UTF-8 in string 1"),
        # Columns.
        ("column.language", put(5), "holds 5 at 0; expected between 0 and 4"),
        ("column.language", put(-1), "holds -1 at 0"),
        ("column.tags", put(90), "holds 90 at 0; expected between 0 and 29"),
        ("column.tags", shorter, "offsets.tags holds"),
        ("offsets.tags", put(2, 1, at=1), "expected at least the one before it"),
        ("offsets.groups", put(-1), "holds -1 at 0; expected 0"),
        ("offsets.year", lambda a: np.zeros(701, np.int64), r"needs offsets\.year \[0\] int64"),
        ("column.year", to("float32"), r"needs column\.year \[700\] int32 or int64"),
        ("column.price", to("int32"), r"needs column\.price \[700\] int64"),
        ("column.price", put(int(number_keys(np.array([np.inf]))[0]) + 1), "expected between"),
        ("plane.language", put(9, at=-1), "holds 9 at 4; expected between 0 and 4"),
        ("plane.language", backwards, "expected more than the one before it"),
        ("bloom.year", put(2**31), "holds 2,147,483,648 at 0"),
        ("bloom.year", put(0), "holds 0 at 0; expected between 1"),
        ("bloom.year", put(9, at=1), "holds 9 at 0; expected between 1 and 8"),
        ("bloom.year", to("float64"), r"needs bloom\.year \[2\] int64"),
        # Posting lists.
        ("lists.positions", put(700, at=3), "holds 700 at 3; expected between 0 and 699"),
        ("lists.positions", put(2**31 - 1, at=3), "expected between"),
        ("lists.positions", put(-1, at=3), "holds -1 at 3"),
        ("lists.positions", put(9, 9), "holds 9 at 1; expected more than the one before it"),
        ("lists.offsets", put(1), "holds 1 at 0; expected 0"),
        ("lists.offsets", put(LAST.max, at=1), "at 2; expected at least the one before it"),
        ("lists.fields", put(LAST.max, at=2), "at 3; expected at least the one before it"),
        ("lists.values", backwards, "expected more than the one before it"),
        ("lists.values", shorter, "needs lists.offsets"),
        # The signature.
        ("signature", put(-1, at=-1), r"has bits beyond item 699 in row \d+"),
        ("signature", to("float64"), "needs signature"),
        ("signature", lambda a: a[:, 1:], "needs signature"),
    ],
)
def test_an_absurd_tensor_is_refused_by_name(copy: Path, tensor: str, how: Change, why: str) -> None:
    file = change(copy, tensor, how)
    with pytest.raises(SnapshotRefused, match=f"{re.escape(str(copy / file))}: .*{why}"):
        Snapshot.open(copy)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("items", 0),
        ("items", -1),
        ("items", 2**31),
        ("dimension", 0),
        ("dimension", 10**9),
        ("clusters", 0),
        ("clusters", 701),
        ("scan_budget", -1),
        ("scan_budget", 2**63),
    ],
)
def test_a_number_that_nothing_could_work_with_is_refused(copy: Path, key: str, value: int) -> None:
    raw = json.loads((copy / MANIFEST).read_text())
    raw["content"][key] = value
    (copy / MANIFEST).write_text(json.dumps(raw))
    with pytest.raises(SnapshotRefused, match=f"manifest.json: .*{key} must lie in"):
        Snapshot.open(copy)


def test_more_tasks_than_a_server_could_answer_for_are_refused(copy: Path) -> None:
    raw = json.loads((copy / MANIFEST).read_text())
    raw["content"]["schema"]["tasks"] = [f"t{i}" for i in range(5000)]
    (copy / MANIFEST).write_text(json.dumps(raw))
    with pytest.raises(SnapshotRefused, match="manifest.json: .*tasks must lie in 1 to 1024, got 5000"):
        Snapshot.open(copy)


@pytest.mark.parametrize("constant", [float("nan"), float("inf")])
def test_a_formula_with_a_constant_that_is_no_number_is_refused(copy: Path, constant: float) -> None:
    raw = json.loads((copy / MANIFEST).read_text())
    (program, *_) = raw["content"]["value"]["programs"].values()
    program["constants"].append(constant)
    (copy / MANIFEST).write_text(json.dumps(raw))
    with pytest.raises(SnapshotRefused, match="manifest.json: .*no finite number"):
        Snapshot.open(copy)


@pytest.mark.parametrize("place", [1, -1, 10**30])
def test_a_step_that_reads_a_place_its_operator_has_not_is_refused(copy: Path, place: int) -> None:
    raw = json.loads((copy / MANIFEST).read_text())
    steps = [step for of in raw["content"]["value"]["programs"].values() for step in of["steps"]]
    adding = next(step for step in steps if ValueOp(step[0]) is ValueOp.ADD)
    adding[1] = place
    (copy / MANIFEST).write_text(json.dumps(raw))
    with pytest.raises(SnapshotRefused, match=f"manifest.json: .*reads ADD {place} of 0"):
        Snapshot.open(copy)


def test_a_version_is_checked_once(
    snapshot_folder: Path, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[Path] = []
    check = Snapshot.check

    def counted(snapshot: Snapshot) -> None:
        checked.append(snapshot.folder)
        check(snapshot)

    monkeypatch.setattr(Snapshot, "check", counted)
    seal(copy, lambda raw: raw["content"].update(scan_budget=17_000))
    for _ in range(2):
        Snapshot.open(copy)
        Snapshot.open(snapshot_folder)
    assert checked.count(copy) == 1
    change(copy, "units", put(np.nan))
    for _ in range(2):
        with pytest.raises(SnapshotRefused, match="units holds nan"):
            Snapshot.open(copy)
    assert checked.count(copy) == 3


def test_a_number_that_begins_between_places_of_its_kind_is_refused(copy: Path) -> None:
    # The format's reader lets a tensor begin anywhere.
    tensors = {name: held.numpy() for name, held in map_tensors(copy / INDEX).items()}
    header, data, end = {}, [np.zeros(1, np.uint8).tobytes()], 1
    header["one_byte"] = {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}
    for name, array in tensors.items():
        kind = {"int8": "I8", "int32": "I32", "int64": "I64", "float32": "F32"}[str(array.dtype)]
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [end, end + array.nbytes]}
        data.append(array.tobytes())
        end += array.nbytes
    text = json.dumps(header).encode()
    (copy / INDEX).write_bytes(len(text).to_bytes(8, "little") + text + b"".join(data))
    seal(copy)
    with pytest.raises(SnapshotRefused, match=re.escape(str(copy / INDEX))):
        Snapshot.open(copy)


def test_strings_are_whole_across_the_parts_they_are_read_in() -> None:
    words = ["ä" * 300_000, "", "x" * 900_000, "", *["öß"] * 400_000]
    data = np.frombuffer("".join(words).encode(), np.uint8).copy()
    ends = np.cumsum([len(word.encode()) for word in words])
    offsets = np.concatenate([np.zeros(1, np.int64), ends])
    file = TensorFile(Path("x"), {"a.offsets": torch.from_numpy(offsets), "a.bytes": torch.from_numpy(data)})
    assert file.strings("a", len(words)) == len(words)
    offsets[-5] -= 1
    with pytest.raises(
        SnapshotRefused, match=rf"a\.bytes holds bytes that are not UTF-8 in string {len(words) - 4:,}"
    ):
        file.strings("a", len(words))


def test_the_first_wrong_place_is_named_wherever_it_is() -> None:
    file = TensorFile(Path("x"), {})
    for place in (1, 2**20 - 1, 2**20, 2**20 + 1, 2**21 + 6):
        tensor = torch.arange(2**21 + 7)
        tensor[place] = -1
        with pytest.raises(SnapshotRefused, match=f"x: a holds -1 at {place:,}; expected at least"):
            file.ascending("a", tensor)
        with pytest.raises(SnapshotRefused, match=f"x: a holds -1 at {place:,}; expected between"):
            file.within("a", tensor, 0, 2**40)
        with pytest.raises(SnapshotRefused, match="x: a holds -1"):
            file.permutation("a", tensor)


class Looking(torch.nn.Module):
    """A user tower that reads a table of so many rows, by what a request says."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.table = torch.nn.Embedding(rows, 8)

    def forward(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        near = inputs["history"].clamp(min=0) % 50
        told: torch.Tensor = self.table(near).mean(1)
        return torch.stack([told, told], 1)


class Ranking(torch.nn.Module):
    def __init__(self, dimension: int = 8) -> None:
        super().__init__()
        self.weights = torch.nn.Parameter(torch.ones(dimension))

    def forward(self, users: torch.Tensor, items: torch.Tensor, similarities: torch.Tensor) -> torch.Tensor:
        told: torch.Tensor = similarities + (items * self.weights).sum(-1).unsqueeze(1)
        return told


@pytest.fixture(scope="module")
def with_programs(tmp_path_factory: pytest.TempPathFactory, catalog_of: Any) -> Path:
    catalog = catalog_of(np.random.default_rng(0).standard_normal((100, 8)).astype(np.float32))
    programs = {
        USER_TOWER: export_user_tower(Looking(50), catalog.schema, 8),
        OVER_ARCH: export_over_arch(Ranking(), catalog.schema, 8),
    }
    return publish(catalog, Store(tmp_path_factory.mktemp("store")), programs=programs)


def opened_with(folder: Path, name: str, data: bytes) -> None:
    (folder / name).write_bytes(data)
    seal(folder)
    RetrievalModel.of(Snapshot.open(folder))


def packed(entries: Mapping[str, bytes]) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        for name, data in entries.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return written.getvalue()


@pytest.mark.parametrize("name", [USER_TOWER, OVER_ARCH])
def test_a_program_of_other_inputs_is_refused_when_it_is_loaded(
    with_programs: Path, tmp_path: Path, name: str
) -> None:
    folder = Path(shutil.copytree(with_programs, tmp_path / "copy"))
    other = {USER_TOWER: OVER_ARCH, OVER_ARCH: USER_TOWER}[name]
    with pytest.raises(SnapshotRefused, match=f"{re.escape(str(folder / name))}: .*cannot be run"):
        opened_with(folder, name, (folder / other).read_bytes())


def test_a_program_whose_tables_are_smaller_than_its_graph_says_is_refused(
    with_programs: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(with_programs, tmp_path / "copy"))
    with zipfile.ZipFile(folder / USER_TOWER) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    (name,) = (name for name in entries if name.endswith("weights_config.json"))
    assert entries[name].count(b'{"as_int": 50}') == 1
    entries[name] = entries[name].replace(b'{"as_int": 50}', b'{"as_int": 10}')
    path = re.escape(str(folder / USER_TOWER))
    with pytest.raises(SnapshotRefused, match=rf"{path}: table.weight is \[10, 8\] .* declares \[50, 8\]"):
        opened_with(folder, USER_TOWER, packed(entries))


@pytest.mark.parametrize(
    "operator", ["_reshape_alias.default", "_sparse_coo_tensor_unsafe.default", "resize_.default"]
)
def test_an_operator_that_takes_places_on_trust_is_refused(
    with_programs: Path, tmp_path: Path, operator: str
) -> None:
    folder = Path(shutil.copytree(with_programs, tmp_path / "copy"))
    with zipfile.ZipFile(folder / OVER_ARCH) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    (name,) = (name for name in entries if name.endswith("models/model.json"))
    graph = json.loads(entries[name])
    graph["graph_module"]["graph"]["nodes"][0]["target"] = f"torch.ops.aten.{operator}"
    entries[name] = json.dumps(graph).encode()
    with pytest.raises(
        SnapshotRefused, match=rf"calls torch\.ops\.aten\.{operator}, which is no tensor operator"
    ):
        opened_with(folder, OVER_ARCH, packed(entries))
