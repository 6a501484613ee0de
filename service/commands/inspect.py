"""`meshfold inspect`: what a snapshot holds."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from meshfold.model.errors import SnapshotRefused
from meshfold.service import console
from meshfold.service.commands.train import show

_EPILOG = """\
examples:
  meshfold inspect .meshfold/store
  meshfold inspect .meshfold/store/movies/20261123T155738362009Z-29bb6e4e8984 --json

Every byte is checked against the manifest before anything is shown.
"""


def add(subparsers: argparse._SubParsersAction[Any]) -> None:
    parser = subparsers.add_parser(
        "inspect",
        help="show what a snapshot holds: version, schema, bytes an item, recall",
        description="Show the newest snapshot of each surface of a store, or one snapshot.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("path", type=Path, metavar="PATH", help="a store or a snapshot's folder")
    parser.add_argument("--json", action="store_true", help="print JSON, a line a snapshot")
    parser.set_defaults(run=inspect_snapshots)


def inspect_snapshots(args: argparse.Namespace) -> int:
    for folder in _folders(args.path):
        summary = summary_of(folder)
        if args.json:
            console.print(json.dumps(summary))
        else:
            _show(summary)
    return 0


def summary_of(folder: Path) -> dict[str, Any]:
    """What there is to say of a snapshot. Raises SnapshotRefused."""
    from meshfold.model.snapshot import FILTER, INDEX, ITEMS, PROGRAMS, Snapshot

    snapshot = Snapshot.open(folder)
    content, layout = snapshot.content, snapshot.layout()
    names = [f.name for f in content.schema.filterable]
    fields = {}
    for f in content.schema.fields:
        told: dict[str, Any] = {"kind": f.kind.value}
        if f.name in names:
            index = layout.fields[names.index(f.name)]
            held = snapshot.filter[f"column.{f.name}"]
            told["values"] = held.numel() if f.kind.many else content.items
            if index.plane_values is not None:
                told |= {"distinct": len(index.plane_values), "signature": "exact planes"}
            elif f.kind.holds_strings:
                told |= {"distinct": len(snapshot.vocabularies()[f.name]), "signature": "Bloom"}
            else:
                told["signature"] = "Bloom" if f.kind.value != "number" else "presence only"
        fields[f.name] = told
    parts = {INDEX: snapshot.index, ITEMS: snapshot.items, FILTER: snapshot.filter}
    return {
        "folder": str(folder),
        "surface": content.schema.surface,
        "version": snapshot.version,
        "generated": content.schema.generated,
        "built": dict(snapshot.built),
        "items": content.items,
        "dimension": content.dimension,
        "tasks": list(content.schema.tasks),
        "clusters": content.clusters,
        "scan_budget": content.scan_budget,
        "recall": snapshot.built.get("recall", {}),
        "programs": {
            name.removesuffix(".pt2"): content.files[name].size_bytes
            for name in PROGRAMS
            if name in content.files
        },
        "formulas": {
            "default": content.value.default,
            "names": sorted(content.value.programs),
            "weights": {name: asdict(weight) for name, weight in content.value.weights.items()},
        },
        "config": content.config.to_json(),
        "fields": fields,
        "bloom_rows": layout.bloom_rows,
        "bytes": sum(mark.size_bytes for mark in content.files.values()),
        "bytes_per_item": {
            f"{file.removesuffix('.safetensors')}.{name}": round(
                tensor.numel() * tensor.element_size() / content.items, 2
            )
            for file, tensors in parts.items()
            for name, tensor in sorted(tensors.items())
        },
    }


def _show_evaluation(evaluation: Any) -> None:
    """What training measured, where a model was trained; it stands outside the version, for people."""
    from meshfold.model.train.metrics import Metrics

    if evaluation:
        try:
            show(Metrics.from_json(evaluation))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            console.print(f"the training's metrics cannot be read: {error!r}")


def _formulas(formulas: dict[str, Any]) -> str:
    return ", ".join(f"{n} (default)" if n == formulas["default"] else n for n in formulas["names"])


def _folders(path: Path) -> list[Path]:
    from meshfold.model.snapshot import MANIFEST
    from meshfold.model.store import Store

    if (path / MANIFEST).exists():
        return [path]
    store = Store(path)
    folders = [store.published(surface)[0] for surface in store.surfaces()]
    if not folders:
        raise SnapshotRefused(
            f"{path}: neither a snapshot nor a store with one; publish with `meshfold build`"
        )
    return folders


def _show(summary: dict[str, Any]) -> None:
    recall = summary["recall"]
    console.print(summary["folder"])
    rows: list[tuple[str, object]] = [
        ("surface", summary["surface"] + (" (generated data)" if summary["generated"] else "")),
        ("version", summary["version"]),
        ("built", f"{summary['built'].get('at', '?')} from {summary['built'].get('source') or '?'}"),
        ("items", f"{summary['items']:,} of dimension {summary['dimension']}"),
        ("tasks", ", ".join(summary["tasks"])),
        (
            "programs",
            ", ".join(f"{n} ({b / 2**20:.1f} MiB)" for n, b in summary["programs"].items()) or "none",
        ),
        ("value formulas", _formulas(summary["formulas"])),
        ("clusters", f"{summary['clusters']:,}"),
        ("scored a query", f"{summary['scan_budget']:,} survivors of the filter"),
    ]
    for kind in ("item_like", "user_like"):
        if recall:
            rows.append(
                (
                    f"recall@{recall['depth']}, {kind.replace('_', '-')}",
                    f"{recall[f'{kind}_recall']:.4f}, scoring {recall[f'{kind}_scored_share']:.1%} of items",
                )
            )
    size, items = summary["bytes"], summary["items"]
    rows.append(("size", f"{size / 2**20:,.1f} MiB, {size / items:,.1f} bytes an item"))
    console.table(["", ""], rows)
    console.table(
        ["field", "kind", "distinct", "signature"],
        [
            (name, f["kind"], str(f.get("distinct", "")), f.get("signature", "not filtered"))
            for name, f in summary["fields"].items()
        ],
    )
    _show_evaluation(summary["built"].get("evaluation"))
    console.table(
        ["part", "bytes an item"],
        [(name, float(b)) for name, b in summary["bytes_per_item"].items() if b >= 0.005],
    )
