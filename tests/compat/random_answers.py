"""Answers of every kind, with values that are hard to write."""

from __future__ import annotations

from typing import Any

import numpy as np

from meshfold.model.types import (
    Candidates,
    Embeddings,
    FieldValues,
    Float32s,
    Ids,
    Neighbours,
    Query,
    Scores,
)

WORDS = ("", "a", "like", "é", "日本語", "\U0001f600", "\0", "x" * 127, "y" * 128, "z" * 300)
_FLOATS = np.array(
    [0.0, -0.0, 1.0, -1.5, np.nan, -np.nan, np.inf, -np.inf, 1e-45, -1e-40, 3.4028235e38], np.float32
)
_INTEGERS = np.array(
    [0, 1, -1, 127, 128, 16383, 16384, 2**31 - 1, -(2**31), 2**32, 2**63 - 1, -(2**63)], np.int64
)


class RandomAnswers:
    """The same for a seed."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def query(self) -> Query:
        return Query("s", 10, request_id=self.word())

    def candidates(self) -> Candidates:
        k, t = self._some(), int(self._rng.integers(0, 4))
        fields = {self.word() + str(place): self._field(k) for place in range(self._rng.integers(0, 3))}
        return Candidates(
            tasks=self._words(t),
            version=self.word(),
            item_ids=self.ids(k),
            values=self.floats(k),
            similarities=self.floats(k),
            task_scores=self.floats(k, t),
            fields=fields,
            explain={self.word(): self.word() for _ in range(self._rng.integers(0, 4))},
        )

    def embeddings(self) -> Embeddings:
        t = int(self._rng.integers(0, 3))
        return Embeddings(self._words(t), self.word(), self.floats(self._some() // 4, t, self._some()))

    def neighbours(self) -> Neighbours:
        lengths = [self._some() for _ in range(self._rng.integers(0, 4))]
        return Neighbours(self.word(), tuple(map(self.ids, lengths)), tuple(map(self.floats, lengths)))

    def scores(self) -> Scores:
        k, t = self._some(), int(self._rng.integers(0, 4))
        return Scores(
            self._words(t),
            self.word(),
            self.ids(k),
            self.floats(k),
            self.floats(k, t),
            self.ids(self._some()),
        )

    def word(self) -> str:
        return WORDS[self._rng.integers(len(WORDS))]

    def ids(self, n: int) -> Ids:
        if self._rng.random() < 0.3:
            return self._words(n)
        return np.where(self._rng.random(n) < 0.5, self._rng.choice(_INTEGERS, n), self._integers(n))

    def floats(self, *shape: int) -> Float32s:
        drawn = self._rng.standard_normal(shape, np.float32)
        return np.where(self._rng.random(shape) < 0.3, self._rng.choice(_FLOATS, shape), drawn)

    def _some(self) -> int:
        return int(self._rng.choice([0, 1, 2, 7, 130]))

    def _words(self, n: int) -> tuple[str, ...]:
        return tuple(WORDS[place] for place in self._rng.integers(0, len(WORDS), n))

    def _integers(self, n: int) -> Any:
        return self._rng.integers(-(2**63), 2**63, n) >> self._rng.integers(0, 64, n)

    def _field(self, k: int) -> FieldValues:
        lengths = self._rng.integers(0, 3, k)
        n = int(lengths.sum())
        values = (self._words, self._integers, lambda n: self.floats(n).astype(np.float64))
        return FieldValues(lengths, values[self._rng.integers(3)](n))
