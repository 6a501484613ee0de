"""Paths of a Query as paths of the request that it was decoded from, and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from meshfold.compat import client, mesh_messages, meshfold_v1
from meshfold.compat.mesh_v1 import embed, retrieve, score, search
from meshfold.compat.request_paths import of_query
from meshfold.model.types import Candidates, EmbedQuery, MaxPerValue, Query, ScoreQuery, SearchQuery, User
from meshfold.protos.mesh.v1.orchestrator_pb2 import RetrieveResponse

FEATURES: Any = {
    "i": np.array([1, 2]),
    "f": np.array([1, 2], np.float32),
    "s": ("a", "b"),
    'q"][0]': ("a",),
    "line\nend": ("a",),
}
INTEGERS = User(7, np.array([1, 2]), FEATURES)
STRINGS = User("7", ("a", "b"), FEATURES)


def query(user: User, excluded: Any) -> Query:
    return Query(
        "shop",
        5,
        user_id=user.user_id,
        history=user.history,
        features=user.features,
        excluded_ids=excluded,
        max_per_value=MaxPerValue("year", 1),
    )


OF_INTEGERS, OF_STRINGS = query(INTEGERS, np.array([3])), query(STRINGS, ("c",))
SAME = (
    "surface",
    "max_results",
    "request_id",
    "value_formula",
    "filter",
    "filter.all.filters[1].match.strings[0]",
)
# (the adapter, the query, its path, the request's)
PATHS: list[tuple[Any, Any, str, str]] = [
    (retrieve, OF_INTEGERS, "user_id", "user.user_id"),
    (retrieve, OF_INTEGERS, "history", "user.history"),
    (retrieve, OF_INTEGERS, "history[1]", "user.history[1]"),
    (retrieve, OF_INTEGERS, "excluded_ids[0]", "excluded_item_ids[0]"),
    (retrieve, OF_STRINGS, "user_id", "user.user_key"),
    (retrieve, OF_STRINGS, "history[1]", "user.history_keys[1]"),
    (retrieve, OF_STRINGS, "excluded_ids", "excluded_item_keys"),
    (retrieve, OF_STRINGS, "features", "user.features"),
    (retrieve, OF_STRINGS, 'features["i"]', 'user.features["i"]'),
    (retrieve, OF_STRINGS, 'features["i"][1]', 'user.features["i"].ints.values[1]'),
    (retrieve, OF_STRINGS, 'features["f"][0]', 'user.features["f"].floats.values[0]'),
    (retrieve, OF_STRINGS, 'features["s"][0]', 'user.features["s"].strings.values[0]'),
    (retrieve, OF_STRINGS, 'features["q"][0]"][0]', 'user.features["q"][0]"].strings.values[0]'),
    (retrieve, OF_STRINGS, 'features["line\nend"][0]', 'user.features["line\nend"].strings.values[0]'),
    (retrieve, OF_STRINGS, 'task_weights["like"]', 'task_weights["like"]'),
    (meshfold_v1, OF_INTEGERS, "user_id", "user_id"),
    (meshfold_v1, OF_INTEGERS, "history[1]", "history[1]"),
    (meshfold_v1, OF_STRINGS, "user_id", "user_key"),
    (meshfold_v1, OF_STRINGS, "history[1]", "history_keys[1]"),
    (meshfold_v1, OF_STRINGS, "excluded_ids[0]", "excluded_item_keys[0]"),
    (meshfold_v1, OF_STRINGS, 'features["f"][1]', 'features["f"].floats[1]'),
    (meshfold_v1, OF_STRINGS, "task_weights", "weighted_tasks"),
    (meshfold_v1, OF_STRINGS, 'task_weights["like"]', 'weights["like"]'),
    (meshfold_v1, OF_STRINGS, "max_per_value.limit", "max_per_value.limit"),
    (meshfold_v1, OF_STRINGS, "fields[2]", "fields[2]"),
    *((adapter, OF_STRINGS, path, path) for adapter in (retrieve, meshfold_v1) for path in SAME),
]
OTHERS: list[tuple[Any, Any, str, str]] = [
    (embed, EmbedQuery("shop", (INTEGERS, STRINGS)), "users[0].history[1]", "users[0].history[1]"),
    (embed, EmbedQuery("shop", (INTEGERS, STRINGS)), "users[1].history[1]", "users[1].history_keys[1]"),
    (embed, EmbedQuery("shop", (INTEGERS, STRINGS)), "users[1].user_id", "users[1].user_key"),
    (
        embed,
        EmbedQuery("shop", (STRINGS,)),
        'users[0].features["s"][1]',
        'users[0].features["s"].strings.values[1]',
    ),
    (embed, EmbedQuery("shop", (STRINGS,)), "users", "users"),
    (score, ScoreQuery("shop", STRINGS, ("a",)), "item_ids[0]", "item_keys[0]"),
    (score, ScoreQuery("shop", INTEGERS, np.array([1])), "item_ids", "item_ids"),
    (score, ScoreQuery("shop", STRINGS, ()), "history", "user.history_keys"),
    (search, SearchQuery("shop", 5, ()), "k", "k"),
    (search, SearchQuery("shop", 5, ()), "queries[1]", "queries[1]"),
    (search, SearchQuery("shop", 5, ()), "queries[1][12]", "queries[1].values[12]"),
    (search, SearchQuery("shop", 5, (), excluded_ids=("a",)), "excluded_ids[0]", "excluded_item_keys[0]"),
]


@pytest.mark.parametrize(("adapter", "asked", "path", "sent"), PATHS + OTHERS)
def test_a_path_is_one_of_the_request(adapter: Any, asked: Any, path: str, sent: str) -> None:
    assert adapter.path(asked, path) == sent


@pytest.mark.parametrize(("adapter", "asked", "path", "sent"), PATHS)
def test_callers_in_python_read_the_names_that_they_wrote(
    adapter: Any, asked: Any, path: str, sent: str
) -> None:
    assert of_query(sent) == path


@pytest.mark.parametrize(
    "name", ["user", "user.", "users[0].history", "embed_ms", "like.clusters", "", "no path at all"]
)
def test_what_is_no_path_of_a_query_stays(name: str) -> None:
    assert of_query(name) == name


NOTES = {"history": "a", 'features["huor"]': "b", "filter.match": "c", "user": "known", "like.clusters": "7"}


def test_notes_have_the_paths_of_the_request_and_python_its_own() -> None:
    none = np.empty(0, np.float32)
    candidates = Candidates(("like",), "v", ("a",)[:0], none, none, none.reshape(0, 1), explain=NOTES)
    ours = meshfold_v1.encode(OF_STRINGS, candidates)
    theirs = retrieve.encode(OF_STRINGS, candidates)
    assert dict(RetrieveResponse.FromString(theirs).explain) == {
        "user.history_keys": "a",
        'user.features["huor"]': "b",
        "filter.match": "c",
        "user": "known",
        "like.clusters": "7",
    }
    assert client.decode_response(ours).explain == NOTES
    assert mesh_messages.decode_response(theirs)[0].explain == NOTES
