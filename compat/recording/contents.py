"""Fills records with a call's messages, redacted."""

from __future__ import annotations

from meshfold.compat.hydration.recorded_request import recorded_request, recorded_user
from meshfold.compat.recording.redaction import Redaction
from meshfold.compat.traffic import MessageRedaction, Traffics
from meshfold.protos.mesh.v1 import types_pb2 as types
from meshfold.protos.meshfold.v1 import recording_pb2 as pb
from meshfold.service.front import Answered, Outcome


class Contents:
    """Fills records of mesh.v1's Retrieve and of mapped methods."""

    def __init__(self, redaction: Redaction, traffics: Traffics) -> None:
        """redaction: that of mesh.v1; mapped methods have the same rules."""
        self._redaction = redaction
        self._mapped: dict[str, tuple[str, MessageRedaction]] = {
            name: (traffic.digest, traffic.redaction(redaction.rules)) for name, traffic in traffics.items()
        }

    def fill(self, record: pb.Recorded, answered: Answered, shadow: Outcome | None) -> None:
        """Fills a record. shadow: the recorded shadow's outcome; None for the caller's answer."""
        outcome = shadow or answered.outcome
        record.is_hashed = not self._redaction.rules.keeps_ids
        message = outcome.reply.message if outcome.reply is not None else b""
        if answered.method:
            self._fill_mapped(record, answered, shadow, message)
            return
        if outcome.reply is not None:
            record.answer = self._redaction.answer(message)
        # A shadow's record has a request only where a user was filled in for it.
        asked = recorded_request(answered, shadow)
        if asked or shadow is None:
            request = self._redaction.redacted(asked)
            record.request, record.is_redacted = request.content, request.is_redacted

    def _fill_mapped(
        self, record: pb.Recorded, answered: Answered, shadow: Outcome | None, message: bytes
    ) -> None:
        record.method = answered.method
        record.mapping, redaction = self._mapped[answered.method]
        if message:
            record.answer = redaction.answer(message)
            record.is_unreadable = not record.answer
        user = recorded_user(answered, shadow)
        if shadow is not None and user is None:
            return
        request = redaction.redacted(answered.message, answered.metadata)
        record.is_redacted = request.is_redacted
        if shadow is None:
            record.request = request.content
            record.metadata.update(request.metadata)
            record.left_out.extend(request.left_out)
        if user is not None:
            kept = self._user(user)
            record.hydrated = kept.SerializeToString()
            has_history = bool(kept.history or kept.history_keys)
            is_whole = not request.is_redacted or (request.lacks_user and has_history)
            record.is_redacted = not is_whole or kept.ByteSize() < user.ByteSize()

    def _user(self, user: types.UserContext) -> types.UserContext:
        """The filled-in user, without the omitted parts."""
        kept = types.UserContext()
        kept.CopyFrom(user)
        omit = self._redaction.rules.omit
        if "history" in omit:
            kept.ClearField("history")
            kept.ClearField("history_keys")
        if "features" in omit:
            kept.ClearField("features")
        return kept
