"""Flags, exit statuses and output shared by the actions of `meshfold shadow`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from meshfold.commands import console
from meshfold.model.errors import InvalidConfig

if TYPE_CHECKING:
    from meshfold.compat.shadow.compare_settings import CompareSettings
    from meshfold.compat.shadow.comparison import Comparison
    from meshfold.compat.shadow.skipped import Skipped

# Exit status of a command that skipped a part of its input.
SKIPPED = 3

STATUS = f"""\
exit status: 0 where everything was read, {SKIPPED} where something was skipped (the summary counts it by reason),
1 where nothing could be compared or the result could not be written, 2 for another command line.
"""


def add_store(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--store",
        type=Path,
        metavar="S",
        help="whose snapshots tell of titles, exposure and items that a filter does not admit",
    )


def add_mapping(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--mapping",
        action="append",
        default=[],
        type=Path,
        metavar="FILE",
        help="of a caller's own protocol, whose calls a recording holds; may be repeated",
    )


def add_settings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--rbo-p",
        type=float,
        default=0.9,
        metavar="P",
        help="persistence of rank-biased overlap (default: %(default)g)",
    )
    parser.add_argument(
        "--tolerance",
        type=float,
        default=1e-6,
        metavar="SHARE",
        help="scores that differ by at most this share are ties (default: %(default)g)",
    )
    parser.add_argument(
        "--min-users", type=int, default=20, metavar="N", help="that a slice must have (default: %(default)s)"
    )
    parser.add_argument(
        "--examples",
        type=int,
        default=12,
        metavar="N",
        help="pairs of a surface shown whole (default: %(default)s)",
    )


def settings_of(args: argparse.Namespace) -> CompareSettings:
    """The settings of a comparison. Raises InvalidConfig."""
    from meshfold.compat.shadow.compare_settings import CompareSettings, MeasureSettings

    try:
        measures = MeasureSettings(rbo_p=args.rbo_p, tie_tolerance=args.tolerance)
        return CompareSettings(measures, min_users=args.min_users, examples=args.examples)
    except ValueError as error:
        raise InvalidConfig(str(error)) from None


def tell(comparison: Comparison, as_json: bool, skipped: Skipped) -> int:
    """Prints a comparison; returns the exit status."""
    from meshfold.compat.shadow.report.as_json import to_json
    from meshfold.compat.shadow.report.summary import summary
    from meshfold.compat.shadow.sources import OTHER_SURFACES

    if as_json:
        console.print(json.dumps(to_json(comparison), ensure_ascii=False, allow_nan=False, indent=1))
    else:
        console.print(summary(comparison))
    return SKIPPED if skipped.counted.keys() - {OTHER_SURFACES} else 0
