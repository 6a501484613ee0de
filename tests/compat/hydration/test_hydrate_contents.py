from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshfold.compat.hydration.contents import user_of, user_of_bytes
from meshfold.compat.hydration.source import Failed, Reason
from meshfold.model.types import User
from meshfold.protos.mesh.v1 import types_pb2 as types


def plain(user: User) -> tuple[Any, dict[str, Any]]:
    return list(user.history), {name: list(values) for name, values in user.features.items()}


def test_json_and_a_user_context_say_the_same() -> None:
    content = {"history": [3, 1, 2], "features": {"a": [1, 2], "b": [0.5, 1], "c": "x"}, "more": {"of": "it"}}
    user = user_of_bytes(json.dumps(content).encode(), 7)
    features: Any = {
        "a": {"ints": {"values": [1, 2]}},
        "b": {"floats": {"values": [0.5, 1]}},
        "c": {"strings": {"values": ["x"]}},
    }
    context = types.UserContext(user_id=7, history=[3, 1, 2], features=features)
    other = user_of_bytes(context.SerializeToString(), 7)
    assert plain(user) == plain(other) == ([3, 1, 2], {"a": [1, 2], "b": [0.5, 1.0], "c": ["x"]})
    for name, kind in {"a": np.int64, "b": np.float32}.items():
        for each in (user, other):
            values = each.features[name]
            assert isinstance(values, np.ndarray)
            assert values.dtype == kind
    keys = types.UserContext(user_key="ann", history_keys=["x", "y"]).SerializeToString()
    assert user_of_bytes(keys, "ann").history == user_of({"history": ["x", "y"]}).history == ("x", "y")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ([1, 2], "got a list"),
        ({"history": 5}, "expected a list"),
        ({"history": [1, "x"]}, "history must be a list of whole numbers or of strings"),
        ({"history": [True]}, "history must be a list"),
        ({"history": [1 << 63]}, "beyond 64 bits"),
        ({"history": ["\ud800"]}, "not Unicode text"),
        ({"features": [1]}, "features must be a mapping"),
        ({"features": {1: "x"}}, "names of features must be strings"),
        ({"features": {"a": [None]}}, "of one kind"),
        ({"features": {"a": [[1]]}}, "of one kind"),
        ({"features": {"a": 1e300}}, "beyond float32"),
        ({"features": {"a": np.zeros((2, 2))}}, "of one kind"),
    ],
)
def test_what_is_no_user_is_garbage(content: Any, text: str) -> None:
    with pytest.raises(Failed, match=text) as caught:
        user_of(content)
    assert caught.value.reason is Reason.GARBAGE


def test_numpys_arrays_are_lists() -> None:
    content = {"history": np.arange(3), "features": {"a": np.ones(2, np.float32), "b": np.array([4])}}
    assert plain(user_of(content)) == ([0, 1, 2], {"a": [1.0, 1.0], "b": [4]})


@given(st.binary(max_size=60))
def test_any_bytes_are_a_user_or_garbage(content: bytes) -> None:
    for value in (content, b"{" + content):
        try:
            found: Any = user_of_bytes(value, 7)
        except Failed as failed:
            found = failed.reason
        assert found is Reason.GARBAGE or isinstance(found, User)
