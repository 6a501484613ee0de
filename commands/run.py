"""`meshfold run`: trains, builds and serves data in one step."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from meshfold.commands import console
from meshfold.commands.serve import serve
from meshfold.commands.train import show, tell_doubts
from meshfold.model.config import IndexConfig
from meshfold.model.data.interactions import places_of
from meshfold.model.schema import FieldKind
from meshfold.service.config import OF_A_FRONT, SETTINGS, ServerConfig, add_flags, read_config
from meshfold.service.handlers import Adapter

if TYPE_CHECKING:
    from meshfold.model.data.source import Source
    from meshfold.model.progress import Progress
    from meshfold.model.train.kept_model import KeptModel
    from meshfold.service.server import Operate

_GENERATED = {"items": 20_000, "dimension": 64, "users": 2_000, "seed": 0}
_HISTORY = 5
_EPILOG = """\
examples:
  meshfold run
  meshfold run --data ml-latest-small --address 127.0.0.1:50051

Trains a model where items come without vectors, builds, publishes to a store below --work, and serves it. A model that
was trained before is kept while data, settings and version are the same. Without --data it invents a catalog. For
production take the steps apart: train, build, serve.
"""


def add(
    subparsers: argparse._SubParsersAction[Any], adapters: Sequence[Adapter[Any, Any]], operate: Operate
) -> None:
    parser = subparsers.add_parser(
        "run",
        help="build and serve data in one step, to try things",
        description="Build and serve data in one step, to try things.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, metavar="DATA", help="default: a generated catalog")
    parser.add_argument(
        "--work", type=Path, default=Path(".meshfold"), metavar="DIR", help="default: %(default)s"
    )
    of_a_front = [key for key in SETTINGS if key.startswith(OF_A_FRONT)]
    add_flags(parser, leave_out=("store", "mesh", "mapping", "adapter", "hydrate", *of_a_front))
    parser.set_defaults(run=partial(_run, adapters=adapters, operate=operate))


def _run(args: argparse.Namespace, adapters: Sequence[Adapter[Any, Any]], operate: Operate) -> int:
    # Imported here, so that a command line is parsed without importing torch.
    from meshfold.model.data.source import open_source
    from meshfold.model.publishing import ModelParts, publish_data
    from meshfold.model.train.kept_model import trained_model

    config = read_config(args, os.environ)
    with console.progress() as progress:
        data = args.data or _generated(args.work / "generated", progress)
        progress("reading", 0, 1)
        source = open_source(data)
        source.interactions()
        progress("reading", 1, 1)
        # One store per surface, so that earlier trials are not served beside it.
        home = args.work / source.schema.surface
        parts = ModelParts()
        if not source.has_vectors:
            model = trained_model(data, source, home, progress)
            parts = ModelParts(model=model.folder)
            tell(model)
        store = home / "store"
        publish_data(data, parts, store, IndexConfig(), progress)
        hint = f"try next:\n  {_query_to_try(source, config.address)}"
    return serve(replace(config, store=store), adapters, operate, hint=hint)


def tell(model: KeptModel) -> None:
    """Prints that the model was kept, or the metrics of its training."""
    if model.metrics is None:
        console.print(f"{model.folder}: kept from before; data, settings and version are the same")
    else:
        tell_doubts(model.metrics)
        show(model.metrics)


def _generated(folder: Path, progress: Progress) -> Path:
    from meshfold.model.data.generated_tables import write_generated

    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        write_generated(folder, **_GENERATED, progress=progress)
    return folder


def _query_to_try(source: Source, address: str) -> str:
    """A command line to try: for the first user with a history, with a filter that some items pass."""
    words = [_own_name(), "query"]
    if address != ServerConfig.address:
        words += ["--address", address]
    interactions, catalog = source.interactions(), source.catalog()
    if interactions is not None and len(interactions):
        counts = np.diff(interactions.user_offsets)
        user = int(interactions.users[int(np.argmax(counts >= min(_HISTORY, counts.max())))])
        places = places_of(interactions.history(user), catalog.item_ids)
        met = [str(catalog.ids[place]) for place in places[places >= 0].tolist()]
        if history := [item for item in met if "," not in item][-_HISTORY:]:
            words += ["--history", ",".join(history)]
    terms: list[str] = []
    for f in source.schema.filterable:
        column = catalog.columns[f.name]
        if not terms and f.kind.holds_strings and column.vocabulary and len(column.values):
            frequent = column.vocabulary[int(np.bincount(column.values).argmax())]
            terms.append(f"{json.dumps(frequent, ensure_ascii=False)} in {f.name}")
    ordered = [f for f in source.schema.filterable if f.kind.ordered and len(catalog.columns[f.name].values)]
    if ordered:
        terms.append(f"{ordered[0].name} >= {_median(catalog.columns[ordered[0].name]):g}")
    if terms:
        words += ["--filter", " && ".join(terms)]
    return shlex.join(words)


def _median(column: Any) -> float:
    from meshfold.model.data.catalog import numbers_of_keys

    middle = np.sort(column.values)[len(column.values) // 2 : len(column.values) // 2 + 1]
    return float(numbers_of_keys(middle)[0] if column.kind is FieldKind.NUMBER else middle[0])


def _own_name() -> str:
    """The name by which this process was called, so that the line can be pasted."""
    called = Path(sys.argv[0])
    return str(called) if called.name == "meshfold" else "meshfold"
