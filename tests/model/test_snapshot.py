import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshfold.model.build import publish
from meshfold.model.errors import SnapshotRefused
from meshfold.model.retrieval import RetrievalModel
from meshfold.model.snapshot import FILTER, LISTS, MANIFEST, TENSOR_FILES, Content, Snapshot
from meshfold.model.store import Store
from meshfold.model.tensor_file import map_tensors, mark_of, write_tensors

Edit = Callable[[dict[str, Any]], None]


@pytest.fixture
def copy(snapshot_folder: Path, tmp_path: Path) -> Path:
    """A copy of the snapshot to be spoilt."""
    return Path(shutil.copytree(snapshot_folder, tmp_path / "copy"))


def edit(folder: Path, change: Edit, *, forge: bool = False) -> None:
    """Changes the manifest; with forge also its version, as one who knows the format would."""
    raw = json.loads((folder / MANIFEST).read_text())
    change(raw)
    if forge:
        raw["version"] = Content.from_json(raw["content"]).version
    (folder / MANIFEST).write_text(json.dumps(raw))


def test_what_was_published_is_opened_with_all_that_it_says(snapshot_folder: Path) -> None:
    snapshot = Snapshot.open(snapshot_folder, "shop")
    raw = json.loads((snapshot_folder / MANIFEST).read_text())
    assert snapshot.version == raw["version"] == snapshot.content.version
    assert re.fullmatch("[0-9a-f]{64}", snapshot.version)
    assert snapshot_folder.name.endswith(snapshot.version[:12])
    assert snapshot.content.items == 700
    assert snapshot.built["recall"]["depth"] == 700
    assert Snapshot.open(snapshot_folder).version == snapshot.version


def test_vocabularies_texts_and_columns_are_those_of_the_catalog(snapshot_folder: Path) -> None:
    snapshot = Snapshot.open(snapshot_folder)
    ids = snapshot.items["item_ids"].numpy()[snapshot.index["rows"].numpy()]
    vocabularies = {name: list(words) for name, words in snapshot.vocabularies().items()}
    assert vocabularies["language"] == [f"l{i}" for i in range(5)]
    assert sorted(vocabularies) == ["language", "tags"]
    assert list(snapshot.texts()["title"]) == [f"title {i}" if i % 7 != 5 else "" for i in ids.tolist()]
    columns, offsets = snapshot.columns()
    has_year = ids % 7 != 2
    assert (columns[2].numpy()[has_year] == ids[has_year] * 31 % 101).all()
    assert [o.numel() for o in offsets] == [0, 701, 0, 701, 0]
    assert snapshot.layout().rows == snapshot.filter["signature"].shape[1]


@pytest.mark.parametrize("name", [*TENSOR_FILES, MANIFEST])
def test_a_missing_file_is_named(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(SnapshotRefused, match=f"{re.escape(name)}: No such file"):
        Snapshot.open(copy)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(SnapshotRefused, match="gone"):
        Snapshot.open(tmp_path / "gone")


@pytest.mark.parametrize("name", TENSOR_FILES)
@pytest.mark.parametrize("keep", [0, 1, 100, -1])
def test_a_truncated_file_is_named(copy: Path, name: str, keep: int) -> None:
    (copy / name).write_bytes((copy / name).read_bytes()[:keep])
    with pytest.raises(SnapshotRefused, match=f"{re.escape(name)}: was changed"):
        Snapshot.open(copy)


@pytest.mark.parametrize("name", TENSOR_FILES)
def test_a_longer_file_is_named(copy: Path, name: str) -> None:
    with (copy / name).open("ab") as file:
        file.write(b"\0")
    with pytest.raises(SnapshotRefused, match=f"{re.escape(name)}: was changed"):
        Snapshot.open(copy)


@settings(deadline=None, max_examples=60, derandomize=True)
@given(st.sampled_from(TENSOR_FILES), st.floats(0, 1, exclude_max=True), st.integers(0, 7))
def test_any_flipped_bit_of_a_tensor_file_is_refused(
    snapshot_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
    name: str,
    where: float,
    bit: int,
) -> None:
    folder = Path(shutil.copytree(snapshot_folder, tmp_path_factory.mktemp("flip") / "copy"))
    raw = bytearray((folder / name).read_bytes())
    raw[int(where * len(raw))] ^= 1 << bit
    (folder / name).write_bytes(raw)
    with pytest.raises(SnapshotRefused, match=re.escape(name)):
        Snapshot.open(folder)
    shutil.rmtree(folder)


def test_a_flipped_bit_of_the_manifest_never_changes_what_is_served(
    snapshot_folder: Path, copy: Path
) -> None:
    published = Snapshot.open(snapshot_folder)
    raw = (copy / MANIFEST).read_bytes()
    refused = 0
    for place in np.random.default_rng(0).integers(0, len(raw) * 8, 150).tolist():
        spoilt = bytearray(raw)
        spoilt[place // 8] ^= 1 << place % 8
        (copy / MANIFEST).write_bytes(spoilt)
        try:
            opened = Snapshot.open(copy)
        except SnapshotRefused:
            refused += 1
        else:
            # `built` is said to be for people, and white space means nothing.
            assert opened.version == published.version
            assert opened.content.to_json() == published.content.to_json()
    assert refused > 75


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: raw.update(format=1), "format 1; this meshfold reads 3"),
        (lambda raw: raw.pop("format"), "format None"),
        (lambda raw: raw.update(version="0" * 64), "it names 000000000000"),
        (lambda raw: raw.update(version=None), "it was changed after it was published"),
        (lambda raw: raw.pop("version"), "invalid content"),
        (lambda raw: raw.pop("built"), "invalid content"),
        (lambda raw: raw.update(content=[]), "invalid content"),
        (lambda raw: raw["content"].pop("items"), "invalid content"),
        (lambda raw: raw["content"].update(items=701), "it was changed after it was published"),
        (lambda raw: raw["content"].update(items="many"), "invalid content"),
        (lambda raw: raw["content"].update(items=float("inf")), "invalid content"),
        (lambda raw: raw["content"].update(scan_budget=1), "it was changed after it was published"),
        (lambda raw: raw["content"].update(files=None), "invalid content"),
        (lambda raw: raw["content"]["files"].popitem(), "it was changed after it was published"),
        (lambda raw: raw["content"]["files"].update(x={"size": 1}), "invalid content"),
        (lambda raw: raw["content"]["schema"].update(surface="feed"), "it was changed after"),
        (lambda raw: raw["content"]["schema"].update(surface="no name"), "invalid content"),
        (lambda raw: raw["content"]["schema"].update(tasks=[]), "invalid content"),
        (lambda raw: raw["content"]["schema"]["fields"].pop(), "it was changed after it was published"),
        (lambda raw: raw["content"]["schema"]["fields"][0].update(kind="x"), "invalid content"),
        (lambda raw: raw["content"]["config"].update(candidates=1), "it was changed after it was published"),
        (lambda raw: raw["content"]["config"].update(candidates=-1), "invalid content"),
        (lambda raw: raw["content"]["config"].pop("merge"), "invalid content"),
    ],
)
def test_an_edited_manifest_is_named(copy: Path, change: Edit, message: str) -> None:
    edit(copy, change)
    with pytest.raises(SnapshotRefused, match=f"manifest.json: .*{message}"):
        Snapshot.open(copy)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "7", "\ufeff{}", "[" * 100_000])
def test_a_manifest_of_another_shape_is_named(copy: Path, text: str) -> None:
    (copy / MANIFEST).write_text(text)
    with pytest.raises(SnapshotRefused, match=r"manifest\.json"):
        Snapshot.open(copy)
    (copy / MANIFEST).write_bytes(b"\xff" + text.encode())
    with pytest.raises(SnapshotRefused, match=r"manifest\.json"):
        Snapshot.open(copy)


def test_a_snapshot_of_another_surface_is_refused(copy: Path) -> None:
    with pytest.raises(SnapshotRefused, match="surface 'shop', not of 'feed'"):
        Snapshot.open(copy, "feed")


def test_a_file_of_another_version_is_refused(copy: Path, catalog_of: Any, tmp_path: Path) -> None:
    vectors = np.random.default_rng(1).standard_normal((700, 8)).astype(np.float32)
    other = publish(catalog_of(vectors), Store(tmp_path / "other"))
    for name in TENSOR_FILES:
        kept = (copy / name).read_bytes()
        (copy / name).write_bytes((other / name).read_bytes())
        with pytest.raises(SnapshotRefused, match=re.escape(name)):
            Snapshot.open(copy)
        (copy / name).write_bytes(kept)
    assert Snapshot.open(copy).version


def kind(field: int, kind: str) -> Edit:
    return lambda raw: raw["content"]["schema"]["fields"][field].update(kind=kind)


def name(field: int, name: str) -> Edit:
    return lambda raw: raw["content"]["schema"]["fields"][field].update(name=name)


@pytest.mark.parametrize(
    "change",
    [
        lambda raw: raw["content"].update(items=699),
        lambda raw: raw["content"].update(dimension=9),
        lambda raw: raw["content"].update(clusters=7),
        lambda raw: raw["content"]["files"].update(other=raw["content"]["files"][FILTER]),
        lambda raw: raw["content"]["files"].pop(FILTER),
        kind(0, "category"),  # a text has no column
        kind(1, "text"),  # and a column no text
        kind(1, "categories"),
        kind(3, "category"),  # a field of integers has no vocabulary
        name(0, "headline"),
        name(1, "lingo"),
        lambda raw: raw["content"]["schema"]["fields"].append({"name": "new", "kind": "integer"}),
    ],
)
def test_a_schema_that_the_files_do_not_hold_is_refused_whatever_its_version(
    copy: Path, change: Edit
) -> None:
    edit(copy, change, forge=True)
    with pytest.raises(SnapshotRefused, match=re.escape(str(copy))):
        Snapshot.open(copy)


@pytest.mark.parametrize(
    "tensor",
    [
        *("signature", "vocabulary.tags.bytes", "offsets.tags", "plane.tags", "plane.year", "bloom.year"),
        *LISTS,
    ],
)
def test_a_tensor_that_the_schema_needs_must_be_there(copy: Path, tensor: str) -> None:
    tensors = {n: t.numpy().copy() for n, t in map_tensors(copy / FILTER).items() if n != tensor}
    (copy / FILTER).unlink()
    mark = write_tensors(copy / FILTER, tensors)
    assert mark == mark_of(copy / FILTER)
    marked = {"size_bytes": mark.size_bytes, "sha256": mark.sha256}
    edit(copy, lambda raw: raw["content"]["files"].update({FILTER: marked}), forge=True)
    with pytest.raises(SnapshotRefused, match=re.escape(FILTER)):
        RetrievalModel.of(Snapshot.open(copy))


@pytest.mark.parametrize("bloom", [[0, 3], [10, 0], [-10, -3], [10, 99], [10, 4], [2**62, 4]])
def test_bloom_rows_that_the_signature_has_not_are_refused(copy: Path, bloom: list[int]) -> None:
    tensors = {n: t.numpy().copy() for n, t in map_tensors(copy / FILTER).items()}
    tensors["bloom.year"] = np.array(bloom)
    (copy / FILTER).unlink()
    mark = write_tensors(copy / FILTER, tensors)
    marked = {"size_bytes": mark.size_bytes, "sha256": mark.sha256}
    edit(copy, lambda raw: raw["content"]["files"].update({FILTER: marked}), forge=True)
    with pytest.raises(SnapshotRefused, match=re.escape(FILTER)):
        Snapshot.open(copy)
