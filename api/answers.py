"""Answers of a model, as columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from meshfold.model.errors import Unprepared
from meshfold.model.types import Candidates, FieldValues, Float32s, Ids

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


@dataclass(frozen=True, eq=False)
class Answer:
    """K items, best first.

    item_ids: [K] int64, or a list of K strings. values: [K] float32 - the order. similarities: [K] float32.
    task_scores: [K] float32 by task. fields: a list of K values by field, None where an item lacks it.
    version: of the snapshot that answered. explain: texts by name, empty unless the request has `explain`.
    """

    item_ids: npt.NDArray[np.int64] | list[str]
    values: Float32s
    similarities: Float32s
    task_scores: Mapping[str, Float32s]
    fields: Mapping[str, list[Any]] = field(default_factory=dict)
    version: str = ""
    explain: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, candidates: Candidates, many: frozenset[str]) -> Answer:
        """The answer from a runner's Candidates. many: names of fields with lists."""
        return cls(
            item_ids=listed(candidates.item_ids),
            values=candidates.values,
            similarities=candidates.similarities,
            task_scores={task: candidates.task_scores[:, i] for i, task in enumerate(candidates.tasks)},
            fields={name: _rows(column, name in many) for name, column in candidates.fields.items()},
            version=candidates.version,
            explain=candidates.explain,
        )

    def __len__(self) -> int:
        return len(self.item_ids)

    def to_arrow(self) -> pa.Table:
        """A table with columns item_id, value, similarity, "score_" plus name for each task, and the fields.

        A field whose name is taken gets the prefix "field_".
        """
        import pyarrow as pa

        columns: dict[str, Any] = {
            "item_id": self.item_ids,
            "value": self.values,
            "similarity": self.similarities,
            **{f"score_{task}": scores for task, scores in self.task_scores.items()},
        }
        for name, values in self.fields.items():
            columns[name if name not in columns else f"field_{name}"] = values
        return pa.table(columns)

    def to_pandas(self) -> pd.DataFrame:
        """The table of to_arrow as a data frame. Raises Unprepared where pandas is not installed."""
        try:
            import pandas  # noqa: F401
        except ImportError as fault:
            raise Unprepared("to_pandas needs pandas; pip install pandas, or use to_arrow") from fault
        return self.to_arrow().to_pandas()


def listed(ids: Ids) -> npt.NDArray[np.int64] | list[str]:
    return list(ids) if isinstance(ids, tuple) else ids


def _rows(column: FieldValues, many: bool) -> list[Any]:
    """The value of each item, a list with `many`, None for an item without the field."""
    values = column.values if isinstance(column.values, tuple) else column.values.tolist()
    rows: list[Any] = []
    start = 0
    for length in column.lengths.tolist():
        own = list(values[start : start + length])
        rows.append(own if many else own[0] if own else None)
        start += length
    return rows
