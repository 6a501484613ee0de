"""The made-up company's data: videos with vectors, users with histories, and requests of its callers."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import meshfold
from benchmarks.kept import made_once
from benchmarks.own_proto.protocol import Messages
from meshfold.model.config import IndexConfig

GENRES = ("drama", "comedy", "horror", "news", "sport")
COUNTRIES = ("se", "de", "jp")
SURFACE = "home"
# Nearly every search is exact: what may differ from the company's answers is rounding.
INDEX = IndexConfig(target_recall=0.9999, recall_depth=100, max_scan_share=1.0)
_HISTORY = 30
_RULES = ("year:1970..1999|genre:drama", "country:se|country:de;year:1980..2024", "genre:news")


@dataclass(frozen=True)
class World:
    """home: a folder. items, dimension: of the catalog. users: "u0" and so on."""

    home: Path
    items: int = 20_000
    dimension: int = 64
    users: int = 500

    @property
    def store(self) -> Path:
        return self.home / "store"

    def make(self) -> None:
        """Draws and builds once."""
        made_once(self.home, self._build)

    def _build(self) -> None:
        rng = np.random.default_rng(25)
        centres = rng.standard_normal((50, self.dimension))
        vectors = centres[rng.integers(0, 50, self.items)] + rng.standard_normal((self.items, self.dimension))
        vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
        items = pa.table(
            {
                "item_id": np.arange(self.items),
                "genre": [GENRES[place] for place in rng.integers(0, len(GENRES), self.items)],
                "country": [COUNTRIES[place] for place in rng.integers(0, len(COUNTRIES), self.items)],
                "year": rng.integers(1960, 2025, self.items),
                "title": [f"Video number {number}" for number in range(self.items)],
            }
        )
        np.save(self.home / "vectors.npy", vectors)
        pq.write_table(items, self.home / "items.parquet")
        meshfold.build(items, vectors, store=self.store, surface=SURFACE, config=INDEX)

    def fill(self, redis: Any) -> None:
        """The histories, as its services keep them."""
        rng = np.random.default_rng(7)
        for user in range(self.users):
            history = rng.choice(self.items, _HISTORY, replace=False).tolist()
            redis.set(f"watched:u{user}", json.dumps({"history": history}))

    def requests(self, pb: Messages, count: int) -> Sequence[Any]:
        """Requests with a user id and without history."""
        chosen = random.Random(count)
        made = []
        for number in range(count):
            user = f"u{chosen.randrange(self.users)}"
            request = pb.request(
                envelope={"trace_id": f"trace-{number}-{user}"},
                viewer={
                    "account": {"id": user, "email": f"{user}@example.org"},
                    "app_version": "7.1",
                },
            )
            if chosen.random() < 0.5:
                request.page_size = chosen.choice((10, 50))
            match number % 6:
                case 1:
                    request.filter.extend(["genre=drama,comedy", "year>=1980"])
                case 2:
                    request.filter.append("genre!=horror")
                    request.hidden.extend(f"vid_{chosen.randrange(self.items)}" for _ in range(3))
                case 3:
                    request.rules = chosen.choice(_RULES)
                case 4:
                    countries = [pb.country("COUNTRY_SE"), pb.country("COUNTRY_JP")]
                    request.context.Pack(pb.device(kind="tv", countries=countries))
                case 5:
                    request.Extensions[pb.made_since] = chosen.randrange(1970, 2015)
            made.append(request)
        return made
