"""What the official clients of public protocols ask, each call by a name. Their packages are imported on use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

# (address) -> what the client gives its user.
Calls = Mapping[str, Callable[[str], Any]]

VECTOR = [0.5, -0.25, 0.125, 1.0, 0.0, -1.0, 0.75, 0.25]


def _triton(address: str) -> Any:
    from tritonclient import grpc

    return grpc.InferenceServerClient(address)


def _infer(
    address: str, *inputs: Any, outputs: tuple[str, ...] = (), model: str = "shop", **more: Any
) -> Any:
    import numpy as np
    from tritonclient import grpc

    words = {np.dtype("i8"): "INT64", np.dtype("i4"): "INT32", np.dtype("f4"): "FP32", np.dtype("O"): "BYTES"}
    tensors = []
    for name, values in inputs:
        tensor = grpc.InferInput(name, list(values.shape), words[values.dtype])
        tensor.set_data_from_numpy(values)
        tensors.append(tensor)
    wanted = [grpc.InferRequestedOutput(name) for name in outputs] or None
    return _triton(address).infer(model, tensors, outputs=wanted, **more)


def _history() -> Any:
    import numpy as np

    return ("history", np.array([12, 40], np.int64))


def _most(count: int) -> Any:
    import numpy as np

    return ("max_results", np.array([count], np.int32))


def _languages(*names: str) -> Any:
    import numpy as np

    return ("languages", np.array([name.encode() for name in names], np.object_))


def _vector() -> Any:
    import numpy as np

    return ("query_vector", np.array([VECTOR], np.float32))


def _years(year: int) -> Any:
    import numpy as np

    return ("year_from", np.array([year], np.int64))


KSERVE: Calls = {
    "live": lambda address: _triton(address).is_server_live(),
    "ready": lambda address: _triton(address).is_server_ready(),
    "model_ready": lambda address: _triton(address).is_model_ready("shop"),
    "server_metadata": lambda address: _triton(address).get_server_metadata(),
    "model_metadata": lambda address: _triton(address).get_model_metadata("shop"),
    "infer": lambda address: _infer(
        address, _history(), _most(5), _languages("de", "en"), _years(1950), request_id="r1"
    ),
    "infer_vector": lambda address: _infer(address, _vector(), outputs=("title", "item_id")),
    "infer_parameters": lambda address: _infer(address, _history(), priority=3),
    "infer_version": lambda address: _infer(address, _history(), model_version="3"),
    "infer_other_tensor": lambda address: _infer(address, _history(), ("weights", _vector()[1])),
    "infer_other_output": lambda address: _infer(address, _history(), outputs=("embedding",)),
    "infer_other_type": lambda address: _infer(address, ("history", _vector()[1])),
    "infer_other_model": lambda address: _infer(address, _history(), model="elsewhere"),
}


def _qdrant(address: str) -> Any:
    from qdrant_client import QdrantClient

    host, _, port = address.rpartition(":")
    return QdrantClient(
        host=host, port=int(port), grpc_port=int(port), prefer_grpc=True, check_compatibility=False
    )


def _points(address: str, query: Any, **more: Any) -> Any:
    return _qdrant(address).query_points("shop", query=query, **more)


def _filter(**parts: Any) -> Any:
    from qdrant_client import models

    return models.Filter(**parts)


def _field(key: str, **condition: Any) -> Any:
    from qdrant_client import models

    return models.FieldCondition(key=key, **condition)


def _nested_filter() -> Any:
    from qdrant_client import models

    german = _field("language", match=models.MatchValue(value="de"))
    others = _field("language", match=models.MatchAny(any=["en", "xx"]))
    return _filter(
        must=[
            _field("year", range=models.Range(gte=1950, lt=2200)),
            _filter(should=[german, _filter(must=[others, _field("year", range=models.Range(gt=2000.5))])]),
        ],
        must_not=[
            models.IsEmptyCondition(is_empty=models.PayloadField(key="year")),
            _field("year", match=models.MatchValue(value=1951)),
            models.HasIdCondition(has_id=[60, 63]),
        ],
        min_should=models.MinShould(conditions=[german, others], min_count=1),
    )


def _qdrant_more(name: str) -> Callable[[str], Any]:
    """A call of what is not served."""

    def call(address: str) -> Any:
        from qdrant_client import models

        nested = _filter(
            must=[
                _field("place", geo_radius=models.GeoRadius(center=models.GeoPoint(lon=1, lat=2), radius=3))
            ]
        )
        recommend = models.RecommendQuery(recommend=models.RecommendInput(positive=[12], negative=[13]))
        more: dict[str, tuple[Any, dict[str, Any]]] = {
            "prefetch": (VECTOR, {"prefetch": [models.Prefetch(query=VECTOR, limit=5)]}),
            "params": (VECTOR, {"search_params": models.SearchParams(exact=True)}),
            "vectors": (VECTOR, {"with_vectors": True}),
            "negative": (recommend, {}),
            "geo": (VECTOR, {"query_filter": nested}),
            "payload": (VECTOR, {"with_payload": ["tile"]}),
            "using": (VECTOR, {"using": "image"}),
            "fusion": (models.FusionQuery(fusion=models.Fusion.RRF), {}),
        }
        query, words = more[name]
        return _points(address, query, **words)

    return call


def _qdrant_batch(address: str) -> Any:
    from qdrant_client import models

    return _qdrant(address).query_batch_points(
        "shop",
        [
            models.QueryRequest(query=VECTOR, limit=3, with_payload=True),
            models.QueryRequest(query=12, limit=2, filter=_nested_filter()),
            models.QueryRequest(query=VECTOR, limit=2, offset=1, with_payload=["year"]),
        ],
    )


def _recommend(address: str) -> Any:
    from qdrant_client import models

    return _points(
        address, models.RecommendQuery(recommend=models.RecommendInput(positive=[12, 40])), limit=4
    )


QDRANT: Calls = {
    "vector": lambda address: _points(address, VECTOR, limit=5),
    "near_a_point": lambda address: _points(address, 12, limit=4, with_payload=False),
    "recommend": _recommend,
    "nested_filter": lambda address: _points(address, VECTOR, query_filter=_nested_filter(), limit=100),
    "page": lambda address: _points(address, VECTOR, limit=2, offset=3, with_payload=["title"]),
    "threshold": lambda address: _points(address, VECTOR, limit=100, score_threshold=2.0),
    "batch": _qdrant_batch,
    **{
        f"refused_{name}": _qdrant_more(name)
        for name in ("prefetch", "params", "vectors", "negative", "geo", "payload", "using", "fusion")
    },
}


def _match(address: str, **request: Any) -> Any:
    import grpc
    from google.cloud.aiplatform.matching_engine._protos import match_service_pb2 as pb
    from google.cloud.aiplatform.matching_engine._protos.match_service_pb2_grpc import MatchServiceStub

    with grpc.insecure_channel(address) as channel:
        return MatchServiceStub(channel).Match(pb.MatchRequest(deployed_index_id="shop", **request))


def _batch_match(address: str) -> Any:
    import grpc
    from google.cloud.aiplatform.matching_engine._protos import match_service_pb2 as pb
    from google.cloud.aiplatform.matching_engine._protos.match_service_pb2_grpc import MatchServiceStub

    one = {"deployed_index_id": "shop", "float_val": VECTOR, "num_neighbors": 3}
    german = {**one, "num_neighbors": 2, "restricts": [{"name": "language", "allow_tokens": ["de"]}]}
    with grpc.insecure_channel(address) as channel:
        return MatchServiceStub(channel).BatchMatch(
            pb.BatchMatchRequest(
                requests=[
                    {"deployed_index_id": "shop", "requests": [one, german]},
                    {"deployed_index_id": "shop", "requests": [german]},
                ]
            )
        )


_YEARS = [
    {"name": "year", "value_int": 1950, "op": "GREATER_EQUAL"},
    {"name": "year", "value_float": 2200.5, "op": "LESS"},
    {"name": "year", "value_int": 1960, "op": "NOT_EQUAL"},
]
VERTEX: Calls = {
    "match": lambda address: _match(address, float_val=VECTOR, num_neighbors=5),
    "restricts": lambda address: _match(
        address,
        float_val=VECTOR,
        num_neighbors=200,
        restricts=[{"name": "language", "allow_tokens": ["de", "en"], "deny_tokens": ["en"]}],
        numeric_restricts=_YEARS,
    ),
    "embedding_id": lambda address: _match(address, embedding_id="12"),
    "batch": _batch_match,
    "refused_sparse": lambda address: _match(
        address, float_val=VECTOR, sparse_embedding={"float_val": [1.0], "dimension": [3]}
    ),
    "refused_crowding": lambda address: _match(
        address, float_val=VECTOR, per_crowding_attribute_num_neighbors=2
    ),
    "refused_embeddings": lambda address: _match(address, float_val=VECTOR, embedding_enabled=True),
    "refused_fraction": lambda address: _match(
        address, float_val=VECTOR, fraction_leaf_nodes_to_search_override=0.5
    ),
}
PROTOCOLS: Mapping[str, Calls] = {"kserve_v2": KSERVE, "qdrant": QDRANT, "vertex": VERTEX}
