"""`meshfold vectors`: computes item vectors for data without any."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from meshfold.commands import console
from meshfold.model.errors import InvalidData

DEFAULT_DIMENSION = 64

_EPILOG = """\
example:
  meshfold vectors .meshfold/movielens --out .meshfold/movielens-vectors.parquet

The vectors are a truncated SVD of who met what; items that nobody met get zeros. The file holds item_id and
vector, so vectors of your own can take its place.
"""


def add(subparsers: argparse._SubParsersAction[Any]) -> None:
    parser = subparsers.add_parser(
        "vectors",
        help="make item vectors from interactions",
        description="Make item vectors from interactions, for data that has none of its own.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("data", type=Path, metavar="DATA", help="a schema file or a folder of data")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="a .parquet file")
    parser.add_argument(
        "--dimension",
        type=int,
        default=DEFAULT_DIMENSION,
        metavar="D",
        help="at most; fewer for tiny data (default: %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="default: %(default)s")
    parser.add_argument("--json", action="store_true", help="print a summary as JSON")
    parser.set_defaults(run=make_vectors)


def make_vectors(args: argparse.Namespace) -> int:
    # Imported here, so that a command line is parsed without importing torch and pyarrow.
    from meshfold.model.data.factorized import write_factorized
    from meshfold.model.data.source import open_source

    if args.out.suffix != ".parquet":
        raise InvalidData(f"{args.out}: vectors are written as Parquet; name a file that ends in .parquet")
    with console.progress() as progress:
        source = open_source(args.data)
        made = write_factorized(source, args.data, args.out, args.dimension, args.seed, progress)
    if args.json:
        summary = {
            "path": str(args.out),
            "items": made.items,
            "items_without_interactions": made.items - made.met,
            "dimension": made.dimension,
        }
        console.print(json.dumps(summary))
    else:
        console.print(
            f"{args.out}: vectors of {made.dimension} numbers for {made.items:,} items, "
            f"{made.items - made.met:,} of them zeros because nobody met them"
        )
    return 0
