"""Turns results of a forward pass into answers: item ids, fields and explanations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from meshfold.kernels.filter.columns import values_at
from meshfold.model.batch import Results
from meshfold.model.data.catalog import numbers_of_keys
from meshfold.model.filter.program import FilterCompiler
from meshfold.model.filter.unmatched import UnmatchedParts
from meshfold.model.schema import FieldKind
from meshfold.model.snapshot import USER_TOWER, Snapshot
from meshfold.model.types import Candidates, FieldValues, Float32s, Ids, Int64s, Neighbours, Scores
from meshfold.service.notes import Notes
from meshfold.service.prepared import PreparedQuery, PreparedScore


class Answers:
    """Makes the answers of one snapshot. Ids and fields are read from mapped files, whatever the model's device."""

    def __init__(self, snapshot: Snapshot, compiler: FilterCompiler, plan: Callable[[int, int], Any]) -> None:
        """plan: (passing items of the sample, candidates) -> (search plan, estimated pass rate)."""
        self._schema = snapshot.schema
        self._content = snapshot.content
        self._version = snapshot.version
        self._plan = plan
        self._columns = (snapshot.filter["signature"], *snapshot.columns())
        self._ids = snapshot.item_ids()
        self._rows: npt.NDArray[np.int32] = snapshot.index["rows"].numpy()
        self._vocabularies = snapshot.vocabularies()
        self._texts = snapshot.texts()
        unmatched = UnmatchedParts(self._schema, compiler.codes, *self._columns, self._content.items)
        has_user_tower = USER_TOWER in self._content.files
        self._notes = Notes(self._schema, self._content.value, unmatched, has_user_tower)

    def candidates(self, prepared: PreparedQuery, results: Results, i: int) -> Candidates:
        """The answer to query i of a batch."""
        positions: Int64s = results.positions[i].numpy()
        k = np.count_nonzero(positions >= 0)
        positions = positions[:k]
        return Candidates(
            tasks=self._schema.tasks,
            version=self._version,
            item_ids=self._ids_at(positions),
            values=results.values[i].numpy()[:k],
            similarities=results.similarities[i].numpy()[:k],
            task_scores=results.task_scores[i].numpy()[:k],
            fields={name: self._field_values(name, positions) for name in prepared.fields},
            explain=self._explain(prepared, results, i) if prepared.query.explain else {},
        )

    def neighbours(self, positions: Int64s, similarities: Float32s) -> Neighbours:
        """The answer of a search. positions: [vectors, k], -1 after the last. similarities: [vectors, k]."""
        lengths = (positions >= 0).sum(1).tolist()
        return Neighbours(
            self._version,
            tuple(self._ids_at(p[:n]) for p, n in zip(positions, lengths, strict=True)),
            tuple(s[:n] for s, n in zip(similarities, lengths, strict=True)),
        )

    def scores(self, prepared: PreparedScore, values: Float32s, task_scores: Float32s) -> Scores:
        """The answer of a scoring. values: [K]. task_scores: [K, T]. Rows of known items come first, then padding."""
        m = len(prepared.positions)
        return Scores(
            tasks=self._schema.tasks,
            version=self._version,
            item_ids=prepared.item_ids,
            values=values[:m],
            task_scores=task_scores[:m],
            unknown_ids=prepared.unknown_ids,
        )

    def _ids_at(self, positions: Int64s) -> Ids:
        return self._ids.at(self._rows[positions].astype(np.int64))

    def _field_values(self, name: str, positions: Int64s) -> FieldValues:
        field = self._schema[name]
        if field.kind is FieldKind.TEXT:
            texts = [self._texts[name][p] for p in positions.tolist()]
            present = np.array([text != "" for text in texts], np.int64)
            return FieldValues(present, tuple(text for text in texts if text))
        place = self._schema.filterable.index(field)
        signature, columns, offsets = self._columns
        lengths, keys = values_at(
            signature, columns[place], offsets[place], place, torch.from_numpy(positions)
        )
        values: Int64s = keys.numpy()
        if field.kind.holds_strings:
            words = self._vocabularies[name]
            return FieldValues(lengths.numpy(), tuple(words[code] for code in values.tolist()))
        if field.kind is FieldKind.NUMBER:
            return FieldValues(lengths.numpy(), numbers_of_keys(values))
        return FieldValues(lengths.numpy(), values)

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
            plan, rate = self._plan(int(results.sampled[i]), prepared.depth)
            explain |= {"plan": plan.value, "estimated_pass_rate": f"{rate:.6f}"}
            opened, scored = results.opened[i].tolist(), results.scored[i].tolist()
            for task, clusters, items in zip(self._schema.tasks, opened, scored, strict=True):
                explain[f"{task}.clusters_opened"] = f"{clusters} of {self._content.clusters}"
                explain[f"{task}.items_scored"] = str(items)
            explain["exact"] = str(all(items == eligible for items in scored)).lower()
        return explain | self._notes.of(prepared, known, eligible)
