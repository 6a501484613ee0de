"""One loaded snapshot on one device: queries to tensors, one forward pass, tensors to answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from meshfold.kernels.filter_program import Op
from meshfold.model.batch import QueryBatch, Results
from meshfold.model.data.catalog import numbers_of_keys
from meshfold.model.errors import InvalidQuery
from meshfold.model.filter.program import FilterCompiler, Program
from meshfold.model.inputs import HISTORY, PAD, encode_inputs
from meshfold.model.retrieval import RetrievalModel
from meshfold.model.schema import FieldKind, Schema, nearest
from meshfold.model.snapshot import Snapshot
from meshfold.model.types import QUERY_VECTOR, Candidates, FieldValues, Float32s, Int64s, Query
from meshfold.model.value.formulas import ValueQuery, padded


@dataclass(frozen=True, eq=False)
class PreparedQuery:
    """A query in the terms of one snapshot: positions for ids, programs for filter and value.

    query_vector: [T, D] float32, None where the request has none. history: [H] positions, -1 for unknown
    items; history_ids: [H]. excluded: positions. inputs: an array for each declared input.
    """

    query: Query
    query_vector: Float32s | None
    history: Int64s
    history_ids: Int64s
    excluded: Int64s
    inputs: Mapping[str, Int64s | Float32s]
    program: Program
    value: ValueQuery
    cap_field: int
    fields: tuple[str, ...]
    depth: int


class Runner:
    """Answers for one snapshot. prepare may be called from any thread, run from one at a time."""

    def __init__(self, snapshot: Snapshot, device: str) -> None:
        self.schema = snapshot.schema
        self.surface = snapshot.schema.surface
        self.version = snapshot.version
        self._content = snapshot.content
        self._device = torch.device(device)
        self._candidates = self._content.config.candidates_on(self._device.type)
        self.model = RetrievalModel.of(snapshot).to(self._device).eval()
        self._item_ids: Int64s = snapshot.items["item_ids"].numpy()
        self._positions: Int64s = snapshot.items["positions"].numpy()
        self._rows: npt.NDArray[np.int32] = snapshot.index["rows"].numpy()
        self._vocabularies = snapshot.vocabularies()
        self._texts = snapshot.texts()
        self._compiler = FilterCompiler(self.schema, self._vocabularies, snapshot.layout())

    @classmethod
    def open(cls, folder: Path, surface: str, device: str = "cpu") -> Self:
        """Raises SnapshotRefused where the folder is no whole snapshot of the surface."""
        runner = cls(Snapshot.open(folder, surface), device)
        runner._warm_up()
        return runner

    def prepare(self, query: Query) -> PreparedQuery:
        """Raises InvalidQuery where the query does not fit the schema, UnknownName for an unknown formula."""
        read = query.history[-HISTORY:]
        excluded = [self._positions_of(query.excluded_ids)]
        if self.schema.exclude_history:
            excluded.append(self._positions_of(query.history))
        return PreparedQuery(
            query=query,
            query_vector=self._query_vector(query),
            history=self._positions_of(read),
            history_ids=read,
            excluded=np.concatenate(excluded),
            inputs=encode_inputs(self.schema.inputs, query.features),
            program=self._compiler.compile(query.filter),
            value=self._content.value.prepare(query.value_formula, query.task_weights, query.features),
            cap_field=self._cap_field(query),
            fields=self._fields(query),
            depth=min(
                max(self._candidates, query.max_results + query.max_results // 4),
                self._content.items,
            ),
        )

    def run(self, batch: Sequence[PreparedQuery]) -> list[Candidates]:
        """One forward pass for queries that this runner prepared."""
        with torch.inference_mode():
            results = self.model(self.collate(batch))
        return [self._answer(prepared, results, i) for i, prepared in enumerate(batch)]

    def _warm_up(self) -> None:
        """The first pass through each module sets up much that later ones find; no caller should wait for it."""
        known, unknown = Query(self.surface, 1, history=self._item_ids[:1]), Query(self.surface, 1)
        self.run([self.prepare(known), self.prepare(unknown)])

    def _positions_of(self, item_ids: Int64s) -> Int64s:
        """Positions of items, -1 for those that the catalog has not."""
        rows = np.searchsorted(self._item_ids, item_ids).clip(max=len(self._item_ids) - 1)
        return np.where(self._item_ids[rows] == item_ids, self._positions[rows], -1)

    def _query_vector(self, query: Query) -> Float32s | None:
        feature = query.features.get(QUERY_VECTOR)
        if feature is None:
            return None
        t, d = len(self.schema.tasks), self._content.dimension
        path = f'features["{QUERY_VECTOR}"]'
        if not isinstance(feature, np.ndarray) or feature.dtype != np.float32:
            raise InvalidQuery(path, "holds no floats; a query vector is a list of floats")
        if feature.size not in (d, t * d):
            raise InvalidQuery(
                path, f"has {feature.size} values; expected {d}, or {t * d} for one vector a task"
            )
        return np.broadcast_to(feature.reshape(-1, d), (t, d))

    def _cap_field(self, query: Query) -> int:
        if query.max_per_value is None:
            return -1
        fields = {f.name: place for place, f in enumerate(self.schema.filterable)}
        name = query.max_per_value.field
        if name not in fields:
            raise InvalidQuery("max_per_value.field", f"no filterable field {name!r}{nearest(name, fields)}")
        return fields[name]

    def _fields(self, query: Query) -> tuple[str, ...]:
        for i, name in enumerate(query.fields):
            if name not in self.schema:
                known = [f.name for f in self.schema.fields]
                raise InvalidQuery(f"fields[{i}]", f"no field {name!r}{nearest(name, known)}")
        return tuple(dict.fromkeys(query.fields))

    def collate(self, batch: Sequence[PreparedQuery]) -> QueryBatch:
        """Queries as the model takes them."""
        t, d = len(self.schema.tasks), self._content.dimension
        vectors = np.zeros((len(batch), t, d), np.float32)
        for i, prepared in enumerate(batch):
            if prepared.query_vector is not None:
                vectors[i] = prepared.query_vector
        value_steps, value_constants = padded([p.value for p in batch])
        caps = [p.query.max_per_value for p in batch]
        return QueryBatch(
            query_vectors=self._tensor(vectors),
            has_vector=self._tensor(np.array([p.query_vector is not None for p in batch])),
            history_positions=self._tensor(_padded([p.history for p in batch], -1, HISTORY)),
            history_ids=self._tensor(_padded([p.history_ids for p in batch], PAD, HISTORY)),
            inputs={
                i.name: self._tensor(np.stack([p.inputs[i.name] for p in batch])) for i in self.schema.inputs
            },
            has_input=self._tensor(np.array([_says_something(self.schema, p.query) for p in batch])),
            steps=self._tensor(_padded([p.program.steps for p in batch], int(Op.NOOP))),
            values=self._tensor(_padded([p.program.values for p in batch], 0)),
            value_rows=self._tensor(_padded([p.program.value_rows for p in batch], 0)),
            excluded=self._tensor(_padded([p.excluded for p in batch], -1)),
            depth=self._tensor(np.array([p.depth for p in batch], np.int64)),
            max_results=self._tensor(np.array([p.query.max_results for p in batch], np.int64)),
            value_steps=self._tensor(value_steps),
            value_constants=self._tensor(value_constants),
            cap_field=self._tensor(np.array([p.cap_field for p in batch], np.int64)),
            cap_limit=self._tensor(np.array([0 if c is None else c.limit for c in caps], np.int64)),
            explain=self._tensor(np.array([p.query.explain for p in batch])),
            k=max(p.depth for p in batch),
        )

    def _tensor(self, array: npt.NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(array).to(self._device)

    def _answer(self, prepared: PreparedQuery, results: Results, i: int) -> Candidates:
        k = int((results.positions[i] >= 0).sum())
        positions: Int64s = results.positions[i, :k].cpu().numpy()
        return Candidates(
            tasks=self.schema.tasks,
            version=self.version,
            item_ids=self._item_ids[self._rows[positions]],
            values=results.values[i, :k].cpu().numpy(),
            similarities=results.similarities[i, :k].cpu().numpy(),
            task_scores=results.task_scores[i, :k].cpu().numpy(),
            fields={name: self._field_values(name, positions) for name in prepared.fields},
            explain=self._explain(prepared, results, i) if prepared.query.explain else {},
        )

    def _field_values(self, name: str, positions: Int64s) -> FieldValues:
        field = self.schema[name]
        if field.kind is FieldKind.TEXT:
            texts = [self._texts[name][p] for p in positions.tolist()]
            present = np.array([text != "" for text in texts], np.int64)
            return FieldValues(present, tuple(text for text in texts if text))
        place = self.schema.filterable.index(field)
        lengths, held = self.model.filter.values_at(place, torch.from_numpy(positions).to(self._device))
        values: Int64s = held.cpu().numpy()
        if field.kind.holds_strings:
            words = self._vocabularies[name]
            return FieldValues(lengths.cpu().numpy(), tuple(words[code] for code in values.tolist()))
        if field.kind is FieldKind.NUMBER:
            return FieldValues(lengths.cpu().numpy(), numbers_of_keys(values))
        return FieldValues(lengths.cpu().numpy(), values)

    def _explain(self, prepared: PreparedQuery, results: Results, i: int) -> Mapping[str, str]:
        n = self._content.items
        known = bool(results.known[i])
        eligible = int(results.eligible[i])
        explain = {
            "user": "known" if known else "nothing known: the most popular eligible items",
            "items": str(n),
            "eligible": str(eligible),
            "pass_rate": f"{eligible / n:.6f}",
        }
        if known:
            plan, rate = self.model.index.plan(int(results.sampled[i]), prepared.depth)
            explain |= {"plan": plan.value, "estimated_pass_rate": f"{rate:.6f}"}
            opened, scored = results.opened[i].tolist(), results.scored[i].tolist()
            for task, clusters, items in zip(self.schema.tasks, opened, scored, strict=True):
                explain[f"{task}.clusters_opened"] = f"{clusters} of {self._content.clusters}"
                explain[f"{task}.items_scored"] = str(items)
            explain["exact"] = str(all(items == eligible for items in scored)).lower()
        return explain


def _says_something(schema: Schema, query: Query) -> bool:
    """Whether a declared input came with the request."""
    return any(len(query.features.get(i.name, ())) for i in schema.inputs)


def _padded(arrays: Sequence[Int64s], filler: int, length: int = 0) -> Int64s:
    """Arrays of different first dimensions as one: [B, length, ...] int64; 0 is the longest's."""
    longest = length or max(len(a) for a in arrays)
    out = np.full((len(arrays), longest, *arrays[0].shape[1:]), filler, np.int64)
    for row, array in zip(out, arrays, strict=True):
        row[: len(array)] = array
    return out
