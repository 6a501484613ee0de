"""`meshfold build`: data to a published snapshot."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from meshfold.commands import console
from meshfold.commands.inspect import summary_of
from meshfold.model.config import IndexConfig, Merge, PrecisionChoice
from meshfold.model.errors import InvalidConfig
from meshfold.service.extras import need

_DEFAULTS = IndexConfig()
_EPILOG = """\
examples:
  meshfold build shop/schema.toml --store .meshfold/store
  meshfold build ml-latest-small --model model --store .meshfold/store
  meshfold build shop --user-tower towers.py:tower --store .meshfold/store
  meshfold build shop --store .meshfold/store --target-recall 0.99 --json
  meshfold build shop --store .meshfold/store --device cuda
  meshfold build shop --model model --store .meshfold/store --precision float32

The data is a schema file, a folder with schema.toml, or a MovieLens folder. Equal data and settings give
equal bytes and one version; publishing what is already the newest changes nothing.

With --model the catalog may have changed since the training: items that the model lacks get vectors from their fields
and interactions, items that left are dropped, and both are counted (docs/refresh.md).
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
    parser.add_argument(
        "--model", type=Path, metavar="DIR", help="vectors and programs as `meshfold train` writes them"
    )
    own = parser.add_argument_group(
        "modules of your own, as file.py:name or package.module:name (docs/models.md)"
    )
    for name, text in (
        ("user_tower", "from history and features to query vectors"),
        ("item_tower", "from fields to item vectors"),
        ("over_arch", "from user, items and similarities to task scores"),
    ):
        own.add_argument(f"--{name.replace('_', '-')}", metavar="PATH", help=text)
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
    parser.add_argument(
        "--device",
        default="cpu",
        metavar="DEVICE",
        help="cpu or cuda: the device of the build; the version is the same (default: cpu)",
    )
    parser.add_argument(
        "--precision",
        type=PrecisionChoice,
        choices=list(PrecisionChoice),
        default=PrecisionChoice.AUTO,
        help="of the OverArch's linear layers; auto takes integers where users of the data get nearly the same results"
        f" (default: {PrecisionChoice.AUTO})",
    )
    parser.add_argument("--json", action="store_true", help="print a summary as JSON")
    parser.set_defaults(run=build_snapshot)


def build_snapshot(args: argparse.Namespace) -> int:
    # Imported here, so that a command line is parsed without importing torch.
    from meshfold.model.publishing import ModelParts, publish_data

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
        parts = ModelParts(args.vectors, args.model, args.user_tower, args.item_tower, args.over_arch)
        device = _device(args.device)
        folder = publish_data(args.data, parts, args.store, config, progress, device, args.precision)
    summary = summary_of(folder)
    if args.json:
        console.print(json.dumps(summary))
    else:
        recall = summary["recall"]
        console.print(
            f"{folder}: surface {summary['surface']}, version {summary['version'][:12]}, "
            f"{summary['items']:,} items, recall@{recall['depth']} {recall['user_like_recall']:.4f}"
        )
        _tell_changes(summary["built"])
    return 0


def _tell_changes(built: Mapping[str, Any]) -> None:
    """Prints the differences between catalog and vectors: items without vectors, vectors without items."""
    changes = built.get("catalog_changes", {})
    new, met, left = (changes.get(name, 0) for name in ("new_items", "new_items_met", "items_left"))
    lacking = built.get("items_without_vector", 0)
    if new:
        ways = {"from their fields": new - met - lacking, "from interactions too": met, "zeros": lacking}
        counts = ", ".join(f"{number:,} {way}" for way, number in ways.items() if number)
        console.print(f"{new:,} items are new to the model and got vectors: {counts}")
    if left:
        console.print(f"{left:,} items of the model are not in the catalog any more and were dropped")
    if lacking:
        where = "" if new else " in the file"
        console.print(f"{lacking:,} items have no vector{where} and got zeros: their similarity is always 0")


def _device(name: str) -> str:
    """Checks a device's name. Raises InvalidConfig where it is invalid, or missing on this machine."""
    import torch

    if not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise InvalidConfig(f"--device must be cpu, cuda or cuda:N, got {name!r}")
    if name != "cpu" and not torch.cuda.is_available():
        raise InvalidConfig(f"--device {name}: torch sees no CUDA device here; build with --device cpu")
    if name != "cpu":
        need("gpu", f"--device {name}")
    return name
