"""Publishing of data or a catalog: reads the data, joins it with a model, exports modules, builds a snapshot."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from meshfold.model.build import publish
from meshfold.model.config import IndexConfig, PrecisionChoice
from meshfold.model.data.catalog import Catalog
from meshfold.model.data.interactions import Interactions
from meshfold.model.data.source import Source, open_source
from meshfold.model.errors import InvalidData
from meshfold.model.exports import export_item_tower, export_over_arch, export_user_tower, read_programs
from meshfold.model.import_path import module_at
from meshfold.model.item_tower import with_tower
from meshfold.model.precision import SampleUsers
from meshfold.model.program import load_program
from meshfold.model.progress import Progress
from meshfold.model.snapshot import ITEM_TOWER, OVER_ARCH, USER_TOWER
from meshfold.model.store import Store
from meshfold.model.train.model_folder import METRICS
from meshfold.model.train.newcomers import with_model
from meshfold.model.train.trained_schema import check_schema
from meshfold.model.value.config import ValueConfig


@dataclass(frozen=True)
class ModelParts:
    """The parts of a snapshot besides its items.

    vectors: a file that `meshfold vectors` writes. model: a folder that `meshfold train` writes. user_tower,
    item_tower, over_arch: modules or their import paths; each replaces the folder's program.
    """

    vectors: Path | None = None
    model: Path | None = None
    user_tower: str | nn.Module | None = None
    item_tower: str | nn.Module | None = None
    over_arch: str | nn.Module | None = None


def publish_data(
    data: Path,
    parts: ModelParts,
    store: Path,
    config: IndexConfig,
    progress: Progress,
    device: str = "cpu",
    precision: PrecisionChoice = PrecisionChoice.FLOAT32,
) -> Path:
    """Publishes the data at a path and returns the snapshot's folder. device, precision: see publish().

    Raises InvalidData where the data, the model or a module cannot be used.
    """
    progress("reading", 0, 1)
    source = open_source(data)
    _check_model(source, parts)
    catalog, changes = _catalog(source, data, parts)
    progress("reading", 1, 1)
    return publish_catalog(
        catalog,
        parts,
        store,
        config,
        progress,
        str(data),
        source.value,
        facts=changes,
        device=device,
        precision=precision,
        interactions=source.interactions,
    )


def publish_catalog(
    catalog: Catalog,
    parts: ModelParts,
    store: Path,
    config: IndexConfig | None,
    progress: Progress,
    source: str,
    value: ValueConfig | None,
    facts: Mapping[str, Any] | None = None,
    device: str = "cpu",
    precision: PrecisionChoice = PrecisionChoice.FLOAT32,
    interactions: Callable[[], Interactions | None] = lambda: None,
) -> Path:
    """Publishes a catalog with the programs and modules of `parts` and returns the snapshot's folder.

    interactions: reads interactions for the choice of a precision; called where a choice is needed. See publish() for
    the other arguments. Raises InvalidData where a vector, module or formula cannot be used.
    """
    progress("exporting", 0, 1)
    catalog, programs = _with_programs(catalog, parts)
    progress("exporting", 1, 1)
    compared = OVER_ARCH in programs and precision is not PrecisionChoice.FLOAT32
    return publish(
        catalog,
        Store(store),
        config,
        progress,
        source=source,
        programs=programs,
        value=value,
        evaluation=_evaluation(parts),
        facts=facts,
        device=device,
        precision=precision,
        users=SampleUsers.of(catalog, interactions()) if compared else None,
    )


def _check_model(source: Source, parts: ModelParts) -> None:
    """Raises InvalidData where the model folder was trained for other data."""
    if parts.model is None:
        return
    if not parts.model.is_dir():
        raise InvalidData(f"{parts.model}: no such model folder; write one with `meshfold train`")
    check_schema(parts.model, source.schema, "train anew", inputs=parts.user_tower is None)


def _catalog(source: Source, data: Path, parts: ModelParts) -> tuple[Catalog, dict[str, Any]]:
    """(the catalog, with vectors if there are any; counts of changes since the training of its model)."""
    if parts.model and parts.vectors is None:
        joined = with_model(source.catalog(), source.interactions(), parts.model)
        changes = {"new_items": joined.newcomers, "new_items_met": joined.met, "items_left": joined.left}
        return joined.catalog, {"catalog_changes": changes} if any(changes.values()) else {}
    if parts.vectors is None and not source.has_vectors and parts.item_tower is None:
        raise InvalidData(
            f"{data}: its items have no vectors; train a model with `meshfold train {data} --out model` and"
            f" build with --model model, or make vectors with `meshfold vectors {data} --out vectors.parquet` and"
            " build with --vectors vectors.parquet"
        )
    return source.catalog(parts.vectors), {}


def _with_programs(catalog: Catalog, parts: ModelParts) -> tuple[Catalog, dict[str, bytes]]:
    """(the catalog, with the vectors of an item tower if one is given; the programs of the snapshot)."""
    programs = read_programs(parts.model) if parts.model else {}
    if parts.item_tower is not None:
        tower = _module(parts.item_tower)
        programs[ITEM_TOWER] = export_item_tower(tower, catalog)
        name = parts.item_tower if isinstance(parts.item_tower, str) else type(tower).__name__
        catalog = with_tower(catalog, load_program(programs[ITEM_TOWER], name))
    schema, d = catalog.schema, catalog.dimension
    if parts.user_tower is not None:
        programs[USER_TOWER] = export_user_tower(_module(parts.user_tower), schema, d)
    if parts.over_arch is not None:
        programs[OVER_ARCH] = export_over_arch(_module(parts.over_arch), schema, d)
    return catalog, programs


def _module(given: str | nn.Module) -> nn.Module:
    return module_at(given) if isinstance(given, str) else given


def _evaluation(parts: ModelParts) -> dict[str, Any]:
    """The metrics in the model folder; {} without one."""
    path = parts.model / METRICS if parts.model else None
    if path is None or not path.is_file():
        return {}
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise InvalidData(f"{path}: holds no metrics ({error}); train again, or remove it") from error
