"""The command line of a program that measures."""

from __future__ import annotations

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path


def arguments(
    description: str | None, work: str = "", keep: bool = False, items: int = 0, dimension: int = 0
) -> ArgumentParser:
    """A parser whose help is the module's docstring. work, items, dimension: defaults; a flag without one is absent."""
    parser = ArgumentParser(description=description, formatter_class=RawDescriptionHelpFormatter)
    if work:
        parser.add_argument("--work", type=Path, default=Path(work), help="folder of data, stores and logs")
    if items:
        parser.add_argument("--items", type=int, default=items, help="number of items (default: %(default)s)")
    if dimension:
        parser.add_argument(
            "--dimension", type=int, default=dimension, help="size of vectors (default: %(default)s)"
        )
    if keep:
        parser.add_argument("--keep", action="store_true", help="append the rows to benchmarks/results")
    return parser
