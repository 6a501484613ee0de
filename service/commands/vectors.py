"""`meshfold vectors`: item vectors for data that has none of its own."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from meshfold.model.errors import InvalidData
from meshfold.service import console

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
        "--dimension", type=int, default=64, metavar="D", help="at most; fewer for tiny data (default: 64)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="default: %(default)s")
    parser.add_argument("--json", action="store_true", help="print a summary as JSON")
    parser.set_defaults(run=make_vectors)


def make_vectors(args: argparse.Namespace) -> int:
    from meshfold.model.data.source import open_source
    from meshfold.model.data.vector_file import write_vectors
    from meshfold.model.vectors import factorize

    if args.out.suffix != ".parquet":
        raise InvalidData(f"{args.out}: vectors are written as Parquet; name a file that ends in .parquet")
    with console.progress() as progress:
        progress("read", 0, 1)
        source = open_source(args.data)
        interactions = source.interactions()
        if interactions is None:
            raise InvalidData(f"{args.data}: has no interactions to make vectors from; add [interactions]")
        item_ids = source.catalog().item_ids
        progress("read", 1, 1)
        vectors = factorize(interactions, item_ids, args.dimension, args.seed, progress)
        write_vectors(args.out, item_ids, [vectors], vectors.shape[1])
    met = int(vectors.any(axis=1).sum())
    summary = {
        "path": str(args.out),
        "items": len(item_ids),
        "items_without_interactions": len(item_ids) - met,
        "dimension": vectors.shape[1],
    }
    if args.json:
        console.print(json.dumps(summary))
    else:
        console.print(
            f"{args.out}: vectors of {vectors.shape[1]} numbers for {len(item_ids):,} items, "
            f"{len(item_ids) - met:,} of them zeros because nobody met them"
        )
    return 0
