"""A batch's tensors hold what the prepared queries say, whatever arrays those are."""

from __future__ import annotations

import numpy as np
import pytest

from meshfold.model.inputs import HISTORY, PAD
from meshfold.model.schema import Field, FieldKind, Schema
from meshfold.model.types import Int64s
from meshfold.service.collation import Collation
from meshfold.service.prepared import PreparedUser

WHOLE = np.arange(HISTORY)
READ_ONLY = WHOLE.copy()
READ_ONLY.flags.writeable = False


def user(history: Int64s) -> PreparedUser:
    return PreparedUser(None, history, history, history, {}, False)


@pytest.fixture
def collation() -> Collation:
    return Collation(Schema("shop", (Field("kind", FieldKind.CATEGORY),), ("like",)), 4)


@pytest.mark.parametrize(
    "history", [WHOLE, READ_ONLY, WHOLE[::-1], WHOLE.astype(np.int32), WHOLE[:3], WHOLE[:0]]
)
def test_a_history_of_any_array_is_padded(collation: Collation, history: Int64s) -> None:
    alone = collation.users([user(history)])
    padding = [PAD] * (HISTORY - len(history))
    assert alone.history_ids.tolist() == [[*history.tolist(), *padding]]
    beside = collation.users([user(history), user(WHOLE[:1])])
    assert beside.history_ids[0].tolist() == alone.history_ids[0].tolist()
    assert alone.history_positions.dtype == beside.history_positions.dtype
