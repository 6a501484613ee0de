"""Tables of a generated catalog: items, interactions, held-out queries and the schema file."""

from __future__ import annotations

import math
import os
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from meshfold.model.data.generated import (
    CHOICES,
    FIELDS,
    ITEMS_PER_BLOCK,
    MAX_USERS,
    USERS_PER_BLOCK,
    World,
    item_like_queries,
    user_vectors,
)
from meshfold.model.errors import InvalidData
from meshfold.model.progress import Progress, silent
from meshfold.model.types import Float32s, Int64s

GENRES = (
    *("action", "adventure", "animation", "biography", "comedy", "crime", "cooking", "documentary", "drama"),
    *("fantasy", "history", "horror", "music", "mystery", "nature", "romance", "science", "sports"),
    *("thriller", "travel"),
)
LANGUAGES = ("en", "es", "hi", "pt", "ar", "fr", "id", "de", "ja", "ko", "tr", "vi")
MAX_QUERIES = 1000

SCHEMA = """\
# Invented: no person, item or preference in it is real.
surface = "generated"
generated = true

[items]
source = "items.parquet"
id = "item_id"
vector = "vector"

[fields.title]
kind = "text"
[fields.genre]
kind = "category"
[fields.languages]
kind = "categories"
[fields.author]
kind = "integer"
[fields.tags]
kind = "integers"
[fields.price]
kind = "number"

[interactions]
source = "interactions.parquet"
user = "user_id"
item = "item_id"
time = "time"

[tasks.watch]
[tasks.like]
where = "rating >= 4.0"
"""

_CANDIDATES = 256  # items that a user chooses from
_TASTE = 6.0  # weight of a dot product against the Gumbel noise
_SKEW = 3.0  # a uniform u draws the item at share u^_SKEW of the catalog, or of a topic
_FIRST_TIME_S, _TIMES_S = 1_704_067_200, 365 * 86_400  # the year from 2024-01-01


def write_generated(
    out: Path, items: int, dimension: int, users: int, seed: int, progress: Progress = silent
) -> None:
    """Writes a folder of items.parquet, interactions.parquet, queries.parquet and schema.toml by one rename.

    Equal arguments give equal bytes. Memory is that of one block of items plus 16 bytes for each item. While
    interactions are drawn, the vectors are on disk twice. Raises InvalidData where `out` exists or the sizes are
    beyond the limits.
    """
    world = World(items, dimension, seed)
    if not 1 <= users <= MAX_USERS:
        raise InvalidData(f"users must lie in 1 to {MAX_USERS}, got {users}")
    if out.exists():
        raise InvalidData(f"{out}: exists already; name a new folder, or remove this one")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as folder:
            whole = Path(folder) / "whole"
            whole.mkdir()
            vectors = Path(folder) / "vectors"
            topics = _write_items(whole / "items.parquet", vectors, world, progress)
            _write_interactions(whole / "interactions.parquet", vectors, topics, world, users, progress)
            _write_queries(whole / "queries.parquet", world, min(users, MAX_QUERIES))
            (whole / "schema.toml").write_text(SCHEMA)
            os.rename(whole, out)
    except OSError as fault:
        raise InvalidData(f"{out}: cannot be written: {fault.strerror or fault}") from fault


def _item_ids(world: World, places: Int64s) -> Int64s:
    """Ids 1 to n in an order that does not ascend with the place, as in real catalogs."""
    step = max(1, round(world.n * (math.sqrt(5) - 1) / 2))
    while math.gcd(step, world.n) > 1:
        step += 1
    return places * step % world.n + 1


def _write_items(path: Path, vectors: Path, world: World, progress: Progress) -> Int64s:
    """Writes the items, and their vectors once more as a raw array. Returns the topic of each item: [n] int64."""
    schema = pa.schema(
        [
            ("item_id", pa.int64()),
            ("title", pa.string()),
            ("genre", pa.string()),
            ("languages", pa.list_(pa.string())),
            ("author", pa.int64()),
            ("tags", pa.list_(pa.int64())),
            ("price", pa.float64()),
            ("vector", pa.list_(pa.float32(), world.dimension)),
        ]
    )
    topics = np.empty(world.n, np.int64)
    with _writer(path, schema) as table, vectors.open("wb") as raw:
        for block in range(world.blocks):
            start = block * ITEMS_PER_BLOCK
            of_items, drawn = world.topics_of_block(block), world.items_of_block(block)
            topics[start : start + len(drawn)] = of_items
            ids = _item_ids(world, np.arange(start, start + len(drawn)))
            fields = _fields(world, block, ids, of_items)
            table.write_batch(pa.record_batch([pa.array(ids), *fields, _lists_of(drawn)], schema=schema))
            drawn.tofile(raw)
            progress("items", start + len(drawn), world.n)
    return topics


def _fields(world: World, block: int, ids: Int64s, topics: Int64s) -> list[pa.Array]:
    random, n = world.random(FIELDS, block), len(ids)
    titles = [f"generated item {i} (topic {t})" for i, t in zip(ids.tolist(), topics.tolist(), strict=True)]

    own = random.random(n) < 0.8
    genre = np.where(own, topics * 7 % len(GENRES), (len(GENRES) * random.random(n) ** 2).astype(np.int64))
    genres = pa.array(np.array(GENRES)[genre].tolist(), mask=random.random(n) < 0.02)

    spoken = random.geometric(0.7, n).clip(1, 4)
    language = (len(LANGUAGES) * random.random(int(spoken.sum())) ** 4).astype(np.int64)
    languages = _ragged(spoken, pa.array(np.array(LANGUAGES)[language].tolist()))

    authors = max(1, world.n // 20)
    author = (authors * random.random(n) ** 2).astype(np.int64) + 1

    many = max(20, 10 * world.topics)
    tagged = random.geometric(0.25, n).clip(1, 12) - 1
    total = int(tagged.sum())
    near = np.repeat(topics, tagged) * 31 + (8 * random.random(total) ** 2).astype(np.int64)
    far = (many * random.random(total) ** 3).astype(np.int64)
    tags = _ragged(tagged, pa.array(np.where(random.random(total) < 0.5, near % many, far) + 1))

    price = np.round(np.exp(2.5 + 0.8 * random.standard_normal(n)), 2)
    prices = pa.array(price, mask=random.random(n) < 0.1)
    return [pa.array(titles), genres, languages, pa.array(author), tags, prices]


def _write_interactions(
    path: Path, vectors: Path, topics: Int64s, world: World, users: int, progress: Progress
) -> None:
    kinds = [("user_id", pa.int64()), ("item_id", pa.int64()), ("time", pa.int64()), ("rating", pa.float64())]
    schema = pa.schema(kinds)
    of_topics = np.argsort(topics, kind="stable")
    bounds = np.searchsorted(topics[of_topics], np.arange(world.topics + 1))
    drawn = np.memmap(vectors, np.float32, "r", shape=(world.n, world.dimension))
    with _writer(path, schema) as table:
        for block, start in enumerate(range(0, users, USERS_PER_BLOCK)):
            count = min(USERS_PER_BLOCK, users - start)
            random = world.random(CHOICES, block)
            mixed, tastes = world.users_of_block(block, count)
            candidates = _candidates(random, mixed, of_topics, bounds)
            scores = _scores(drawn, candidates, tastes)
            rows, places, ratings = _choices(random, candidates, scores)
            times = _FIRST_TIME_S + random.integers(0, _TIMES_S, len(rows))
            users_met, met = start + rows + 1, _item_ids(world, places)
            order = np.lexsort((met, times, users_met))
            columns = [pa.array(part[order]) for part in (users_met, met, times, ratings)]
            table.write_batch(pa.record_batch(columns, schema=schema))
            progress("interactions", start + count, users)


def _candidates(random: np.random.Generator, mixed: Int64s, of_topics: Int64s, bounds: Int64s) -> Int64s:
    """[users, _CANDIDATES] - places of items, ascending; popular items are drawn more often.

    One half comes from the whole catalog, the other from the user's topics.
    """
    users, half = len(mixed), _CANDIDATES // 2
    anywhere = (len(of_topics) * random.random((users, half)) ** _SKEW).astype(np.int64)
    topic = np.take_along_axis(mixed, random.integers(0, mixed.shape[1], (users, half)), axis=1)
    sizes = bounds[topic + 1] - bounds[topic]
    inside = bounds[topic] + (sizes * random.random((users, half)) ** _SKEW).astype(np.int64)
    near = np.where(sizes > 0, of_topics[np.minimum(inside, len(of_topics) - 1)], anywhere)
    return np.sort(np.concatenate([anywhere, near], axis=1), axis=1)


def _scores(drawn: Float32s, candidates: Int64s, tastes: Float32s) -> Float32s:
    """[users, _CANDIDATES] float32 - dot products, computed for a few users at a time to limit memory."""
    step = max(1, (16 << 20) // (candidates.shape[1] * drawn.shape[1]))
    parts = [
        np.einsum("ucd,ud->uc", drawn[candidates[start : start + step]], tastes[start : start + step])
        for start in range(0, len(candidates), step)
    ]
    return np.concatenate(parts)


def _choices(
    random: np.random.Generator, candidates: Int64s, scores: Float32s
) -> tuple[Int64s, Int64s, Float32s]:
    """(rows of users, places of items, ratings) of interactions: draws by softmax without replacement (Gumbel)."""
    chance = random.gumbel(size=scores.shape)
    double = np.zeros(candidates.shape, bool)
    double[:, 1:] = candidates[:, 1:] == candidates[:, :-1]
    order = np.argsort(np.where(double, np.inf, -(_TASTE * scores + chance)), axis=1, kind="stable")
    counts = np.exp(3.2 + 0.6 * random.standard_normal(len(scores))).clip(5, _CANDIDATES // 2)
    counts = np.minimum(counts.astype(np.int64), (~double).sum(axis=1))
    taken = np.arange(_CANDIDATES) < counts[:, None]
    rows, ranks = np.nonzero(taken)
    chosen = order[rows, ranks]
    liking = (scores[rows, chosen] - scores.mean()) / max(float(scores.std()), 1e-6)
    stars = 2.8 + 0.8 * liking + 0.6 * random.standard_normal(len(rows))
    return rows, candidates[rows, chosen], np.clip(np.round(stars * 2) / 2, 0.5, 5.0)


def _write_queries(path: Path, world: World, count: int) -> None:
    kinds = [("drawn_as", pa.string()), ("vector", pa.list_(pa.float32(), world.dimension))]
    schema = pa.schema(kinds)
    sizes = (count, world.dimension, world.seed)
    drawn = {"user": user_vectors(*sizes, items=world.n), "item": item_like_queries(*sizes, items=world.n)}
    with _writer(path, schema) as table:
        for name, vectors in drawn.items():
            table.write_batch(pa.record_batch([pa.array([name] * count), _lists_of(vectors)], schema=schema))


def _writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    return pq.ParquetWriter(path, schema, compression="none", use_dictionary=False)


def _lists_of(vectors: Float32s) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])


def _ragged(lengths: Int64s, values: pa.Array) -> pa.Array:
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values)
