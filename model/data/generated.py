"""Generated item and user vectors with known preferences, block by block: equal seeds give equal bytes.

Items belong to topics: a topic has a centre, and its items lie around it. Standard deviations fall with the dimension
as in learned embeddings, so that topics overlap. Users have another distribution than items: each mixes two to four
topics, and all share a shift. No sum here uses BLAS, whose last bits depend on the number of threads.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from meshfold.model.errors import InvalidData
from meshfold.model.types import Float32s, Float64s, Int64s

ITEMS_PER_BLOCK = 8192
USERS_PER_BLOCK = 512
MAX_ITEMS = 1 << 30
MAX_USERS = 1 << 26
MAX_DIMENSION = 4096
MAX_SEED = (1 << 63) - 1

_SPECTRUM = 0.35  # dimension d has a standard deviation in proportion to (d + 1)^-_SPECTRUM
_SPREAD = (
    1.0  # distance of items from their centre, in lengths of a centre: items of a topic have a cosine of 0.5
)
_NORM_SIGMA = 0.2
_USER_SPREAD = 0.35
_SHIFT = 0.5  # length of the shift that all users share, in lengths of a centre

# Purposes of random numbers; each has a stream of its own.
_TOPICS, _TOPIC_OF, _ITEMS, _USERS, _QUERIES, _ITEM_LIKE, FIELDS, CHOICES = range(8)


@dataclass(frozen=True)
class World:
    """The distribution of items and users of a catalog of n items. Raises InvalidData for sizes beyond the limits."""

    n: int
    dimension: int
    seed: int = 0

    def __post_init__(self) -> None:
        _check("items", self.n, 1, MAX_ITEMS)
        _check("dimension", self.dimension, 1, MAX_DIMENSION)
        _check("seed", self.seed, 0, MAX_SEED)

    @property
    def topics(self) -> int:
        return max(1, min(round(math.sqrt(self.n)), 1 << 14))

    def random(self, purpose: int, block: int = 0) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(purpose, block)))

    @cached_property
    def centres(self) -> Float32s:
        """[topics, D] float32 of length about 1."""
        draw = self.random(_TOPICS).standard_normal((self.topics, self.dimension), np.float32)
        return draw * self.spectrum

    @cached_property
    def shift(self) -> Float32s:
        draw = self.random(_TOPICS, 1).standard_normal(self.dimension, np.float32)
        return np.float32(_SHIFT) * draw * self.spectrum

    @cached_property
    def spectrum(self) -> Float32s:
        falling = (np.arange(self.dimension) + 1.0) ** -_SPECTRUM
        return (falling / math.sqrt(math.fsum(falling**2))).astype(np.float32)

    @cached_property
    def topic_bounds(self) -> Float64s:
        """[topics] - cumulative shares of items by topic; larger topics come first."""
        shares = (np.arange(self.topics) + 4.0) ** -0.7
        bounds: Float64s = np.cumsum(shares) / shares.sum()
        return bounds

    def topics_of_block(self, block: int) -> Int64s:
        """The topic of every item of a block."""
        start = block * ITEMS_PER_BLOCK
        draw = self.random(_TOPIC_OF, block).random(min(ITEMS_PER_BLOCK, self.n - start))
        return np.minimum(np.searchsorted(self.topic_bounds, draw, side="right"), self.topics - 1)

    @property
    def blocks(self) -> int:
        return -(-self.n // ITEMS_PER_BLOCK)

    def items_of_block(self, block: int) -> Float32s:
        """[n, D] float32 - the vectors of the items of a block."""
        topics = self.topics_of_block(block)
        random = self.random(_ITEMS, block)
        noise = random.standard_normal((len(topics), self.dimension), np.float32)
        noise *= self.spectrum * np.float32(_SPREAD)
        noise += self.centres[topics]
        # The division by the length of a typical sum makes lengths about 1.
        scale = np.exp(_NORM_SIGMA * random.standard_normal(len(topics))) / math.hypot(1.0, _SPREAD)
        noise *= scale.astype(np.float32)[:, None]
        return noise

    def users_of_block(self, block: int, count: int, purpose: int = _USERS) -> tuple[Int64s, Float32s]:
        """([count, 4] int64 - the topics each user mixes, [count, D] float32 - the users' vectors)."""
        random = self.random(purpose, block)
        topics = np.minimum(
            np.searchsorted(self.topic_bounds, random.random((count, 4)), side="right"), self.topics - 1
        )
        weights = random.dirichlet(np.ones(4), count).astype(np.float32)
        weights *= np.arange(4) < random.integers(2, 5, count)[:, None]
        weights /= np.sqrt((weights**2).sum(axis=1, keepdims=True))
        vectors = random.standard_normal((count, self.dimension), np.float32)
        vectors *= self.spectrum * np.float32(_USER_SPREAD)
        for place in range(4):
            vectors += weights[:, place : place + 1] * self.centres[topics[:, place]]
        vectors += self.shift
        # Slots of weight 0 repeat the first topic, so that every slot can be drawn from.
        topics = np.where(weights > 0, topics, topics[:, :1])
        return topics, vectors


def item_vectors(n: int, dimension: int, seed: int = 0, chunk: int = 65_536) -> Iterator[Float32s]:
    """Yields the vectors of n items in chunks [chunk or fewer, D] float32; the bytes do not depend on the size."""
    _check("chunk", chunk, 1, MAX_ITEMS)
    world = World(n, dimension, seed)
    return _rechunk((world.items_of_block(block) for block in range(world.blocks)), chunk)


def user_vectors(count: int, dimension: int, seed: int = 0, *, items: int) -> Float32s:
    """[count, D] float32 - vectors of users who are not in the interactions of the catalog. items: its size."""
    _check("queries", count, 1, MAX_USERS)
    world = World(items, dimension, seed)
    starts = range(0, count, USERS_PER_BLOCK)
    drawn = [
        world.users_of_block(block, min(USERS_PER_BLOCK, count - start), _QUERIES)[1]
        for block, start in enumerate(starts)
    ]
    return np.concatenate(drawn)


def item_like_queries(count: int, dimension: int, seed: int = 0, *, items: int) -> Float32s:
    """[count, D] float32 - queries with the distribution of items; an index finds them easier than users' vectors."""
    _check("queries", count, 1, MAX_USERS)
    world = World(items, dimension, seed)
    random = world.random(_ITEM_LIKE)
    topics = np.searchsorted(world.topic_bounds, random.random(count), side="right")
    noise = random.standard_normal((count, dimension), np.float32) * world.spectrum * np.float32(_SPREAD)
    scale = np.float32(1 / math.hypot(1.0, _SPREAD))
    return (noise + world.centres[np.minimum(topics, world.topics - 1)]) * scale


def _rechunk(blocks: Iterator[Float32s], chunk: int) -> Iterator[Float32s]:
    pending: list[Float32s] = []
    rows = 0
    for block in blocks:
        pending.append(block)
        rows += len(block)
        if rows >= chunk:
            whole = np.concatenate(pending)
            full = rows - rows % chunk
            yield from np.split(whole[:full], range(chunk, full, chunk))
            pending, rows = [whole[full:]], rows - full
    if rows:
        yield np.concatenate(pending)


def _check(name: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise InvalidData(f"{name} must lie in {least} to {most}, got {value}")
