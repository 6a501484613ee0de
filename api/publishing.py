"""Publishing of a snapshot from a table of items in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meshfold.api.table_catalog import catalog_of
from meshfold.model.config import IndexConfig
from meshfold.model.errors import InvalidData
from meshfold.model.progress import Progress, silent
from meshfold.model.publishing import ModelParts, publish_catalog
from meshfold.model.value.config import value_config

if TYPE_CHECKING:
    from torch import nn


def build(
    items: Any,
    vectors: Any,
    *,
    store: str | Path,
    surface: str = "items",
    id: str = "item_id",
    fields: Mapping[str, str] | None = None,
    popularity: str | None = None,
    tasks: Sequence[str] = ("relevance",),
    exclude_history: bool = True,
    user_tower: nn.Module | None = None,
    over_arch: nn.Module | None = None,
    formulas: Mapping[str, str] | None = None,
    config: IndexConfig | None = None,
    progress: Progress = silent,
) -> Path:
    """Publishes a snapshot of the items and returns its folder.

    items: a pyarrow table, a pandas or Polars data frame, a mapping of columns, or a list of mappings.
    vectors: [N, D] numbers in the order of the items, or the name of a column of lists.
    store: a folder of snapshots, which is created if missing.
    id, popularity: names of columns. Ids are integers or strings, each once.
    fields: kinds by column ("category", "categories", "integer", "integers", "number", "text"), and "" for a column
    to leave out; the kinds of other columns follow from their types (table_catalog.py).
    tasks: names of actions to predict. exclude_history: whether items of a user's history are left out of answers.
    user_tower, over_arch: modules (docs/models.md). Without a user tower, the query vector is the normalised mean of
    the history's vectors.
    formulas: value formulas by name; the formula named "default" gives the default's name.
    Raises InvalidData that names the column and row.
    """
    catalog = catalog_of(
        items,
        vectors,
        surface=surface,
        id=id,
        fields=fields or {},
        popularity=popularity,
        tasks=tasks,
        exclude_history=exclude_history,
    )
    if formulas is not None and not isinstance(formulas, Mapping):
        raise InvalidData(f"formulas is {formulas!r}; expected texts by name")
    value = value_config(formulas, {}) if formulas else None
    parts = ModelParts(user_tower=user_tower, over_arch=over_arch)
    try:
        return publish_catalog(catalog, parts, Path(store), config, progress, source="Python", value=value)
    except OSError as fault:
        raise InvalidData(f"{store}: cannot be written: {fault.strerror or fault}") from fault
