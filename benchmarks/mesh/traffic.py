"""Requests as callers of a mesh send them, made from data: real histories, and filters that items pass.

    python -m benchmarks.mesh.traffic --data ml-latest-small --requests 2000 --out build/load/requests.bin

The file holds mesh.v1.RetrieveRequest messages, each after its length as a varint. Equal arguments give equal files.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from google.protobuf.proto import parse_length_prefixed, serialize_length_prefixed

from benchmarks.arguments import arguments
from meshfold.compat.filters import encode_filter
from meshfold.model.data.catalog import Catalog, Column, numbers_of_keys
from meshfold.model.data.interactions import Interactions
from meshfold.model.data.source import open_source
from meshfold.model.filter.expression import All, Expression, Match, Not, Range
from meshfold.model.schema import FieldKind
from meshfold.protos.mesh.v1 import orchestrator_pb2 as pb

HISTORY = 50
EXCLUDED = 20
# Values that filters name: the most frequent of a field.
FREQUENT = 20


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="what the served snapshot was built from")
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--results", type=int, default=1000, help="results that a request asks for")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with args.out.open("wb") as file:
        for request in traffic(args.data, args.requests, args.results, args.seed):
            serialize_length_prefixed(request, file)
    print(f"{args.requests} requests in {args.out}")


def traffic(data: Path, requests: int, results: int, seed: int = 0) -> Iterator[pb.RetrieveRequest]:
    """Every second request has a filter, every fourth excludes items; histories are users' last items."""
    source = open_source(data)
    catalog, interactions = source.catalog(), source.interactions()
    rng = np.random.default_rng(seed)
    names = (
        None if catalog.names is None else dict(zip(catalog.item_ids.tolist(), catalog.names, strict=True))
    )
    for number in range(requests):
        user_id, history = _user(catalog, interactions, rng)
        request = pb.RetrieveRequest(
            request_id=f"request-{seed}-{number}",
            surface=source.schema.surface,
            max_results=results,
        )
        request.user.user_id = user_id
        _fill(history, names, request.user.history, request.user.history_keys)
        if number % 2:
            expression = _filter(catalog, rng)
            if expression is not None:
                encode_filter(expression, request.filter)
        if number % 4 == 3:
            excluded = rng.choice(catalog.item_ids, EXCLUDED).tolist()
            _fill(excluded, names, request.excluded_item_ids, request.excluded_item_keys)
        yield request


def read_requests(file: BinaryIO) -> Iterator[pb.RetrieveRequest]:
    """The messages of a file of requests."""
    while (request := parse_length_prefixed(pb.RetrieveRequest, file)) is not None:
        yield request


def _user(
    catalog: Catalog, interactions: Interactions | None, rng: np.random.Generator
) -> tuple[int, list[int]]:
    """A user who is there with the last items met; an invented one where the data has no interactions."""
    if interactions is None or len(interactions) == 0:
        return int(rng.integers(1, 1 << 31)), rng.choice(catalog.item_ids, HISTORY).tolist()
    user_id = int(rng.choice(interactions.users))
    return user_id, interactions.history(user_id)[-HISTORY:].tolist()


def _fill(item_ids: list[int], names: dict[int, str] | None, integers: Any, strings: Any) -> None:
    """Adds ids to the field of their kind. names: of strings by their hashes, which the data's arrays hold."""
    if names is None:
        integers.extend(item_ids)
    else:
        strings.extend(names[item_id] for item_id in item_ids if item_id in names)


def _filter(catalog: Catalog, rng: np.random.Generator) -> Expression | None:
    """One condition, two, or one and the negation of another; None where no field can be filtered by value."""
    named = [(name, c) for name, c in catalog.columns.items() if len(c.values)]
    if not named:
        return None
    chosen: list[int] = rng.permutation(len(named))[:2].tolist()
    conditions = [_condition(*named[place], rng) for place in chosen]
    if len(conditions) == 1 or rng.random() < 0.4:
        return conditions[0]
    return All((conditions[0], Not(conditions[1]) if rng.random() < 0.3 else conditions[1]))


def _condition(name: str, column: Column, rng: np.random.Generator) -> Expression:
    if column.vocabulary is not None:
        frequent = np.bincount(column.values).argsort()[::-1][:FREQUENT]
        chosen = rng.choice(frequent, min(len(frequent), int(rng.integers(1, 4))), replace=False)
        return Match(name, strings=tuple(column.vocabulary[code] for code in sorted(chosen.tolist())))
    bound = int(np.quantile(column.values, rng.uniform(0.1, 0.7), method="nearest"))
    if column.kind is FieldKind.NUMBER:
        return Range(name, minimum=float(numbers_of_keys(np.array([bound]))[0]), inclusive=True)
    if column.kind.ordered:
        return Range(name, minimum=float(bound), inclusive=True)
    return Match(name, ints=(bound,))


if __name__ == "__main__":
    main()
