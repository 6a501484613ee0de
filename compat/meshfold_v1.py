"""The adapter of meshfold.v1.RetrievalService/Retrieve, our own call in packed columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from meshfold.compat import wire_template
from meshfold.compat.filters import decode_filter
from meshfold.compat.ids import columns_of, ids_of, refuse_two_kinds, user_id_of
from meshfold.compat.request_paths import RequestPaths
from meshfold.compat.request_size import SizeScanner, filter_counters
from meshfold.compat.wire import Counter
from meshfold.model.errors import InvalidQuery
from meshfold.model.limits import Limits
from meshfold.model.types import (
    Candidates,
    FeatureList,
    FieldValues,
    MaxPerValue,
    Query,
    RequestSize,
    no_ids,
)
from meshfold.protos.meshfold.v1 import retrieval_pb2 as pb

METHOD = "/meshfold.v1.RetrievalService/Retrieve"

_PATHS = RequestPaths(renamed={"task_weights": "weighted_tasks"})
_VALUES = ("FeatureColumn.ints", "FeatureColumn.floats", "FeatureColumn.strings")
_SIZES = SizeScanner(
    pb.RetrieveRequest.DESCRIPTOR,
    {
        "history": Counter(("RetrieveRequest.history", "RetrieveRequest.history_keys")),
        "features": Counter(("RetrieveRequest.features",)),
        "feature_values": Counter(_VALUES, "FeatureColumn"),
        **filter_counters("RetrieveRequest.filter"),
        "excluded": Counter(("RetrieveRequest.excluded_item_ids", "RetrieveRequest.excluded_item_keys")),
        "weights": Counter(("RetrieveRequest.weighted_tasks",)),
        "fields": Counter(("RetrieveRequest.fields",)),
    },
    _PATHS,
    results="max_results",
    feature_name="FeatureColumn.name",
)

_COLUMNS = wire_template.compile(
    pb.RetrieveResponse.DESCRIPTOR,
    {name: name for name in ("item_ids", "values", "similarities", "task_scores")},
)
_FIELDS = wire_template.compile(
    pb.RetrieveResponse.DESCRIPTOR,
    {f"fields.{name}": name for name in ("field", "lengths", "strings", "ints", "numbers")},
)


def measure(message: bytes, limits: Limits) -> RequestSize:
    """The size of a RetrieveRequest. Raises InvalidQuery where it exceeds a limit."""
    return _SIZES.measure(message, limits)


def decode(message: bytes) -> Query:
    """Decodes a RetrieveRequest. Raises InvalidQuery."""
    try:
        request = pb.RetrieveRequest.FromString(message)
    except DecodeError:
        raise InvalidQuery("request", "the bytes are not a meshfold.v1.RetrieveRequest") from None
    history = ids_of("history", request.history, request.history_keys)
    excluded = ids_of("excluded_ids", request.excluded_item_ids, request.excluded_item_keys)
    refuse_two_kinds({"history": history, "excluded_ids": excluded}, _PATHS.named)
    cap = request.max_per_value
    return Query(
        surface=request.surface,
        max_results=request.max_results,
        request_id=request.request_id,
        user_id=user_id_of(request.user_id, request.user_key),
        history=history,
        features=_features(request),
        filter=decode_filter(request.filter) if request.HasField("filter") else None,
        excluded_ids=excluded,
        task_weights=_weights(request),
        value_formula=request.value_formula,
        max_per_value=MaxPerValue(cap.field, cap.limit) if request.HasField("max_per_value") else None,
        fields=tuple(request.fields),
        explain=request.explain,
    )


def path(query: Query, path: str) -> str:
    """Translates the path of a part of the query into a path of the RetrieveRequest."""
    if path.startswith("task_weights["):
        return path.removeprefix("task_")
    return _PATHS.of(query, path)


def encode(query: Query, candidates: Candidates) -> bytes:
    """The bytes of the RetrieveResponse to a query."""
    item_ids, item_keys = columns_of(candidates.item_ids)
    before = pb.RetrieveResponse(request_id=query.request_id, tasks=candidates.tasks)
    columns = {
        "item_ids": item_ids,
        "values": candidates.values,
        "similarities": candidates.similarities,
        "task_scores": candidates.task_scores.ravel(),
    }
    between = pb.RetrieveResponse(version=candidates.version)
    after = pb.RetrieveResponse(
        explain={path(query, name): text for name, text in candidates.explain.items()}, item_keys=item_keys
    )
    # Parts of a message in the order of field numbers, concatenated, are the message. The class encodes the short
    # fields.
    return b"".join(
        (
            before.SerializeToString(),
            _COLUMNS.encode(columns),
            between.SerializeToString(),
            _field_columns(candidates.fields) if candidates.fields else b"",
            after.SerializeToString(),
        )
    )


def _features(request: pb.RetrieveRequest) -> dict[str, FeatureList]:
    """The features of a request. A column without values counts as absent, since its kind is unknown."""
    features: dict[str, FeatureList] = {}
    seen: set[str] = set()
    for column in request.features:
        if column.name in seen:
            raise InvalidQuery(f'features["{column.name}"]', "has more than one column; give it one")
        seen.add(column.name)
        values = _feature(column)
        if len(values):
            features[column.name] = values
    return features


def _feature(column: pb.FeatureColumn) -> FeatureList:
    filled = [kind for kind in ("ints", "floats", "strings") if len(getattr(column, kind))]
    if len(filled) > 1:
        raise InvalidQuery(f'features["{column.name}"]', f"{' and '.join(filled)} are filled; fill one list")
    if column.ints:
        return np.array(column.ints, np.int64)
    if column.floats:
        return np.array(column.floats, np.float32)
    return tuple(column.strings)


def _weights(request: pb.RetrieveRequest) -> dict[str, float]:
    tasks, weights = request.weighted_tasks, request.weights
    if len(tasks) != len(weights):
        raise InvalidQuery(
            "weights", f"{len(tasks)} weighted_tasks but {len(weights)} weights; give one for each"
        )
    by_task = dict(zip(tasks, weights, strict=True))
    if len(by_task) < len(tasks):
        raise InvalidQuery("weighted_tasks", "a task is named twice in weighted_tasks; name each once")
    return by_task


def _field_columns(fields: Mapping[str, FieldValues]) -> bytes:
    strings: list[tuple[str, ...]] = []
    ints: list[Any] = []
    numbers: list[Any] = []
    for field in fields.values():
        values = field.values
        strings.append(values if isinstance(values, tuple) else ())
        ints.append(no_ids() if isinstance(values, tuple) or values.dtype != np.int64 else values)
        numbers.append(np.empty(0) if isinstance(values, tuple) or values.dtype == np.int64 else values)
    return _FIELDS.encode(
        {
            "field": tuple(fields),
            "lengths": [field.lengths for field in fields.values()],
            "strings": strings,
            "ints": ints,
            "numbers": numbers,
        }
    )
