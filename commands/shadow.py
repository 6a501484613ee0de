"""`meshfold shadow`: compares the answers of two systems, and reports the differences."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from meshfold.commands import console, shadow_compare, shadow_ui
from meshfold.commands.shadow_words import STATUS, add_settings, add_store, settings_of, tell
from meshfold.model.errors import InvalidConfig

_REPORT = f"""\
R is what `meshfold shadow compare` made, or a folder of pairs, whose figures are then computed, for which --store and
the settings count. What compare made has its figures already: its pairs are in R/pairs.

examples:
  meshfold shadow report compared --html report.html
  meshfold shadow report .meshfold/pairs --store .meshfold/store --html report.html

{STATUS}"""


def add(subparsers: argparse._SubParsersAction[Any]) -> None:
    parser = subparsers.add_parser(
        "shadow",
        help="compare two systems' answers, and report the differences",
        description="Compare the answers of two systems to the same requests, and report the differences.",
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", dest="action", required=True)
    shadow_compare.add(actions)
    _add_report(actions)
    shadow_ui.add(actions)
    key = actions.add_parser(
        "key",
        help="make a key of hashed ids",
        description="Make a random key, for recording.key_file and --key: with it ids have the same hashes on every "
        "server and after every restart. Keep it from others: who has it can find ids by trying.",
    )
    key.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="a new file, for its owner alone"
    )
    key.set_defaults(run=_key)


def _add_report(actions: argparse._SubParsersAction[Any]) -> None:
    parser = actions.add_parser(
        "report",
        help="report a comparison",
        description="Report a comparison in the terminal, as HTML or as JSON.",
        epilog=_REPORT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, metavar="R", help="a comparison's folder, or one of pairs")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write the whole report as one HTML file")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a summary")
    add_store(parser)
    add_settings(parser)
    parser.set_defaults(run=_report)


def _key(args: argparse.Namespace) -> int:
    from meshfold.compat.key import write_key

    write_key(args.out)
    console.print(f"a new key is in {args.out}; give it to every server as recording.key_file")
    return 0


def _report(args: argparse.Namespace) -> int:
    from meshfold.compat.shadow.compare_settings import CompareSettings
    from meshfold.compat.shadow.comparison_folder import CompareInputs, compare_pairs, read_comparison
    from meshfold.compat.shadow.live.drop_files import dropped_in
    from meshfold.compat.shadow.pair_files import PAIRS, read_pairs
    from meshfold.compat.shadow.report.html import write_html
    from meshfold.compat.shadow.skipped import Skipped

    skipped = Skipped()
    settings = settings_of(args)
    comparison = read_comparison(args.folder)
    if comparison is not None and (args.store is not None or settings != CompareSettings()):
        raise InvalidConfig(
            f"{args.folder} has its figures already, so that --store and settings change nothing; name its pairs, "
            f"{args.folder / PAIRS}, or compare again with them"
        )
    if comparison is None:
        dropped = dropped_in(args.folder)
        given = CompareInputs((str(args.folder),), settings, counted=dropped)
        if args.store is not None:
            from meshfold.compat.shadow.store_snapshots import StoreSnapshots

            snapshots = StoreSnapshots(args.store)
            counted = snapshots.counted
            counted.update(dropped)
            given = given.beside(snapshots.catalog, {}, snapshots.notes, counted)
            for _ in snapshots.versions_of(read_pairs(args.folder)):
                pass
        with console.progress() as progress:
            pairs = read_pairs(args.folder, skipped=skipped)
            comparison = compare_pairs(pairs, given, skipped, progress=progress)
    if args.html is not None:
        write_html(comparison, args.html)
    return tell(comparison, args.json, skipped)
