"""`meshfold build`: data to a published snapshot."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meshfold.model.config import IndexConfig, Merge
from meshfold.service import console
from meshfold.service.commands.inspect import summary_of

if TYPE_CHECKING:
    from meshfold.model.progress import Progress

_DEFAULTS = IndexConfig()
_EPILOG = """\
examples:
  meshfold build shop/schema.toml --store .meshfold/store
  meshfold build ml-latest-small --vectors vectors.parquet --store .meshfold/store
  meshfold build shop --store .meshfold/store --target-recall 0.99 --json

The data is a schema file, a folder with schema.toml, or a MovieLens folder. Equal data and settings give
equal bytes and one version; publishing what is already the newest changes nothing.
"""


def add(subparsers: argparse._SubParsersAction[Any]) -> None:
    parser = subparsers.add_parser(
        "build",
        help="index a catalog and publish it to a store",
        description="Index a catalog and publish it as the newest snapshot of its surface.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("data", type=Path, metavar="DATA", help="a schema file or a folder of data")
    parser.add_argument("--store", type=Path, required=True, metavar="DIR", help="where to publish")
    parser.add_argument(
        "--vectors", type=Path, metavar="FILE", help="item vectors as `meshfold vectors` writes them"
    )
    settings = parser.add_argument_group("index")
    for name, kind, text in (
        ("clusters", int, "0 chooses by catalog size"),
        ("iterations", int, "of k-means"),
        ("seed", int, "of k-means and of the queries that calibrate"),
        ("target_recall", float, "against exact search, reached by scoring as many items as that takes"),
        ("recall_depth", int, "results over which recall is counted"),
        ("max_scan_share", float, "most of the items that a query scores, as a share"),
        ("candidates", int, "kept for re-scoring"),
    ):
        default = getattr(_DEFAULTS, name)
        flag = f"--{name.replace('_', '-')}"
        settings.add_argument(
            flag, type=kind, default=default, metavar="N", help=f"{text} (default: {default})"
        )
    settings.add_argument(
        "--merge",
        type=Merge,
        choices=list(Merge),
        default=_DEFAULTS.merge,
        help=f"of the tasks' candidates (default: {_DEFAULTS.merge})",
    )
    parser.add_argument("--json", action="store_true", help="print a summary as JSON")
    parser.set_defaults(run=build_snapshot)


def build_snapshot(args: argparse.Namespace) -> int:
    config = IndexConfig(
        clusters=args.clusters,
        iterations=args.iterations,
        seed=args.seed,
        target_recall=args.target_recall,
        recall_depth=args.recall_depth,
        max_scan_share=args.max_scan_share,
        candidates=args.candidates,
        merge=args.merge,
    )
    with console.progress() as progress:
        folder = publish_data(args.data, args.vectors, args.store, config, progress)
    summary = summary_of(folder)
    if args.json:
        console.print(json.dumps(summary))
    else:
        recall = summary["recall"]
        console.print(
            f"{folder}: surface {summary['surface']}, version {summary['version'][:12]}, "
            f"{summary['items']:,} items, recall@{recall['depth']} {recall['user_like_recall']:.4f}"
        )
    return 0


def publish_data(
    data: Path, vectors: Path | None, store: Path, config: IndexConfig, progress: Progress
) -> Path:
    """Reads, builds and publishes. Returns the snapshot's folder. Raises InvalidData."""
    from meshfold.model.build import publish
    from meshfold.model.data.source import open_source
    from meshfold.model.errors import InvalidData
    from meshfold.model.store import Store

    progress("reading", 0, 1)
    source = open_source(data)
    if vectors is None and not source.has_vectors:
        raise InvalidData(
            f"{data}: its items come without vectors; make some with "
            f"`meshfold vectors {data} --out vectors.parquet`, then build with --vectors vectors.parquet"
        )
    catalog = source.catalog(vectors)
    progress("reading", 1, 1)
    return publish(catalog, Store(store), config, progress, source=str(data))
