"""A snapshot: one published version of towers, OverArch, index and fields, named by a hash of its content.

manifest.json has two parts. The version is the hash of `content` (schema, config, calibration, size and hash of each
file). `built` is not hashed (time, versions of software, measured recall). The other files are mapped tensors and
programs.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from torch import Tensor

from meshfold.kernels.filter.steps import PostingLists
from meshfold.model.config import IndexConfig, Precision
from meshfold.model.errors import InvalidData, MeshfoldError, SnapshotRefused
from meshfold.model.filter.bloom import Bloom
from meshfold.model.filter.index import FieldRows, FilterLayout
from meshfold.model.item_ids import IntegerIds, ItemIds, StringIds
from meshfold.model.program import Program, read_program
from meshfold.model.schema import IdKind, Schema
from meshfold.model.snapshot_check import TensorFile, check_filter, check_index, check_items, check_signature
from meshfold.model.strings import PackedStrings
from meshfold.model.tensor_file import FileMark, check_mark, map_tensors, read_whole
from meshfold.model.value.formulas import ValueFormulas

FORMAT = 3
MANIFEST = "manifest.json"
INDEX, ITEMS, FILTER = "index.safetensors", "items.safetensors", "filter.safetensors"
TENSOR_FILES = (INDEX, ITEMS, FILTER)
# Posting lists, in the order of kernels/filter/steps.py.
LISTS = ("lists.fields", "lists.values", "lists.offsets", "lists.positions")
# Programs that a snapshot may hold; see model/program.py.
USER_TOWER, ITEM_TOWER, OVER_ARCH = "user_tower.pt2", "item_tower.pt2", "over_arch.pt2"
PROGRAMS = (USER_TOWER, ITEM_TOWER, OVER_ARCH)
# Limit of a manifest; one with hundreds of fields and formulas has less than a hundredth of it.
MOST_MANIFEST_BYTES = 16 << 20
# Limits of a snapshot's sizes, checked before memory is allocated for it.
_MOST_ITEMS, _MOST_DIMENSION, _MOST_TASKS, _MOST_INPUT_VALUES = 2**31 - 1, 65_536, 1024, 1 << 20

# Versions whose tensors this process has checked. Equal versions have equal bytes.
_checked: set[str] = set()


@dataclass(frozen=True, eq=False)
class Content:
    """The content of a snapshot, whose hash is its version.

    scan_budget: number of survivors that a query scores, fewer where fewer exist. items, dimension, clusters: sizes.
    value: the compiled formulas. precision: of the OverArch; float32 without one.
    """

    schema: Schema
    config: IndexConfig
    items: int
    dimension: int
    clusters: int
    scan_budget: int
    value: ValueFormulas
    files: Mapping[str, FileMark]
    precision: Precision = Precision.FLOAT32

    def __post_init__(self) -> None:
        """Raises InvalidData for sizes outside the limits."""
        for name, number, low, high in (
            ("items", self.items, 1, _MOST_ITEMS),
            ("dimension", self.dimension, 1, _MOST_DIMENSION),
            ("clusters", self.clusters, 1, self.items),
            ("scan_budget", self.scan_budget, 0, _MOST_ITEMS),
            ("tasks", len(self.schema.tasks), 1, _MOST_TASKS),
            ("values of inputs", sum(i.length for i in self.schema.inputs), 0, _MOST_INPUT_VALUES),
        ):
            if not low <= number <= high:
                raise InvalidData(f"{name} must lie in {low} to {high}, got {number}")
        if self.precision is not Precision.FLOAT32 and OVER_ARCH not in self.files:
            raise InvalidData(f"precision is {self.precision}, but the snapshot has no OverArch")

    def without_over_arch(self) -> Content:
        """The content without its OverArch, so that similarities are the task scores."""
        files = {name: mark for name, mark in self.files.items() if name != OVER_ARCH}
        return replace(self, files=files, precision=Precision.FLOAT32)

    @property
    def version(self) -> str:
        """The SHA-256 of the content, as 64 hex digits."""
        text = json.dumps({"format": FORMAT, **self.to_json()}, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        # float32 is left out, so that versions of older snapshots stay valid.
        named = {} if self.precision is Precision.FLOAT32 else {"precision": self.precision.value}
        return named | {
            "schema": self.schema.to_json(),
            "config": self.config.to_json(),
            "items": self.items,
            "dimension": self.dimension,
            "clusters": self.clusters,
            "scan_budget": self.scan_budget,
            "value": self.value.to_json(),
            "files": {name: asdict(mark) for name, mark in sorted(self.files.items())},
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        schema = Schema.from_json(raw["schema"])
        return cls(
            schema=schema,
            config=IndexConfig.from_json(raw["config"]),
            items=int(raw["items"]),
            dimension=int(raw["dimension"]),
            clusters=int(raw["clusters"]),
            scan_budget=int(raw["scan_budget"]),
            value=ValueFormulas.from_json(schema, raw["value"]),
            files={name: FileMark(**mark) for name, mark in raw["files"].items()},
            precision=Precision(raw.get("precision", Precision.FLOAT32)),
        )


def write_manifest(folder: Path, content: Content, built: Mapping[str, Any]) -> None:
    """Writes and syncs the manifest, the last file of a snapshot's folder."""
    manifest = {"format": FORMAT, "version": content.version, "content": content.to_json(), "built": built}
    with (folder / MANIFEST).open("x", encoding="utf-8") as file:
        json.dump(manifest, file, indent=1)
        file.flush()
        os.fsync(file.fileno())


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A snapshot read from disk. index, items, filter: the tensors of the files, by name."""

    folder: Path
    content: Content
    built: Mapping[str, Any]
    index: Mapping[str, Tensor]
    items: Mapping[str, Tensor]
    filter: Mapping[str, Tensor]

    @property
    def version(self) -> str:
        return self.content.version

    @property
    def schema(self) -> Schema:
        return self.content.schema

    @classmethod
    def open(cls, folder: Path, surface: str | None = None) -> Self:
        """Maps a snapshot, after checks of every byte against the manifest and of tensors against the schema.

        A process checks tensors once for each version. Raises SnapshotRefused that names a file which is missing,
        changed, invalid, of another format, or of another surface than `surface`.
        """
        manifest = folder / MANIFEST
        raw = _read_manifest(manifest)
        try:
            content = Content.from_json(raw["content"])
            built = dict(raw["built"])
            version = raw["version"]
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError, MeshfoldError) as error:
            raise SnapshotRefused(
                f"{manifest}: invalid content ({error!r}); publish the snapshot again"
            ) from error
        if content.version != version:
            raise SnapshotRefused(
                f"{manifest}: its content has version {content.version[:12]}, but it names {str(version)[:12]};"
                " it was changed after it was published; publish the snapshot again"
            )
        if surface is not None and content.schema.surface != surface:
            raise SnapshotRefused(
                f"{manifest}: holds the schema of surface {content.schema.surface!r}, not of {surface!r};"
                " publish it where it belongs"
            )
        named = set(content.files)
        if not set(TENSOR_FILES) <= named <= {*TENSOR_FILES, *PROGRAMS}:
            raise SnapshotRefused(
                f"{manifest}: names {sorted(named)}, not {sorted(TENSOR_FILES)} and programs"
            )
        for name, mark in content.files.items():
            check_mark(folder / name, mark)
        snapshot = cls(folder, content, built, *(map_tensors(folder / name) for name in TENSOR_FILES))
        if snapshot.version not in _checked:
            snapshot.check()
            _checked.add(snapshot.version)
        return snapshot

    def check(self) -> None:
        """Checks that tensors fit the schema and the sizes, and that their numbers are safe to use as addresses.

        Raises SnapshotRefused that names the file, the tensor and the place.
        """
        content, schema = self.content, self.schema
        index, items, filter_ = (
            TensorFile(self.folder / name, tensors)
            for name, tensors in ((INDEX, self.index), (ITEMS, self.items), (FILTER, self.filter))
        )
        check_index(index, content.items, content.dimension, content.clusters)
        check_items(items, self.index["rows"], schema)
        check_filter(filter_, content.items, schema)
        check_signature(filter_, content.items, self.layout().rows)

    def layout(self) -> FilterLayout:
        """The rows of each field in the signature."""
        fields = []
        for f in self.schema.filterable:
            planes, bloom = self.filter.get(f"plane.{f.name}"), self.filter.get(f"bloom.{f.name}")
            fields.append(
                FieldRows(
                    f.kind,
                    np.empty(0, np.int64) if planes is None else planes.numpy(),
                    None if bloom is None else Bloom(*bloom.tolist()),
                )
            )
        return FilterLayout.of(fields)

    def item_ids(self) -> ItemIds:
        """The ids of the items by row."""
        keys = self.items["item_ids"].numpy()
        if self.schema.ids is IdKind.INTEGERS:
            return IntegerIds(keys)
        return StringIds(keys, self.items["id.rows"].numpy(), _strings(self.items, "id"))

    def vocabularies(self) -> dict[str, PackedStrings]:
        """The strings of each field of categories, by code."""
        names = [f.name for f in self.schema.filterable if f.kind.holds_strings]
        return {name: _strings(self.filter, f"vocabulary.{name}") for name in names}

    def texts(self) -> dict[str, PackedStrings]:
        """The strings of each text field, by position."""
        return {f.name: _strings(self.items, f"text.{f.name}") for f in self.schema.shown}

    def columns(self) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        """(columns, offsets) of the filterable fields, in the form of kernels/filter/exact.py."""
        names = [f.name for f in self.schema.filterable]
        return [self.filter[f"column.{n}"] for n in names], [self.filter[f"offsets.{n}"] for n in names]

    def lists(self) -> PostingLists:
        """The posting lists of the filterable fields."""
        return PostingLists(*(self.filter[name] for name in LISTS))

    def program(self, name: str) -> Program | None:
        """The program of a name in PROGRAMS, or None.

        Raises SnapshotRefused where it cannot be read, or does not run with the inputs of the schema.
        """
        if name not in self.content.files:
            return None
        # A local import: exports imports this module.
        from meshfold.model.exports import check_program

        program = read_program(self.folder / name)
        try:
            check_program(name, program, self.schema, self.content.dimension)
        except InvalidData as error:
            raise SnapshotRefused(f"{self.folder / name}: {error}; publish the snapshot again") from error
        return program


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        raw = json.loads(read_whole(path, MOST_MANIFEST_BYTES).decode())
    except (ValueError, RecursionError) as error:
        raise SnapshotRefused(f"{path}: no JSON ({error}); publish the snapshot again") from error
    found = raw.get("format") if isinstance(raw, dict) else None
    if found != FORMAT:
        raise SnapshotRefused(f"{path}: format {found!r:.60}; this meshfold reads {FORMAT}; publish it again")
    return dict(raw)


def _strings(tensors: Mapping[str, Tensor], name: str) -> PackedStrings:
    return PackedStrings(tensors[f"{name}.offsets"].numpy(), tensors[f"{name}.bytes"].numpy())
