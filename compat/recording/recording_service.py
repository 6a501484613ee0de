"""meshfold.v1.RecordingService: recording over the wire."""

from __future__ import annotations

from typing import Any

from meshfold.compat.migration.migration_service import decoded
from meshfold.compat.recording.recorder import Recorder, RecordingState
from meshfold.model.errors import InvalidQuery
from meshfold.protos.meshfold.v1 import recording_pb2 as pb
from meshfold.service.intake import Operation

SERVICE = "meshfold.v1.RecordingService"
_MOST_CHARACTERS = 1000


class RecordingService:
    """Answers the service's calls, from bytes to bytes."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    @property
    def answers(self) -> dict[str, Operation]:
        """Operators' calls by full name."""
        return {
            f"/{SERVICE}/GetRecording": self._get,
            f"/{SERVICE}/StartRecording": self._start,
            f"/{SERVICE}/StopRecording": self._stop,
        }

    def _get(self, message: bytes, _: Any) -> bytes:
        decoded(pb.GetRecordingRequest, message)
        return _encoded(self._recorder.state())

    def _start(self, message: bytes, _: Any) -> bytes:
        request = decoded(pb.StartRecordingRequest, message)
        if not request.who:
            raise InvalidQuery("who", "is empty; say who starts the recording")
        for name in ("who", "why"):
            size = len(getattr(request, name))
            if size > _MOST_CHARACTERS:
                raise InvalidQuery(name, f"has {size} characters; at most {_MOST_CHARACTERS} are allowed")
        return _encoded(self._recorder.begin(request.who, request.why))

    def _stop(self, message: bytes, _: Any) -> bytes:
        decoded(pb.StopRecordingRequest, message)
        return _encoded(self._recorder.end())


def _encoded(state: RecordingState) -> bytes:
    message: bytes = pb.Recording(
        on=state.on,
        folder=str(state.folder),
        who=state.who,
        why=state.why,
        since_unix_ms=state.since_unix_ms,
        written=state.written,
        dropped=state.dropped,
        files=state.files,
        bytes=state.bytes,
    ).SerializeToString()
    return message
