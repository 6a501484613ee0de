from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshfold.compat.mesh_v1 import ADAPTERS
from meshfold.compat.mesh_v1.messages import decode_user, parse
from meshfold.model.errors import InvalidQuery
from meshfold.protos.mesh.v1 import scoring_pb2, types_pb2


def test_bytes_that_are_no_message_are_refused_by_its_name() -> None:
    with pytest.raises(InvalidQuery, match="request: the bytes are not a mesh.v1.ScoreRequest"):
        parse(scoring_pb2.ScoreRequest, b"\xff")


def test_a_user_is_decoded_with_lists_of_their_kinds() -> None:
    message = types_pb2.UserContext(user_id=-1, history=[2**63 - 1])
    message.features["a"].ints.values.append(1)
    message.features["b"].floats.values.append(0.5)
    message.features["c"].strings.SetInParent()
    user = decode_user(message)
    assert (user.user_id, np.asarray(user.history).tolist()) == (-1, [2**63 - 1])
    kinds = {n: f.dtype if isinstance(f, np.ndarray) else f for n, f in user.features.items()}
    assert kinds == {"a": np.int64, "b": np.float32, "c": ()}


@pytest.mark.parametrize("adapter", ADAPTERS)
@given(message=st.binary(max_size=64))
def test_bytes_of_any_kind_decode_or_are_the_callers_fault(adapter: Any, message: bytes) -> None:
    with suppress(InvalidQuery):
        adapter.decode(message)
