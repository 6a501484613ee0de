"""`meshfold query`: ask a running server and show the answer."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from meshfold.model.types import (
    QUERY_VECTOR,
    Candidates,
    FieldValues,
    Float32s,
    Int64s,
    MaxPerValue,
    Query,
    no_ids,
)
from meshfold.service import console
from meshfold.service.config import ServerConfig
from meshfold.service.handlers import ALL_FIELDS

_EPILOG = """\
examples:
  meshfold query --history 1,2,3 --filter '"Comedy" in genres && year >= 1990'
  meshfold query --history 1,2,3 --weights like=0.7 watch=0.3 --max-per author=2 --explain
  meshfold query --vector user.npy --fields title,year --max-results 100 --json
"""
# Values of a field in a cell of the table.
_SHOWN = 4


class Client(Protocol):
    """A connection to a server."""

    def retrieve(self, query: Query, timeout_s: float) -> Candidates: ...

    def close(self) -> None: ...


def add(subparsers: argparse._SubParsersAction[Any], connect: Callable[[str], Client]) -> None:
    """connect: address -> client."""
    parser = subparsers.add_parser(
        "query",
        help="ask a running server and show the answer",
        description="Ask a running server and show the answer.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--address", default=ServerConfig.address, help="of the server (default: %(default)s)"
    )
    parser.add_argument(
        "--timeout", type=_seconds, default=10.0, metavar="SECONDS", help="default: %(default)g"
    )
    parser.add_argument("--surface", default="", help="may be left out where the server has one")
    user = parser.add_argument_group("for whom")
    user.add_argument(
        "--history", type=_ids, default=no_ids(), metavar="ID,...", help="items met, oldest first"
    )
    user.add_argument("--user", type=int, default=0, metavar="ID", help="id of the user")
    user.add_argument(
        "--vector",
        nargs="+",
        type=_vector,
        default=[],
        metavar="FILE",
        help="query vector as .npy or text, or one for each task in the order of the surface's tasks",
    )
    what = parser.add_argument_group("what")
    what.add_argument("--filter", metavar="CEL", help="such as 'year >= 1990 && !(\"Horror\" in genres)'")
    what.add_argument("--exclude", type=_ids, default=no_ids(), metavar="ID,...", help="items to leave out")
    what.add_argument("--max-results", type=int, default=20, metavar="N", help="default: %(default)s")
    what.add_argument(
        "--max-per", type=_max_per, metavar="FIELD=N", help="most results that share a value of the field"
    )
    what.add_argument("--weights", nargs="+", type=_weight, default=[], metavar="TASK=WEIGHT")
    what.add_argument("--formula", default="", help="name of a value formula of the surface")
    shown = parser.add_argument_group("what to show")
    shown.add_argument(
        "--fields", type=_names, default=(ALL_FIELDS,), metavar="NAME,...", help="default: every field"
    )
    shown.add_argument("--explain", action="store_true", help="show how the answer came about")
    shown.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.set_defaults(run=partial(_run, connect=connect))


def _run(args: argparse.Namespace, connect: Callable[[str], Client]) -> int:
    query = _query(args)
    client = connect(args.address)
    try:
        candidates = client.retrieve(query, args.timeout)
    finally:
        client.close()
    if args.json:
        console.print(json.dumps(to_json(candidates), ensure_ascii=False, indent=1))
    else:
        _show(candidates)
    return 0


def _query(args: argparse.Namespace) -> Query:
    expression = None
    if args.filter is not None:
        from meshfold.model.filter.text import parse_filter

        expression = parse_filter(args.filter)
    return Query(
        surface=args.surface,
        max_results=args.max_results,
        user_id=args.user,
        history=args.history,
        features={QUERY_VECTOR: np.concatenate(args.vector)} if args.vector else {},
        filter=expression,
        excluded_ids=args.exclude,
        task_weights=dict(args.weights),
        value_formula=args.formula,
        max_per_value=args.max_per,
        fields=args.fields,
        explain=args.explain,
    )


def to_json(candidates: Candidates) -> dict[str, Any]:
    """One object an item, as JSON's values. Every field is a list: empty where the item lacks it."""
    fields = {name: _rows(values) for name, values in candidates.fields.items()}
    items = [
        {
            "item_id": item_id,
            "value": value,
            "similarity": similarity,
            "task_scores": dict(zip(candidates.tasks, scores, strict=True)),
            "fields": {name: rows[i] for name, rows in fields.items()},
        }
        for i, (item_id, value, similarity, scores) in enumerate(_results(candidates))
    ]
    return {
        "version": candidates.version,
        "tasks": list(candidates.tasks),
        "items": items,
        "explain": dict(candidates.explain),
    }


def _show(candidates: Candidates) -> None:
    fields = {name: _rows(values) for name, values in candidates.fields.items()}
    tasks = candidates.tasks if len(candidates.tasks) > 1 else ()
    columns = ["item", *fields, "value", "similarity", *tasks]
    rows = [
        [
            item_id,
            *(_cell(r[i]) for r in fields.values()),
            value,
            similarity,
            *scores[: len(tasks)],
        ]
        for i, (item_id, value, similarity, scores) in enumerate(_results(candidates))
    ]
    console.table(columns, rows, f"{len(rows)} results from version {candidates.version[:12]}")
    if candidates.explain:
        console.table(["explain", ""], sorted(candidates.explain.items()))


def _cell(values: list[str | int | float]) -> str:
    """The first of many values, so that a row stays a line; --json has them all."""
    more = len(values) - _SHOWN
    return ", ".join(map(_shown, values[:_SHOWN])) + (f", and {more} more" if more > 0 else "")


def _shown(value: str | int | float) -> str:
    return f"{value:.12g}" if isinstance(value, float) else str(value)


def _results(candidates: Candidates) -> zip[tuple[int, float, float, list[float]]]:
    columns = (candidates.item_ids, candidates.values, candidates.similarities, candidates.task_scores)
    return zip(*(column.tolist() for column in columns), strict=True)


def _rows(field: FieldValues) -> list[list[str | int | float]]:
    """The values of each item."""
    ends = np.cumsum(field.lengths).tolist()
    values = field.values if isinstance(field.values, tuple) else field.values.tolist()
    return [
        list(values[end - length : end]) for end, length in zip(ends, field.lengths.tolist(), strict=True)
    ]


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < 86_400:
        raise argparse.ArgumentTypeError(f"more than 0 and less than a day expected, got {text}")
    return seconds


def _ids(text: str) -> Int64s:
    try:
        return np.array([int(part) for part in text.split(",") if part.strip()], np.int64)
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(
            f"item ids with commas between them expected, got {text!r}"
        ) from None


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _weight(text: str) -> tuple[str, float]:
    task, _, weight = text.rpartition("=")
    try:
        return task, float(weight)
    except ValueError:
        raise argparse.ArgumentTypeError(f"TASK=WEIGHT expected, such as like=0.7; got {text!r}") from None


def _max_per(text: str) -> MaxPerValue:
    name, _, limit = text.rpartition("=")
    try:
        return MaxPerValue(name, int(limit))
    except ValueError:
        raise argparse.ArgumentTypeError(f"FIELD=N expected, such as author=2; got {text!r}") from None


def _vector(file: str) -> Float32s:
    path = Path(file)
    try:
        numbers = np.load(path, allow_pickle=False) if path.suffix == ".npy" else np.loadtxt(path, ndmin=1)
        vector = np.asarray(numbers, np.float32)
    except (OSError, ValueError) as error:
        raise argparse.ArgumentTypeError(f"{file} holds no vector: {error}") from None
    if vector.ndim != 1:
        shape = list(vector.shape)
        raise argparse.ArgumentTypeError(f"{file} holds an array of shape {shape}; one vector is wanted")
    return vector
