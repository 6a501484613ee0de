"""A snapshot: one published version of all that answers, hashed by its content.

manifest.json holds `content`, which the version hashes (schema, config, calibration, a mark of each file),
and `built`, which it does not (when, by what, measured recall). The other files are mapped tensors.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from torch import Tensor

from meshfold.kernels.bundles import WORDS, count
from meshfold.kernels.filter_program import PostingLists
from meshfold.model.config import IndexConfig
from meshfold.model.errors import MeshfoldError, SnapshotRefused
from meshfold.model.filter.bloom import Bloom
from meshfold.model.filter.index import FieldRows, FilterLayout
from meshfold.model.program import Program, read_program
from meshfold.model.schema import FieldKind, Schema
from meshfold.model.strings import PackedStrings
from meshfold.model.tensor_file import FileMark, map_tensors, mark_of
from meshfold.model.value.formulas import ValueFormulas

FORMAT = 3
MANIFEST = "manifest.json"
INDEX, ITEMS, FILTER = "index.safetensors", "items.safetensors", "filter.safetensors"
TENSOR_FILES = (INDEX, ITEMS, FILTER)
# Posting lists, in the order of kernels/filter_program.py.
LISTS = ("lists.fields", "lists.values", "lists.offsets", "lists.positions")
# Programs that a snapshot may hold; see model/program.py.
USER_TOWER, ITEM_TOWER, OVER_ARCH = "user_tower.pt2", "item_tower.pt2", "over_arch.pt2"
PROGRAMS = (USER_TOWER, ITEM_TOWER, OVER_ARCH)


@dataclass(frozen=True, eq=False)
class Content:
    """What a version is the hash of.

    scan_budget: survivors that a query scores where there are so many. items, dimension, clusters: sizes.
    value: the compiled formulas.
    """

    schema: Schema
    config: IndexConfig
    items: int
    dimension: int
    clusters: int
    scan_budget: int
    value: ValueFormulas
    files: Mapping[str, FileMark]

    @property
    def version(self) -> str:
        """64 hex digits."""
        text = json.dumps({"format": FORMAT, **self.to_json()}, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        return {
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
        )


def write_manifest(folder: Path, content: Content, built: Mapping[str, Any]) -> None:
    """Writes and syncs the manifest of a folder whose other files are written."""
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
        """Maps a snapshot after every byte was checked against the manifest.

        Raises SnapshotRefused, naming the file, where something is missing, changed, of another format or of
        another surface than `surface`.
        """
        manifest = folder / MANIFEST
        raw = _read_manifest(manifest)
        try:
            content = Content.from_json(raw["content"])
            built = dict(raw["built"])
            version = raw["version"]
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError, MeshfoldError) as error:
            raise SnapshotRefused(
                f"{manifest}: not what this format holds ({error!r}); publish the snapshot again"
            ) from error
        if content.version != version:
            raise SnapshotRefused(
                f"{manifest}: its content has version {content.version[:12]}, it says {str(version)[:12]};"
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
            if mark_of(folder / name) != mark:
                raise SnapshotRefused(
                    f"{folder / name}: not the bytes that were published; publish the snapshot again"
                )
        snapshot = cls(folder, content, built, *(map_tensors(folder / name) for name in TENSOR_FILES))
        snapshot._check_shapes()
        return snapshot

    def layout(self) -> FilterLayout:
        """Where each field stands in the signature."""
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

    def vocabularies(self) -> dict[str, PackedStrings]:
        """The strings of each field of categories, by code."""
        names = [f.name for f in self.schema.filterable if f.kind.holds_strings]
        return {name: _strings(self.filter, f"vocabulary.{name}") for name in names}

    def texts(self) -> dict[str, PackedStrings]:
        """The strings of each text field, by position."""
        return {f.name: _strings(self.items, f"text.{f.name}") for f in self.schema.shown}

    def columns(self) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        """columns and offsets of the filterable fields, as kernels/filter_exact.py takes them."""
        names = [f.name for f in self.schema.filterable]
        return [self.filter[f"column.{n}"] for n in names], [self.filter[f"offsets.{n}"] for n in names]

    def lists(self) -> PostingLists:
        """The posting lists of the filterable fields."""
        return PostingLists(*(self.filter[name] for name in LISTS))

    def program(self, name: str) -> Program | None:
        """One of PROGRAMS; None where the snapshot has none. Raises SnapshotRefused."""
        return read_program(self.folder / name) if name in self.content.files else None

    def _check_shapes(self) -> None:
        """That the files hold what the schema and the sizes promise."""
        n, d, c = self.content.items, self.content.dimension, self.content.clusters
        wanted: dict[tuple[str, str], tuple[int, ...]] = {
            (INDEX, "centroids"): (c, d),
            (INDEX, "centroid_units"): (c,),
            (INDEX, "centroid_spreads"): (c,),
            (INDEX, "offsets"): (c + 1,),
            (INDEX, "codes"): (n, d),
            (INDEX, "residuals"): (n, d),
            (INDEX, "units"): (n,),
            (INDEX, "rows"): (n,),
            (ITEMS, "item_ids"): (n,),
            (ITEMS, "positions"): (n,),
            (ITEMS, "popularity"): (n,),
            (ITEMS, "popular"): (n,),
        }
        for f in self.schema.filterable:
            values = self.filter.get(f"column.{f.name}")
            held = -1 if values is None else values.numel()
            wanted[FILTER, f"column.{f.name}"] = (held if f.kind.many else n,)
            wanted[FILTER, f"offsets.{f.name}"] = (n + 1 if f.kind.many else 0,)
            if f.kind is not FieldKind.NUMBER:
                planes = f"plane.{f.name}"
                wanted[FILTER, planes] = (_length(self.filter, planes),)
            if f"bloom.{f.name}" in self.filter:
                wanted[FILTER, f"bloom.{f.name}"] = (2,)
        lists = _length(self.filter, "lists.values")
        wanted[FILTER, "lists.fields"] = (len(self.schema.filterable) + 1,)
        wanted[FILTER, "lists.values"] = (lists,)
        wanted[FILTER, "lists.offsets"] = (lists + 1,)
        wanted[FILTER, "lists.positions"] = (_length(self.filter, "lists.positions"),)
        for f in self.schema.shown:
            wanted[ITEMS, f"text.{f.name}.offsets"] = (n + 1,)
            wanted[ITEMS, f"text.{f.name}.bytes"] = (_length(self.items, f"text.{f.name}.bytes"),)
        for f in self.schema.filterable:
            for part in ("offsets", "bytes") if f.kind.holds_strings else ():
                name = f"vocabulary.{f.name}.{part}"
                wanted[FILTER, name] = (_length(self.filter, name),)
        for (file, name), shape in wanted.items():
            self._check_shape(file, name, shape)
        try:
            rows = self.layout().rows
        except ValueError as error:
            raise SnapshotRefused(f"{self.folder / FILTER}: {error}; publish the snapshot again") from error
        self._check_shape(FILTER, "signature", (count(n), rows, WORDS))

    def _check_shape(self, file: str, name: str, shape: tuple[int, ...]) -> None:
        tensor = {INDEX: self.index, ITEMS: self.items, FILTER: self.filter}[file].get(name)
        if tensor is None or tuple(tensor.shape) != shape:
            came = "nothing" if tensor is None else str(list(tensor.shape))
            raise SnapshotRefused(
                f"{self.folder / file}: the schema needs {name} {list(shape)}, the file has {came}"
            )


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SnapshotRefused(f"{path}: {error.strerror}; publish the snapshot again") from error
    except (ValueError, RecursionError) as error:
        raise SnapshotRefused(f"{path}: no JSON ({error}); publish the snapshot again") from error
    found = raw.get("format") if isinstance(raw, dict) else None
    if found != FORMAT:
        raise SnapshotRefused(f"{path}: format {found!r}; this meshfold reads {FORMAT}; publish it again")
    return dict(raw)


def _length(tensors: Mapping[str, Tensor], name: str) -> int:
    """Of a tensor whose length only the file knows; -1, which no tensor has, where it is missing."""
    return tensors[name].numel() if name in tensors else -1


def _strings(tensors: Mapping[str, Tensor], name: str) -> PackedStrings:
    return PackedStrings(tensors[f"{name}.offsets"].numpy(), tensors[f"{name}.bytes"].numpy())
