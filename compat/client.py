"""A typed client of meshfold.v1: a Query in, Candidates out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

import grpc
import numpy as np
from google.protobuf.message import DecodeError

from meshfold.compat.filters import encode_filter
from meshfold.compat.ids import fill_ids, refuse_two_kinds
from meshfold.compat.meshfold_v1 import METHOD
from meshfold.compat.metadata_size import ANY_METADATA
from meshfold.compat.request_paths import of_query
from meshfold.model.errors import DeadlineExceeded, InvalidQuery, MeshfoldError, Overloaded, UnknownName
from meshfold.model.query_lists import with_arrays
from meshfold.model.types import Candidates, FeatureList, FieldValues, Query
from meshfold.protos.meshfold.v1 import retrieval_pb2 as pb


class CallFailed(MeshfoldError):
    """The server cannot be reached, or failed by its own fault."""


class Client:
    """A client of one server. Its calls raise the errors that the server's own code raised."""

    def __init__(self, address: str) -> None:
        self._address = address
        # Above the largest answer within the server's limits.
        self._channel = grpc.insecure_channel(
            address, [("grpc.max_receive_message_length", 256 << 20), *ANY_METADATA]
        )
        self._call = self._channel.unary_unary(METHOD)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._channel.close()

    def retrieve(self, query: Query, timeout_s: float = 10.0) -> Candidates:
        """Sends a query; returns the server's answer. Raises InvalidQuery, UnknownName, Overloaded, DeadlineExceeded,
        CallFailed."""
        request = encode_request(query)
        try:
            message = self._call(request, timeout=timeout_s)
        except grpc.RpcError as error:
            raise error_of(error.code(), error.details() or "", self._address, timeout_s) from None
        except ValueError:  # gRPC raises it for a closed channel
            raise closed(self._address) from None
        return decode_response(message)


def closed(address: str) -> CallFailed:
    """The error of a call after close()."""
    return CallFailed(f"the client of {address} is closed; open another")


def error_of(code: grpc.StatusCode, details: str, address: str, timeout_s: float) -> MeshfoldError:
    """The error for a status of a server."""
    match code:
        case grpc.StatusCode.INVALID_ARGUMENT:
            path, _, message = details.partition(": ")
            return InvalidQuery(of_query(path), message)
        case grpc.StatusCode.NOT_FOUND:
            return UnknownName(details)
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            return Overloaded(details)
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return DeadlineExceeded(f"no answer from {address} within {timeout_s:g} s")
        case grpc.StatusCode.UNIMPLEMENTED:
            return CallFailed(f"{address} is not a meshfold server: it does not know {METHOD}")
        case grpc.StatusCode.UNAVAILABLE:
            return CallFailed(
                f"{address} is unavailable ({details}); `meshfold serve` starts a server, "
                "--address names another"
            )
    return CallFailed(f"{address} answered {code.name}: {details}")


def encode_request(query: Query) -> bytes:
    """The bytes of the RetrieveRequest of a query, whose lists may be arrays, lists or tuples. Raises InvalidQuery."""
    return serialized(_request, query)


def serialized(request_of: Callable[[Query], Any], query: Query) -> bytes:
    """The bytes of a query's message. request_of: makes the message. Raises InvalidQuery."""
    try:
        message: bytes = request_of(sendable(query)).SerializeToString()
    except (TypeError, ValueError) as error:  # protobuf raises it for too large integers and invalid strings
        raise InvalidQuery("request", str(error)) from None
    return message


def sendable(query: Query) -> Query:
    """The query with arrays for lists. Raises InvalidQuery for values that neither protocol can represent."""
    query = with_arrays(query)
    numbers = {"max_results": query.max_results}
    if query.max_per_value is not None:
        numbers["max_per_value.limit"] = query.max_per_value.limit
    for path, number in numbers.items():
        if not -(1 << 31) <= number < 1 << 31:
            raise InvalidQuery(path, f"{number} does not fit into 32 bits")
    refuse_two_kinds({"history": query.history, "excluded_ids": query.excluded_ids})
    return query


def fill(request: Any, user: Any, query: Query) -> None:
    """Sets the fields common to both protocols. user: the message with the user's id and history."""
    request.request_id = query.request_id
    request.surface = query.surface
    request.max_results = query.max_results
    request.value_formula = query.value_formula
    request.explain = query.explain
    if isinstance(query.user_id, str):
        user.user_key = query.user_id
    else:
        user.user_id = query.user_id
    fill_ids(query.history, user.history, user.history_keys)
    fill_ids(query.excluded_ids, request.excluded_item_ids, request.excluded_item_keys)
    if query.filter is not None:
        encode_filter(query.filter, request.filter)


def feature_values(values: FeatureList) -> tuple[str, Sequence[Any]]:
    """(field of a feature's message, its values as Python objects)."""
    if isinstance(values, tuple):
        return "strings", values
    return "ints" if values.dtype == np.int64 else "floats", values.tolist()


def _request(query: Query) -> pb.RetrieveRequest:
    request = pb.RetrieveRequest(
        weighted_tasks=list(query.task_weights),
        weights=list(query.task_weights.values()),
        fields=query.fields,
    )
    fill(request, request, query)
    for name, values in query.features.items():
        kind, plain = feature_values(values)
        getattr(request.features.add(name=name), kind).extend(plain)
    if query.max_per_value is not None:
        cap = query.max_per_value
        request.max_per_value.CopyFrom(pb.MaxPerValue(field=cap.field, limit=cap.limit))
    return request


def decode_response(message: bytes) -> Candidates:
    """Decodes a RetrieveResponse. Raises CallFailed."""
    try:
        response = pb.RetrieveResponse.FromString(message)
    except DecodeError:
        raise CallFailed("the answer is not a meshfold.v1.RetrieveResponse") from None
    item_ids = tuple(response.item_keys) or np.array(response.item_ids, np.int64)
    values = np.array(response.values, np.float32)
    similarities = np.array(response.similarities, np.float32)
    scores = np.array(response.task_scores, np.float32)
    k, t = len(item_ids), len(response.tasks)
    if not (len(values) == len(similarities) == k and len(scores) == k * t):
        raise CallFailed(
            f"the answer's columns differ in length: {k} item_ids, {len(values)} values, "
            f"{len(similarities)} similarities, {len(scores)} task_scores for {t} tasks"
        )
    return Candidates(
        tasks=tuple(response.tasks),
        version=response.version,
        item_ids=item_ids,
        values=values,
        similarities=similarities,
        task_scores=scores.reshape(k, t),
        fields={column.field: _field_values(column, k) for column in response.fields},
        explain={of_query(path): text for path, text in response.explain.items()},
    )


def _field_values(column: pb.FieldColumn, k: int) -> FieldValues:
    lengths = np.array(column.lengths, np.int64)
    values: FieldValues
    if column.ints:
        values = FieldValues(lengths, np.array(column.ints, np.int64))
    elif column.numbers:
        values = FieldValues(lengths, np.array(column.numbers, np.float64))
    else:
        values = FieldValues(lengths, tuple(column.strings))
    if len(lengths) != k or lengths.min(initial=0) < 0 or lengths.sum() != len(values.values):
        raise CallFailed(f"field {column.field} of the answer has not one length for each of {k} items")
    return values
