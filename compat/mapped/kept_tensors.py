"""Redacts a request's tensors for a recording: keeps those that the mapping reads, with personal ones replaced or
removed. Tensors have names in the message, so that paths cannot select the personal ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from meshfold.compat.mapped import tensor_bytes
from meshfold.compat.mapped.kept import Kind, RedactionReport
from meshfold.compat.mapped.tensors import Tensors
from meshfold.compat.recording.rules import Rules

_IDS = (Kind.USER_ID, Kind.REQUEST_ID)


class KeptTensors:
    """Redacts the tensors of one method's requests."""

    def __init__(self, tensors: Tensors, kinds: Mapping[str, Kind], rules: Rules) -> None:
        """kinds: kinds of tensors by name."""
        self._tensors, self._kinds, self._rules = tensors, kinds, rules

    @property
    def can_keep(self) -> bool:
        """Whether tensors can be removed: their lists must be fields of the message itself, not of an inner one."""
        return "." not in self._tensors.text and "." not in self._tensors.raw_text

    def apply(self, message: Any, report: RedactionReport) -> list[str]:
        """Removes tensors from a message and replaces ids; returns the names of the kept tensors."""
        entries = getattr(message, self._tensors.text)
        raw = getattr(message, self._tensors.raw_text) if self._tensors.raw is not None else []
        contents: list[bytes | None] = list(raw) if len(raw) == len(entries) else [None] * len(entries)
        kept: list[tuple[Any, bytes | None]] = []
        names: list[str] = []
        for entry, content in zip(list(entries), contents, strict=True):
            name = self._tensors.name.read(entry, {}) or ""
            kind = self._kinds.get(name)
            if kind is None:
                report.leave_out(f'{self._tensors.text}["..."]')
                continue
            made = self._content(entry, content, kind, report)
            if made is not None or (content is None and kind not in _IDS and self._keeps(kind)):
                kept.append((entry, made))
                names.append(name)
            else:
                report.is_changed = True
                report.has_new_user |= kind is Kind.USER_ID
                report.is_lost |= kind not in _IDS
        # Merged from messages with one tensor each, since entries of a repeated field cannot be assigned.
        singles = [type(message)() for _ in kept]
        for single, (entry, _) in zip(singles, kept, strict=True):
            getattr(single, self._tensors.text).append(entry)
        message.ClearField(self._tensors.text)
        for single in singles:
            message.MergeFrom(single)
        if len(raw):
            message.ClearField(self._tensors.raw_text)
            getattr(message, self._tensors.raw_text).extend(content or b"" for _, content in kept)
        return names

    def _keeps(self, kind: Kind) -> bool:
        name = {Kind.HISTORY: "history", Kind.FEATURES: "features"}.get(kind)
        return name is None or name not in self._rules.omit

    def _content(
        self, entry: Any, content: bytes | None, kind: Kind, report: RedactionReport
    ) -> bytes | None:
        """The raw bytes of a tensor to keep; None to keep none. content: None where the values are in the entry
        itself."""
        if content is None or not self._keeps(kind):
            return None
        if kind not in _IDS or self._rules.keeps_ids:
            return content
        word = self._tensors.words.get(self._tensors.datatype.read(entry, {}) or "")
        if word is None:
            return None
        try:
            made = tensor_bytes.written(self._hashed(tensor_bytes.read(content, word), kind), word)
        except ValueError:
            return None
        report.is_changed |= made != content
        report.has_new_user |= kind is Kind.USER_ID and made != content
        return made

    def _hashed(self, values: Any, kind: Kind) -> Sequence[Any]:
        """The hashes of ids. Raises ValueError for values that are no ids."""
        if isinstance(values, np.ndarray):
            if values.dtype != np.int64:
                raise ValueError("no ids")
            return [self._rules.user_id(value) for value in values.tolist()]
        replace = self._rules.user_key if kind is Kind.USER_ID else self._rules.request_id
        return [replace(value) for value in values]
