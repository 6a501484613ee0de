"""`meshfold inspect`: shows the contents of a snapshot."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meshfold.commands import console
from meshfold.commands.train import show
from meshfold.model.errors import SnapshotRefused
from meshfold.model.schema import Field, FieldKind

if TYPE_CHECKING:
    from meshfold.model.filter.index import FilterLayout
    from meshfold.model.snapshot import Snapshot

# Sizes of batches whose GPU memory is shown.
_GPU_BATCHES = (1, 16, 32, 64)
_EPILOG = """\
examples:
  meshfold inspect .meshfold/store
  meshfold inspect .meshfold/store/movies/20261123T155738362009Z-29bb6e4e8984 --json

Every byte is checked against the manifest before anything is shown.
"""


def add(subparsers: argparse._SubParsersAction[Any]) -> None:
    parser = subparsers.add_parser(
        "inspect",
        help="show a snapshot's version, schema, bytes per item and recall",
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
    """The summary of a snapshot. Raises SnapshotRefused."""
    from meshfold.model.snapshot import FILTER, INDEX, ITEMS, PROGRAMS, Snapshot

    snapshot = Snapshot.open(folder)
    content, layout = snapshot.content, snapshot.layout()
    fields = {f.name: _field(snapshot, layout, f) for f in content.schema.fields}
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
        "precision": content.precision.value,
        "inputs": [{"name": i.name, "kind": i.kind.value, "length": i.length} for i in content.schema.inputs],
        "signatures": _signatures(snapshot),
        "formulas": {
            "default": content.value.default,
            "names": sorted(content.value.programs),
            "weights": {name: asdict(weight) for name, weight in content.value.weights.items()},
        },
        "config": content.config.to_json(),
        "fields": fields,
        "signature_rows": layout.rows,
        "bytes": sum(mark.size_bytes for mark in content.files.values()),
        "bytes_per_item": {
            f"{file.removesuffix('.safetensors')}.{name}": round(
                tensor.numel() * tensor.element_size() / content.items, 2
            )
            for file, tensors in parts.items()
            for name, tensor in sorted(tensors.items())
        },
        "gpu": _gpu(snapshot),
    }


def _signatures(snapshot: Snapshot) -> dict[str, Any]:
    """The inputs and outputs of each program: name, shape and dtype of every tensor. listwise: number of candidates
    that an OverArch takes as a list; 0 where it scores each alone."""
    from meshfold.model.ranking import listwise_of
    from meshfold.model.snapshot import OVER_ARCH, PROGRAMS

    signatures = {}
    for name in PROGRAMS:
        program = snapshot.program(name)
        if program is not None:
            signature = asdict(program.signature)
            if name == OVER_ARCH:
                signature["listwise"] = listwise_of(program)
            signatures[name.removesuffix(".pt2")] = signature
    return signatures


def _gpu(snapshot: Snapshot) -> dict[str, Any]:
    """Bytes of memory on a GPU: each part, the whole with residuals on the device or on the host, and about the memory
    of batches."""
    from meshfold.model.residence import Residuals, device_bytes, sizes_of, workspace_bytes
    from meshfold.model.retrieval import RetrievalModel

    model, content = RetrievalModel.of(snapshot), snapshot.content
    model.filter.drop_lists()
    sizes = sizes_of(model)
    candidates = min(content.config.candidates_on("cuda"), content.items)
    tasks = len(content.schema.tasks)
    return {
        "parts": sizes,
        "with_residuals": device_bytes(sizes, Residuals.DEVICE),
        "without_residuals": device_bytes(sizes, Residuals.HOST),
        "batches": {
            str(batch): workspace_bytes(model.index, tasks, batch, candidates) for batch in _GPU_BATCHES
        },
    }


def _field(snapshot: Snapshot, layout: FilterLayout, field: Field) -> dict[str, Any]:
    from meshfold.model.filter.measure import measure_field, price_lists

    facts: dict[str, Any] = {"kind": field.kind.value}
    if field not in snapshot.schema.filterable:
        return facts
    place = snapshot.schema.filterable.index(field)
    columns, offsets = snapshot.columns()
    rows = layout.fields[place]
    facts["values"] = columns[place].numel() if field.kind.many else snapshot.content.items
    if field.kind.holds_strings:
        facts["distinct"] = len(snapshot.vocabularies()[field.name])
    planes = len(rows.plane_values)
    if field.kind is FieldKind.NUMBER:
        return facts | {"signature": "presence only"}
    if rows.bloom is None:
        return facts | {"distinct": planes, "signature": "exact planes", "planes": planes}
    signed = measure_field(layout, place, snapshot.filter["signature"], columns[place], offsets[place])
    return facts | {
        "signature": "Bloom",
        "planes": planes,
        "bloom": asdict(signed),
        "lists": asdict(price_lists(snapshot.lists(), place, snapshot.content.items)),
    }


def _show_evaluation(evaluation: Any) -> None:
    """Prints the measurements of training, if any, which are not part of the version."""
    from meshfold.model.train.metrics import Metrics

    if evaluation:
        try:
            show(Metrics.from_json(evaluation))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            console.print(f"the training's metrics cannot be read: {error!r}")


def _formulas(formulas: dict[str, Any]) -> str:
    return ", ".join(f"{n} (default)" if n == formulas["default"] else n for n in formulas["names"])


def _precision(summary: dict[str, Any]) -> str:
    """The precision of an OverArch, and the measurements by which it was chosen."""
    precision = summary["built"].get("precision", {})
    if "kept" not in precision:
        reason = f" ({precision['reason']})" if "reason" in precision else ""
        return f"{summary['precision']}{reason}"
    return (
        f"{summary['precision']}"
        f" (int8 keeps {precision['kept']:.2%} of float32's best {precision['results']:,} and loses"
        f" {precision['ndcg_loss']:.3%} of NDCG, {precision['users']:,} users)"
    )


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
        *([("OverArch multiplies", _precision(summary))] if "over_arch" in summary["programs"] else []),
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
            (name, f["kind"], str(f.get("distinct", "")), _signature(f))
            for name, f in summary["fields"].items()
        ],
    )
    _show_programs(summary)
    _show_bloom(summary["fields"])
    _show_lists(summary["fields"])
    _show_evaluation(summary["built"].get("evaluation"))
    console.table(
        ["part", "bytes an item"],
        [(name, float(b)) for name, b in summary["bytes_per_item"].items() if b >= 0.005],
    )
    _show_gpu(summary["gpu"], items)


def _show_programs(summary: dict[str, Any]) -> None:
    """Prints the features that the user tower reads, and inputs and outputs of each program."""
    if summary["inputs"]:
        console.table(
            ["input", "kind", "values that enter"],
            [(i["name"], i["kind"], i["length"]) for i in summary["inputs"]],
            title="Features of requests that a user tower reads",
        )
    rows: list[tuple[str, str, str, str, str]] = []
    for name, signature in summary["signatures"].items():
        program = f"{name} (listwise)" if signature.get("listwise") else name
        for way, tensors in (("takes", signature["inputs"]), ("gives", signature["outputs"])):
            for tensor in tensors:
                shape = ", ".join(map(str, tensor["shape"]))
                rows.append((program, way, tensor["name"] or "-", f"[{shape}]", tensor["dtype"]))
    if rows:
        shown = [
            ("" if place and row[0] == rows[place - 1][0] else row[0], *row[1:])
            for place, row in enumerate(rows)
        ]
        console.table(["program", "", "tensor", "shape", "dtype"], shown, title="Programs")


def _show_gpu(gpu: dict[str, Any], items: int) -> None:
    rows = [
        *((part, size) for part, size in gpu["parts"].items() if size),
        ("all, --residuals device", gpu["with_residuals"]),
        ("all, --residuals host", gpu["without_residuals"]),
        *((f"beside it, about, a batch of {batch}", size) for batch, size in gpu["batches"].items()),
    ]
    console.table(
        ["part", "bytes an item", "MiB in all"],
        [
            (
                name,
                f"{size / items:,.2f}".rjust(len("bytes an item")),
                f"{size / 2**20:,.1f}".rjust(len("MiB in all")),
            )
            for name, size in rows
        ],
        title="On a GPU",
    )


def _signature(field: dict[str, Any]) -> str:
    planes = field.get("planes", 0)
    if field.get("signature") == "Bloom" and planes:
        return f"{planes} exact {'plane' if planes == 1 else 'planes'}, Bloom for the rest"
    return str(field.get("signature", "not filtered"))


def _show_bloom(fields: dict[str, dict[str, Any]]) -> None:
    """Prints the false positives of Bloom rows, and the cost of other numbers of rows."""
    rows: list[tuple[object, ...]] = []
    for name, field in fields.items():
        if "bloom" not in field:
            continue
        bloom = field["bloom"]
        chosen, passing = bloom["chosen"], f"{bloom['typical_pass_rate']:.3%}"
        for width in sorted([chosen, *bloom["others"]], key=lambda width: int(width["rows"])):
            own = width is chosen
            rows.append(
                (
                    name if own else "",
                    width["rows"],
                    width["hashes"],
                    f"{width['bytes_per_item']:.1f}".rjust(len("bytes an item")),
                    f"{width['bytes'] / 2**20:,.1f}".rjust(len("MiB in all")),
                    f"{width['expected']:.3%}".rjust(len("expected")),
                    (f"{bloom['measured']:.3%}" if own else "").rjust(len("measured")),
                    (passing if own else "").rjust(len("usual match")),
                )
            )
    if rows:
        console.table(
            ["field", "rows", "hashes", "bytes an item", "MiB in all", "expected", "measured", "usual match"],
            rows,
            title="Items that Bloom rows let through in vain; lines without a name: other numbers of rows",
        )


def _show_lists(fields: dict[str, dict[str, Any]]) -> None:
    """Prints the memory of posting lists, which have the items of values without a plane."""
    rows: list[tuple[object, ...]] = []
    for name, field in fields.items():
        if "lists" not in field:
            continue
        lists = field["lists"]
        rows.append(
            (
                name,
                f"{lists['lists']:,}".rjust(len("lists")),
                f"{lists['longest']:,}".rjust(len("longest")),
                f"{lists['bytes_per_item']:.1f}".rjust(len("bytes an item")),
                f"{lists['bytes'] / 2**20:,.1f}".rjust(len("MiB in all")),
            )
        )
    if rows:
        console.table(
            ["field", "lists", "longest", "bytes an item", "MiB in all"],
            rows,
            title="Posting lists of values without a plane, by which filters of few items are answered",
        )
