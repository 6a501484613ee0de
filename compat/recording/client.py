"""A client of meshfold.v1.RecordingService."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc

from meshfold.compat.client import closed
from meshfold.compat.migration.client import failed
from meshfold.compat.recording.recorder import RecordingState
from meshfold.protos.meshfold.v1 import recording_pb2 as pb
from meshfold.protos.meshfold.v1 import recording_pb2_grpc


class RecordingClient:
    """A client of one server in front of a mesh. Its calls raise CallFailed."""

    def __init__(self, address: str, timeout_s: float = 10.0) -> None:
        self._address = address
        self._timeout_s = timeout_s
        self._channel = grpc.insecure_channel(address)
        self._stub: Any = recording_pb2_grpc.RecordingServiceStub(self._channel)  # type: ignore[no-untyped-call]

    def close(self) -> None:
        self._channel.close()

    def show(self) -> RecordingState:
        return self._call(self._stub.GetRecording, pb.GetRecordingRequest())

    def start(self, who: str, why: str) -> RecordingState:
        return self._call(self._stub.StartRecording, pb.StartRecordingRequest(who=who, why=why))

    def stop(self) -> RecordingState:
        return self._call(self._stub.StopRecording, pb.StopRecordingRequest())

    def _call(self, method: Callable[..., pb.Recording], request: Any) -> RecordingState:
        try:
            told = method(request, timeout=self._timeout_s)
        except grpc.RpcError as error:
            raise failed(self._address, "records no calls", error) from None
        except ValueError:  # gRPC raises it for a closed channel
            raise closed(self._address) from None
        return RecordingState(
            on=told.on,
            folder=Path(told.folder),
            who=told.who,
            why=told.why,
            since_unix_ms=told.since_unix_ms,
            written=told.written,
            dropped=told.dropped,
            files=told.files,
            bytes=told.bytes,
        )
