"""`meshfold tune`: measures the fastest settings of searches on this device."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meshfold.commands import console
from meshfold.model.errors import InvalidConfig, SnapshotRefused

if TYPE_CHECKING:
    from meshfold.kernels.search.tuning import Tuning
    from meshfold.model.snapshot import Snapshot

_EPILOG = """\
examples:
  meshfold tune --store .meshfold/store
  meshfold tune --store .meshfold/store --out tuning.toml
  meshfold serve --store .meshfold/store --tuning tuning.toml

It changes how searches are done, never what they answer. Measure where the server will run, with as many threads.
"""


def add(subparsers: argparse._SubParsersAction[Any]) -> None:
    parser = subparsers.add_parser(
        "tune",
        help="measure how searches are fastest on this device",
        description="Measure settings of the native search on the newest snapshot of a store.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--store", type=Path, required=True, metavar="DIR", help="a store with a snapshot")
    parser.add_argument("--surface", metavar="NAME", help="default: the one with the most items")
    parser.add_argument("--out", type=Path, metavar="FILE", help="where to write the settings, as TOML")
    parser.add_argument(
        "--rounds", type=int, default=21, metavar="N", help="times that all is measured (default: 21)"
    )
    parser.set_defaults(run=tune_search)


def tune_search(args: argparse.Namespace) -> int:
    from meshfold.kernels.search.tuning import Tuning, write_tuning
    from meshfold.tools.tuning import tune

    if args.rounds < 1:
        raise InvalidConfig(f"--rounds must be at least 1, got {args.rounds}")
    if args.out is not None and not args.out.parent.is_dir():
        raise InvalidConfig(f"--out {args.out}: there is no folder {args.out.parent}")
    snapshot = _snapshot(args.store, args.surface)
    with console.progress() as progress:
        tuned = tune(snapshot, args.rounds, progress)
    console.table(
        ["queries", "pass rate", "by", "batch", "before ms", "after ms"],
        [(t.kind, f"{t.pass_rate:.1%}", t.filter, t.batch, t.before_ms, t.after_ms) for t in tuned.timings],
    )
    gain = "nothing is faster" if tuned.tuning == Tuning() else f"{tuned.gain:.1%} faster than the defaults"
    console.print(f"{_settings(tuned.tuning)}: {gain}")
    if args.out is not None:
        write_tuning(tuned.tuning, args.out, _about(snapshot))
        console.print(f"{args.out}: written; serve with --tuning {args.out}")
    return 0


def _snapshot(root: Path, surface: str | None) -> Snapshot:
    """The newest snapshot of the surface, by default of the surface with the most items."""
    from meshfold.model.snapshot import Snapshot
    from meshfold.model.store import Store

    store = Store(root)
    snapshots = []
    for name in [surface] if surface else store.surfaces():
        snapshots += [Snapshot.open(folder, name) for folder in store.published(name)[:1]]
    if not snapshots:
        named = f" of surface {surface!r}" if surface else ""
        raise SnapshotRefused(f"{root}: holds no snapshot{named}; publish one with `meshfold build`")
    return max(snapshots, key=lambda snapshot: snapshot.content.items)


def _settings(tuning: Tuning) -> str:
    return ", ".join(f"{name} = {value:g}" for name, value in vars(tuning).items())


def _about(snapshot: Snapshot) -> str:
    import torch

    from meshfold.kernels.native import library

    content = snapshot.content
    return (
        "How searches go about it on this device, as `meshfold tune` measured it; `meshfold serve --tuning FILE`.\n"
        f"Kernels: {library.level()}, {torch.get_num_threads()} threads; {content.items:,} items of dimension"
        f" {content.dimension}."
    )
