"""The orchestrator's second call: mesh.v1.RetrievalService/Search."""

from __future__ import annotations

import re

import numpy as np

from meshfold.compat.filters import decode_filter
from meshfold.compat.ids import fill_ids, ids_of
from meshfold.compat.mesh_v1.messages import PATHS, parse
from meshfold.compat.request_size import SizeScanner, filter_counters
from meshfold.compat.wire import Counter
from meshfold.model.limits import Limits
from meshfold.model.types import Neighbours, RequestSize, SearchQuery
from meshfold.protos.mesh.v1 import retrieval_pb2 as pb

METHOD = "/mesh.v1.RetrievalService/Search"

_COMPONENT = re.compile(r"(queries\[\d+\])(\[\d+\])")
_SIZES = SizeScanner(
    pb.SearchRequest.DESCRIPTOR,
    {
        **filter_counters("SearchRequest.filter"),
        "query_vectors": Counter(("SearchRequest.queries",)),
        "excluded": Counter(("SearchRequest.excluded_item_ids", "SearchRequest.excluded_item_keys")),
    },
    PATHS,
    results="k",
)


def measure(message: bytes, limits: Limits) -> RequestSize:
    """What a SearchRequest's bytes ask for. Raises InvalidQuery where that is beyond the limits."""
    return _SIZES.measure(message, limits)


def decode(message: bytes) -> SearchQuery:
    """The SearchQuery of a SearchRequest's bytes. Raises InvalidQuery."""
    request = parse(pb.SearchRequest, message)
    return SearchQuery(
        surface=request.surface,
        k=request.k,
        queries=tuple(np.array(query.values, np.float32) for query in request.queries),
        filter=decode_filter(request.filter) if request.HasField("filter") else None,
        excluded_ids=ids_of("excluded_ids", request.excluded_item_ids, request.excluded_item_keys),
    )


def path(query: SearchQuery, path: str) -> str:
    """The path of a part of `query` in the SearchRequest that it was decoded from."""
    if component := _COMPONENT.fullmatch(path):
        return f"{component[1]}.values{component[2]}"
    return PATHS.of(query, path)


def encode(query: SearchQuery, answer: Neighbours) -> bytes:
    """The bytes of the SearchResponse to `query`."""
    response = pb.SearchResponse(version=answer.version)
    for item_ids, similarities in zip(answer.item_ids, answer.similarities, strict=True):
        neighbours = response.neighbours.add()
        fill_ids(item_ids, neighbours.item_ids, neighbours.item_keys)
        neighbours.similarities.extend(similarities.tolist())
    message: bytes = response.SerializeToString()
    return message
