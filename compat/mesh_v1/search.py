"""The orchestrator's second call: mesh.v1.RetrievalService/Search."""

from __future__ import annotations

import re

import numpy as np

from meshfold.compat import wire_template
from meshfold.compat.filters import decode_filter
from meshfold.compat.ids import columns_of, ids_of
from meshfold.compat.mesh_v1.messages import PATHS, parse
from meshfold.compat.request_size import SizeScanner, filter_counters
from meshfold.compat.wire import Counter
from meshfold.model.limits import Limits
from meshfold.model.types import Neighbours, RequestSize, SearchQuery, no_ids
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

_RESPONSE = wire_template.compile(
    pb.SearchResponse.DESCRIPTOR,
    {
        "neighbours.item_ids": "item_ids",
        "neighbours.item_keys": "item_keys",
        "neighbours.similarities": "similarities",
        "version": "version",
    },
)


def measure(message: bytes, limits: Limits) -> RequestSize:
    """The size of a SearchRequest. Raises InvalidQuery where it exceeds a limit."""
    return _SIZES.measure(message, limits)


def decode(message: bytes) -> SearchQuery:
    """Decodes a SearchRequest. Raises InvalidQuery."""
    request = parse(pb.SearchRequest, message)
    return SearchQuery(
        surface=request.surface,
        k=request.k,
        queries=tuple(np.array(query.values, np.float32) for query in request.queries),
        filter=decode_filter(request.filter) if request.HasField("filter") else None,
        excluded_ids=ids_of("excluded_ids", request.excluded_item_ids, request.excluded_item_keys),
    )


def path(query: SearchQuery, path: str) -> str:
    """Translates the path of a part of the query into a path of the SearchRequest."""
    if component := _COMPONENT.fullmatch(path):
        return f"{component[1]}.values{component[2]}"
    return PATHS.of(query, path)


def encode(query: SearchQuery, answer: Neighbours) -> bytes:
    """The bytes of the SearchResponse to a query."""
    columns = [columns_of(ids) for ids in answer.item_ids]
    return _RESPONSE.encode(
        {
            "item_ids": [no_ids() if integers is None else integers for integers, _ in columns],
            "item_keys": [keys or () for _, keys in columns],
            "similarities": answer.similarities,
            "version": answer.version,
        }
    )
