"""`meshfold train`: learns item vectors, a user tower and an OverArch from interactions."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meshfold.commands import console
from meshfold.model.train.config import OverArchKind, TrainConfig
from meshfold.tools.doubts import of_tasks, of_ties, of_untaught, tell

if TYPE_CHECKING:
    from meshfold.model.train.metrics import Metrics, Quality

_DEFAULTS = TrainConfig()
SHOWN_AT = (20, 50, 100)
_EPILOG = """\
examples:
  meshfold train ml-latest-small --out movies-model
  meshfold train shop/schema.toml --out shop-model --over-arch mol --seed 1
  meshfold train ml-latest-small --from movies-model --out newer-model --steps 40
  meshfold build ml-latest-small --model movies-model --store .meshfold/store

The latest interactions of each user are held out: the metrics are of those, and nothing was learned or chosen
from them. Killed, the same line goes on where it was, and ends with the same bytes: checkpoints lie in a
hidden folder beside DIR until the model is written. Other arguments or data start anew.

--from MODEL begins with a model of the same surface and tasks: its vectors, its user tower and its OverArch go on, and
the towers take some steps (100 unless --steps says) on the interactions that there are now. These may have grown since,
not shrunk, or what is held out was learned from before.
"""
_FLAGS: tuple[tuple[str, str], ...] = (
    ("dimension", "of the vectors; fewer for tiny data"),
    ("seed", "of everything drawn"),
    (
        "held_out",
        "share of each user's latest interactions for the test, and of the rest for validation",
    ),
    ("steps", "of the towers, at most"),
    ("batch_size", "examples a step of the towers"),
    ("targets", "of an example, at most"),
    ("window_share", "how far ahead an example looks, as a share of its history"),
    ("negatives", "drawn a step; the whole catalog where it is no larger"),
    ("learning_rate", "of the towers"),
    ("validate_every", "steps between validations, which are checkpoints too"),
    ("patience", "validations without a better one that end training"),
    ("candidates", "from the index, for each example of OverArch"),
    ("over_arch_steps", "of OverArch, at most"),
    ("over_arch_batch_size", "examples a step of OverArch"),
    ("over_arch_learning_rate", "of OverArch"),
    ("device", "auto, cpu or cuda; auto takes a GPU where there is one"),
    ("threads", "of the CPU; another number gives other last bits"),
)


def add(subparsers: argparse._SubParsersAction[Any]) -> None:
    parser = subparsers.add_parser(
        "train",
        help="train towers and OverArch on interactions",
        description="Train user and item towers and an OverArch on interactions, and measure them.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("data", type=Path, metavar="DATA", help="a schema file or a folder of data")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the model folder to write")
    parser.add_argument(
        "--from",
        type=Path,
        dest="start",
        metavar="MODEL",
        help="a model folder to begin with instead of anew (docs/refresh.md)",
    )
    settings = parser.add_argument_group("training")
    for name, text in _FLAGS:
        default = getattr(_DEFAULTS, name)
        settings.add_argument(
            f"--{name.replace('_', '-')}",
            type=type(default),
            default=default,
            metavar="NAME" if isinstance(default, str) else "N",
            help=f"{text} (default: {default})",
        )
    settings.add_argument(
        "--over-arch",
        type=OverArchKind,
        choices=list(OverArchKind),
        default=_DEFAULTS.over_arch,
        help=f"an MLP, a mixture of logits, or none (default: {_DEFAULTS.over_arch})",
    )
    settings.add_argument(
        "--hidden",
        type=_widths,
        default=_DEFAULTS.hidden,
        metavar="N,N,...",
        help=f"widths of OverArch's layers (default: {','.join(map(str, _DEFAULTS.hidden))})",
    )
    parser.add_argument("--json", action="store_true", help="print the metrics as JSON")
    parser.set_defaults(run=train_model)


def train_model(args: argparse.Namespace) -> int:
    # Imported here, so that a command line is parsed without importing torch.
    from meshfold.model.data.source import open_source
    from meshfold.model.train.training import train

    names = [f.name for f in dataclasses.fields(TrainConfig)]
    config = TrainConfig(**{name: getattr(args, name) for name in names})
    with console.progress() as progress:
        metrics = train(open_source(args.data), args.out, config, progress, args.start)
    tell_doubts(metrics)
    if args.json:
        console.print(json.dumps({"path": str(args.out), **metrics.to_json()}))
    else:
        show(metrics)
        console.print(f"{args.out}: next, meshfold build {args.data} --model {args.out} --store STORE")
    return 0


def show(metrics: Metrics) -> None:
    """Prints a table for each task: one row per ranking, with recall and NDCG."""
    for task, users in metrics.users.items():
        rows = []
        for name, by_task in metrics.rankings.items():
            rows.append([name, *cells_of(by_task[task])])
        columns = ["ranking", *(f"{part}@{k}" for part in ("recall", "ndcg") for k in SHOWN_AT)]
        console.table(columns, rows, f"{task}: held-out interactions of {users:,} users")


def cells_of(quality: Quality | None) -> list[str]:
    """Recall, then NDCG at each shown depth; "-" where nothing was measured."""
    if quality is None:
        return ["-"] * (2 * len(SHOWN_AT))
    return [f"{part[k]:.4f}" for part in (quality.recall, quality.ndcg) for k in SHOWN_AT]


def tell_doubts(metrics: Metrics) -> None:
    """Prints the reasons to doubt the metrics of a training."""
    training = metrics.training
    counts = training["interactions"]
    of_users = of_tasks(metrics.users, counts, training["already_met"])
    tell([*of_ties(training["tied_cuts"]), *of_users, *of_untaught(training["untaught"], counts)])


def _widths(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))
