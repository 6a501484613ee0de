"""Requests of users of generated data: histories, and filters of which many negate."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from meshfold.compat.filters import encode_filter
from meshfold.model.data.source import open_source
from meshfold.model.filter.expression import All, Expression, Match, Not, Range
from meshfold.protos.mesh.v1 import orchestrator_pb2

# The newest items met that a caller sends; genres that filters name: the most frequent.
_HISTORY, _GENRES = 12, 6


def requests_of(data: Path, requests: int, results: int, seed: int = 0) -> list[bytes]:
    """Requests in groups of four: one without filter, two that negate a genre, and one that bounds the price."""
    source = open_source(data)
    catalog, interactions = source.catalog(), source.interactions()
    assert interactions is not None
    genre = catalog.columns["genre"]
    assert genre.vocabulary is not None
    frequent = np.bincount(genre.values).argsort()[::-1][:_GENRES].tolist()
    genres = [genre.vocabulary[code] for code in frequent]
    random = np.random.default_rng(seed)
    made = []
    for number in range(requests):
        user = int(random.choice(interactions.users))
        request = orchestrator_pb2.RetrieveRequest(
            request_id=f"request-{number}", surface=source.schema.surface, max_results=results
        )
        request.user.user_id = user
        request.user.history.extend(interactions.history(user)[-_HISTORY:].tolist())
        if (expression := _filter(number, genres, random)) is not None:
            encode_filter(expression, request.filter)
        made.append(request.SerializeToString())
    return made


def _filter(number: int, genres: list[str], random: np.random.Generator) -> Expression | None:
    left_out = Not(Match("genre", strings=(str(random.choice(genres)),)))
    match number % 4:
        case 1:
            return left_out
        case 2:
            return All((left_out, Range("price", minimum=5.0, inclusive=True)))
        case 3:
            return Range("price", maximum=float(random.uniform(10, 40)))
    return None
