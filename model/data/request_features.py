"""Features of requests from the table of interactions, where each input of the schema has a column of its name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from meshfold.model.data.table_column import TableColumn
from meshfold.model.schema import Input, InputKind
from meshfold.model.types import FeatureList, Int64s


@dataclass(frozen=True, eq=False)
class _Values:
    """One input's values. offsets: [rows + 1] int64. values: [offsets[rows]] - of all rows, back to back."""

    kind: InputKind
    offsets: Int64s
    values: npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class RequestFeatures:
    """The features of all interactions. by_name: values of inputs with a column. missing: inputs without one."""

    by_name: Mapping[str, _Values]
    missing: tuple[str, ...]

    @classmethod
    def of(cls, inputs: Sequence[Input], columns: Mapping[str, TableColumn]) -> Self:
        """The features from columns of the interactions by name.

        Raises InvalidData that names file and row of a value that does not fit the input's kind.
        """
        by_name = {i.name: _values(i.kind, columns[i.name]) for i in inputs if i.name in columns}
        return cls(by_name, tuple(i.name for i in inputs if i.name not in columns))

    def at(self, row: int) -> dict[str, FeatureList]:
        """The features of a request at the moment of the interaction in `row`, without missing values."""
        features: dict[str, FeatureList] = {}
        for name, column in self.by_name.items():
            values = column.values[column.offsets[row] : column.offsets[row + 1]]
            if len(values):
                strings = column.kind in (InputKind.STRINGS, InputKind.TEXT)
                features[name] = tuple(values.tolist()) if strings else values
        return features


def _values(kind: InputKind, column: TableColumn) -> _Values:
    each = column.each(None)
    assert each.rows is not None
    offsets = np.searchsorted(each.rows, np.arange(len(column) + 1))
    values: npt.NDArray[Any]
    if kind is InputKind.INTS:
        values = np.asarray(each.integers().to_numpy(), np.int64)
    elif kind is InputKind.FLOATS:
        values = np.asarray(each.floats().to_numpy(), np.float64).astype(np.float32)
    else:
        values = np.asarray(each.strings().to_numpy(), object)
    return _Values(kind, offsets.astype(np.int64), values)
