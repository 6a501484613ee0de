"""`meshfold data`: downloads or generates a catalog for trials."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meshfold.commands import console

if TYPE_CHECKING:
    from meshfold.model.progress import Progress

_EPILOG = """\
examples:
  meshfold data generated --items 100000 --out .meshfold/generated
  meshfold data movielens --out .meshfold/movielens
"""
_GENERATED_EPILOG = """\
example:
  meshfold data generated --items 1000000 --dimension 128 --users 20000 --seed 7 --out .meshfold/million

Writes items.parquet (with vectors), interactions.parquet, queries.parquet (held-out users and, for
comparison, vectors drawn as items are) and schema.toml. Equal arguments give equal files.
"""
_MOVIELENS_EPILOG = """\
examples:
  meshfold data movielens --out .meshfold/movielens
  meshfold data movielens --url file:///tmp/ml-1m.zip --out .meshfold/movielens

MovieLens is GroupLens' and comes with terms of use: see README.txt in the folder.
"""


def add(subparsers: argparse._SubParsersAction[Any]) -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = subparsers.add_parser(
        "data",
        help="get a catalog to try things on",
        description="Get a catalog to try things on.",
        epilog=_EPILOG,
        formatter_class=raw,
    )
    kinds = parser.add_subparsers(title="data", metavar="KIND", required=True)
    generated = kinds.add_parser(
        "generated",
        help="invent a catalog of any size with planted preferences",
        description="Invent a catalog of any size whose users have planted preferences.",
        epilog=_GENERATED_EPILOG,
        formatter_class=raw,
    )
    generated.add_argument("--items", type=int, default=100_000, metavar="N", help="default: %(default)s")
    generated.add_argument(
        "--dimension", type=int, default=128, metavar="D", help="of the vectors (default: %(default)s)"
    )
    generated.add_argument("--users", type=int, default=5_000, metavar="U", help="default: %(default)s")
    generated.add_argument("--seed", type=int, default=0, metavar="S", help="default: %(default)s")
    _add_out(generated)
    generated.set_defaults(run=write_generated_data)

    movielens = kinds.add_parser(
        "movielens",
        help="download MovieLens latest-small: 9,742 movies, 100,836 ratings",
        description="Download the public MovieLens latest-small: 9,742 movies, 100,836 ratings (1 MB).",
        epilog=_MOVIELENS_EPILOG,
        formatter_class=raw,
    )
    movielens.add_argument(
        "--url", default="", help="of another archive: any edition from 100K to 32M, as a zip"
    )
    _add_out(movielens)
    movielens.set_defaults(run=download_movielens)


def write_generated_data(args: argparse.Namespace) -> int:
    from meshfold.model.data.generated_tables import write_generated

    with console.progress() as progress:
        write_generated(args.out, args.items, args.dimension, args.users, args.seed, progress)
        summary = _summary(args.out, progress)
    return _tell(args, "an invented catalog", summary)


def download_movielens(args: argparse.Namespace) -> int:
    from meshfold.model.data.movielens_archive import URL, fetch_movielens

    with console.progress() as progress:
        fetch_movielens(args.out, args.url or URL, progress)
        summary = _summary(args.out, progress)
    return _tell(args, "MovieLens", summary)


def _add_out(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="a folder that is not there yet"
    )
    parser.add_argument("--json", action="store_true", help="print a summary as JSON")


def _summary(out: Path, progress: Progress) -> dict[str, Any]:
    """A summary of the written data, as read back."""
    from meshfold.model.data.source import open_source

    progress("reading", 0, 1)
    source = open_source(out)
    catalog, interactions = source.catalog(), source.interactions()
    progress("reading", 1, 1)
    return {
        "path": str(out),
        "surface": source.schema.surface,
        "items": len(catalog),
        "dimension": catalog.dimension,
        "interactions": 0 if interactions is None else len(interactions),
        "users": 0 if interactions is None else len(interactions.users),
    }


def _tell(args: argparse.Namespace, what: str, summary: dict[str, Any]) -> int:
    if args.json:
        console.print(json.dumps(summary))
    else:
        console.print(
            f"{args.out}: {what}: {summary['items']:,} items, {summary['interactions']:,} interactions "
            f"of {summary['users']:,} users"
        )
    return 0
