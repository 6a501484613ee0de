"""What of a request's tensors is kept in a recording: those that the mapping reads, with personal ones replaced or left
out. Tensors lie beside their names, so that no path tells which of them is personal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from meshfold.compat.mapped import tensor_bytes
from meshfold.compat.mapped.kept import Kind, Told
from meshfold.compat.mapped.tensors import Tensors
from meshfold.compat.recording.rules import Rules

_IDS = (Kind.USER_ID, Kind.REQUEST_ID)


class KeptTensors:
    """Of one method's requests."""

    def __init__(self, tensors: Tensors, kinds: Mapping[str, Kind], rules: Rules) -> None:
        """kinds: by the names of tensors."""
        self._tensors, self._kinds, self._rules = tensors, kinds, rules

    @property
    def can_keep(self) -> bool:
        """Whether the tensors lie where they can be taken out of."""
        return "." not in self._tensors.text and "." not in self._tensors.raw_text

    def apply(self, message: Any, told: Told) -> list[str]:
        """Takes tensors out of a message, and replaces ids. The names of those that are left."""
        entries = getattr(message, self._tensors.text)
        raw = getattr(message, self._tensors.raw_text) if self._tensors.raw is not None else []
        contents: list[bytes | None] = list(raw) if len(raw) == len(entries) else [None] * len(entries)
        kept: list[tuple[Any, bytes | None]] = []
        names: list[str] = []
        for entry, content in zip(list(entries), contents, strict=True):
            name = self._tensors.name.read(entry, {}) or ""
            kind = self._kinds.get(name)
            if kind is None:
                told.leave_out(f'{self._tensors.text}["..."]')
                continue
            made = self._content(entry, content, kind, told)
            if made is not None or (content is None and kind not in _IDS and self._keeps(kind)):
                kept.append((entry, made))
                names.append(name)
            else:
                told.is_changed = True
                told.has_new_user |= kind is Kind.USER_ID
                told.is_lost |= kind not in _IDS
        held = [type(message)() for _ in kept]
        for holder, (entry, _) in zip(held, kept, strict=True):
            getattr(holder, self._tensors.text).append(entry)
        message.ClearField(self._tensors.text)
        for holder in held:
            message.MergeFrom(holder)
        if len(raw):
            message.ClearField(self._tensors.raw_text)
            getattr(message, self._tensors.raw_text).extend(content or b"" for _, content in kept)
        return names

    def _keeps(self, kind: Kind) -> bool:
        name = {Kind.HISTORY: "history", Kind.FEATURES: "features"}.get(kind)
        return name is None or name not in self._rules.omit

    def _content(self, entry: Any, content: bytes | None, kind: Kind, told: Told) -> bytes | None:
        """The raw bytes that are kept; None for none."""
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
        told.is_changed |= made != content
        told.has_new_user |= kind is Kind.USER_ID and made != content
        return made

    def _hashed(self, values: Any, kind: Kind) -> Sequence[Any]:
        """Raises ValueError for values that are no ids."""
        if isinstance(values, np.ndarray):
            if values.dtype != np.int64:
                raise ValueError("no ids")
            return [self._rules.user_id(value) for value in values.tolist()]
        replace = self._rules.user_key if kind is Kind.USER_ID else self._rules.request_id
        return [replace(value) for value in values]
