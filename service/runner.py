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
from meshfold.model.errors import InvalidQuery, UnknownName
from meshfold.model.filter.program import FilterCompiler, Program
from meshfold.model.ranking import FORMULAS, SIMILARITY, WEIGHTED
from meshfold.model.retrieval import RetrievalModel
from meshfold.model.schema import FieldKind, nearest
from meshfold.model.snapshot import Snapshot
from meshfold.model.types import QUERY_VECTOR, Candidates, FieldValues, Float32s, Int64s, Query

# The user module looks at the newest items of a history.
HISTORY_READ = 512


@dataclass(frozen=True, eq=False)
class PreparedQuery:
    """A query in the terms of one snapshot: positions for ids, a program for the filter.

    query_vector: [T, D] float32, None where the request has none. history, excluded: positions.
    """

    query: Query
    query_vector: Float32s | None
    history: Int64s
    excluded: Int64s
    program: Program
    weights: Float32s
    weighted: bool
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
        self._model = RetrievalModel.of(snapshot).to(self._device).eval()
        self._item_ids: Int64s = snapshot.items["item_ids"].numpy()
        self._positions: Int64s = snapshot.items["positions"].numpy()
        self._rows: npt.NDArray[np.int32] = snapshot.index["rows"].numpy()
        self._vocabularies = snapshot.vocabularies()
        self._texts = snapshot.texts()
        self._compiler = FilterCompiler(self.schema, self._vocabularies, snapshot.layout())

    @classmethod
    def open(cls, folder: Path, surface: str, device: str = "cpu") -> Self:
        """Raises SnapshotRefused where the folder is no whole snapshot of the surface."""
        return cls(Snapshot.open(folder, surface), device)

    def prepare(self, query: Query) -> PreparedQuery:
        """Raises InvalidQuery where the query does not fit the schema, UnknownName for an unknown formula."""
        weights, weighted = self._weights(query)
        history = self._known_positions(query.history)
        excluded = [self._known_positions(query.excluded_ids)]
        if self.schema.exclude_history:
            excluded.append(history)
        return PreparedQuery(
            query=query,
            query_vector=self._query_vector(query),
            history=history[-HISTORY_READ:],
            excluded=np.concatenate(excluded),
            program=self._compiler.compile(query.filter),
            weights=weights,
            weighted=weighted,
            cap_field=self._cap_field(query),
            fields=self._fields(query),
            depth=min(
                max(self._content.config.candidates, query.max_results + query.max_results // 4),
                self._content.items,
            ),
        )

    def run(self, batch: Sequence[PreparedQuery]) -> list[Candidates]:
        """One forward pass for queries that this runner prepared."""
        with torch.inference_mode():
            results = self._model(self._collate(batch))
        return [self._candidates(prepared, results, i) for i, prepared in enumerate(batch)]

    def _known_positions(self, item_ids: Int64s) -> Int64s:
        """Positions of the ids that the catalog has, in order."""
        rows = np.searchsorted(self._item_ids, item_ids).clip(max=len(self._item_ids) - 1)
        positions: Int64s = self._positions[rows[self._item_ids[rows] == item_ids]]
        return positions

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

    def _weights(self, query: Query) -> tuple[Float32s, bool]:
        formula = query.value_formula or (WEIGHTED if query.task_weights else SIMILARITY)
        if formula not in FORMULAS:
            raise UnknownName(
                f"surface {self.surface} has no value formula {formula!r}{nearest(formula, FORMULAS)}"
            )
        if formula == SIMILARITY and query.task_weights:
            raise InvalidQuery("task_weights", f"formula {SIMILARITY!r} takes no weights; {WEIGHTED!r} does")
        if formula == WEIGHTED and not query.task_weights:
            raise InvalidQuery("task_weights", f"formula {WEIGHTED!r} needs the weight of at least one task")
        weights = np.zeros(len(self.schema.tasks), np.float32)
        for task, weight in query.task_weights.items():
            if task not in self.schema.tasks:
                raise InvalidQuery(
                    f'task_weights["{task}"]',
                    f"surface {self.surface} has no such task{nearest(task, self.schema.tasks)}",
                )
            if not abs(weight) <= float(np.finfo(np.float32).max):
                raise InvalidQuery(f'task_weights["{task}"]', f"must be a finite float32, got {weight}")
            weights[self.schema.tasks.index(task)] = weight
        return weights, formula == WEIGHTED

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

    def _collate(self, batch: Sequence[PreparedQuery]) -> QueryBatch:
        t, d = len(self.schema.tasks), self._content.dimension
        vectors = np.zeros((len(batch), t, d), np.float32)
        for i, prepared in enumerate(batch):
            if prepared.query_vector is not None:
                vectors[i] = prepared.query_vector
        caps = [p.query.max_per_value for p in batch]
        return QueryBatch(
            query_vectors=self._tensor(vectors),
            has_vector=self._tensor(np.array([p.query_vector is not None for p in batch])),
            history=self._tensor(_padded([p.history for p in batch], -1)),
            steps=self._tensor(_padded([p.program.steps for p in batch], int(Op.NOOP))),
            values=self._tensor(_padded([p.program.values for p in batch], 0)),
            value_rows=self._tensor(_padded([p.program.value_rows for p in batch], 0)),
            excluded=self._tensor(_padded([p.excluded for p in batch], -1)),
            depth=self._tensor(np.array([p.depth for p in batch], np.int64)),
            max_results=self._tensor(np.array([p.query.max_results for p in batch], np.int64)),
            weights=self._tensor(np.stack([p.weights for p in batch])),
            weighted=self._tensor(np.array([p.weighted for p in batch])),
            cap_field=self._tensor(np.array([p.cap_field for p in batch], np.int64)),
            cap_limit=self._tensor(np.array([0 if c is None else c.limit for c in caps], np.int64)),
        )

    def _tensor(self, array: npt.NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(array).to(self._device)

    def _candidates(self, prepared: PreparedQuery, results: Results, i: int) -> Candidates:
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
            explain=self._explain(results, i) if prepared.query.explain else {},
        )

    def _field_values(self, name: str, positions: Int64s) -> FieldValues:
        field = self.schema[name]
        if field.kind is FieldKind.TEXT:
            texts = [self._texts[name][p] for p in positions.tolist()]
            present = np.array([text != "" for text in texts], np.int64)
            return FieldValues(present, tuple(text for text in texts if text))
        place = self.schema.filterable.index(field)
        lengths, held = self._model.filter.values_at(place, torch.from_numpy(positions).to(self._device))
        values: Int64s = held.cpu().numpy()
        if field.kind.holds_strings:
            words = self._vocabularies[name]
            return FieldValues(lengths.cpu().numpy(), tuple(words[code] for code in values.tolist()))
        if field.kind is FieldKind.NUMBER:
            return FieldValues(lengths.cpu().numpy(), numbers_of_keys(values))
        return FieldValues(lengths.cpu().numpy(), values)

    def _explain(self, results: Results, i: int) -> Mapping[str, str]:
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
            opened, scored = results.opened[i].tolist(), results.scored[i].tolist()
            for task, clusters, items in zip(self.schema.tasks, opened, scored, strict=True):
                explain[f"{task}.clusters_opened"] = f"{clusters} of {self._content.clusters}"
                explain[f"{task}.items_scored"] = str(items)
            explain["exact"] = str(all(items == eligible for items in scored)).lower()
        return explain


def _padded(arrays: Sequence[Int64s], filler: int) -> Int64s:
    """Arrays of different first dimensions as one: [B, longest, ...] int64."""
    longest = max(len(a) for a in arrays)
    out = np.full((len(arrays), longest, *arrays[0].shape[1:]), filler, np.int64)
    for row, array in zip(out, arrays, strict=True):
        row[: len(array)] = array
    return out
