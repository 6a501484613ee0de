"""Inputs of user towers besides the history: features of the request, as tensors of declared shapes.

Strings and tokens become 64-bit hashes, so that a program needs no table of strings. A vocabulary or a number of
buckets is part of the tower (HashBuckets, Vocabulary), and so of the snapshot.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from meshfold.model.errors import InvalidQuery
from meshfold.model.schema import Input, InputKind
from meshfold.model.types import QUERY_VECTOR, FeatureList, Float32s, Int64s

# Limit of history items that a tower reads, the newest ones.
HISTORY = 128
# Padding of lists of integers or hashes.
PAD = torch.iinfo(torch.int64).min
_WORD = re.compile(r"\w+")


class Vocabulary(nn.Module):
    """Maps int64s to 1 + their place among the sorted ids; unknown values and PAD map to 0. ids: [V] int64."""

    ids: Tensor

    def __init__(self, ids: Sequence[int] | Int64s) -> None:
        super().__init__()
        # An empty vocabulary has PAD as its entry, since torch.export warns of empty buffers.
        known = np.unique(np.asarray(ids if len(ids) else [PAD], np.int64))
        self.register_buffer("ids", torch.from_numpy(known))

    def forward(self, values: Tensor) -> Tensor:
        place = torch.searchsorted(self.ids, values).clamp(max=self.ids.shape[0] - 1)
        return torch.where((self.ids[place] == values) & (values != PAD), place + 1, 0)


class HashBuckets(nn.Module):
    """Maps hashes to 1 .. buckets; PAD maps to 0."""

    def __init__(self, buckets: int) -> None:
        super().__init__()
        self.buckets = buckets

    def forward(self, hashes: Tensor) -> Tensor:
        return torch.where(hashes == PAD, 0, torch.remainder(hashes, self.buckets) + 1)


def hash_of(text: str) -> int:
    """A stable int64 of a string; never PAD."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return max(int.from_bytes(digest, "little", signed=True), PAD + 1)


def hashes_of(texts: Sequence[str]) -> Int64s:
    """[n] int64: hash_of each text; one call takes half the time of n calls."""
    digests = [
        hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest() for text in texts
    ]
    return np.maximum(np.frombuffer(b"".join(digests), "<i8").astype(np.int64), PAD + 1)


def tokens_of(text: str) -> list[str]:
    """The words of a text, in lower case."""
    return _WORD.findall(text.lower())


def encode_inputs(
    inputs: Sequence[Input], features: Mapping[str, FeatureList]
) -> dict[str, Int64s | Float32s]:
    """An array for each declared input: [length], int64 padded with PAD or float32 padded with zeros.

    Values beyond the first `length` are dropped. Raises InvalidQuery for a feature of another kind than declared.
    """
    return {declared.name: _encoded(declared, features.get(declared.name)) for declared in inputs}


def _encoded(declared: Input, values: FeatureList | None) -> Int64s | Float32s:
    is_float = declared.kind is InputKind.FLOATS
    encoded: Int64s | Float32s = (
        np.zeros(declared.length, np.float32) if is_float else np.full(declared.length, PAD, np.int64)
    )
    if values is None:
        return encoded
    given: npt.NDArray[np.generic] | list[int]
    if declared.kind in (InputKind.STRINGS, InputKind.TEXT):
        if not isinstance(values, tuple):
            raise InvalidQuery(
                f'features["{declared.name}"]', f"is declared as {declared.kind}; send strings"
            )
        words: Sequence[str] = values
        if declared.kind is InputKind.TEXT:
            words = [word for text in values for word in tokens_of(text)]
        given = [hash_of(word) for word in words[: declared.length]]
    else:
        dtype = np.float32 if is_float else np.int64
        if isinstance(values, tuple) or values.dtype != dtype:
            raise InvalidQuery(
                f'features["{declared.name}"]', f"is declared as {declared.kind}; send {declared.kind}"
            )
        given = values[: declared.length]
    encoded[: len(given)] = given
    return encoded


def query_vectors(features: Mapping[str, FeatureList], tasks: int, dimension: int) -> Float32s | None:
    """The query vectors of a request: [T, D] float32, or None. One vector is repeated for all tasks.

    Raises InvalidQuery for another type or number of values.
    """
    feature = features.get(QUERY_VECTOR)
    if feature is None:
        return None
    path = f'features["{QUERY_VECTOR}"]'
    if not isinstance(feature, np.ndarray) or feature.dtype != np.float32:
        raise InvalidQuery(path, "holds no floats; a query vector is a list of floats")
    if feature.size not in (dimension, tasks * dimension):
        raise InvalidQuery(
            path,
            f"has {feature.size} values; expected {dimension}, or {tasks * dimension} for one vector a task",
        )
    return np.broadcast_to(feature.reshape(-1, dimension), (tasks, dimension))
