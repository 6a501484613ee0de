"""A caller of mesh or model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import grpc

from meshfold.compat.mesh_v1 import retrieve
from meshfold.protos.mesh.v1 import orchestrator_pb2 as pb

TIMEOUT_S = 60.0

# A request -> its answer.
Retrieve = Callable[[pb.RetrieveRequest], pb.RetrieveResponse]


@contextmanager
def caller(address: str) -> Iterator[Retrieve]:
    """The orchestrator's call at an address."""
    options = [("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(address, options) as channel:
        call = channel.unary_unary(
            retrieve.METHOD,
            request_serializer=pb.RetrieveRequest.SerializeToString,
            response_deserializer=pb.RetrieveResponse.FromString,
        )
        yield lambda request: call(request, timeout=TIMEOUT_S)
