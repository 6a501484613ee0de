from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from meshfold.model.item_ids import rows_of

IDS = st.integers(-(2**63), 2**63 - 1) | st.integers(-5, 5)


@given(st.sets(IDS, min_size=1), st.lists(IDS))
def test_each_id_has_its_place_and_others_none(known: set[int], others: list[int]) -> None:
    ids = np.array(sorted(known), np.int64)
    asked = [*others, *sorted(known)[::2], *others[:1]]
    wanted = [sorted(known).index(i) if i in known else -1 for i in asked]
    found = rows_of(ids, np.array(asked, np.int64))
    assert (str(found.dtype), found.tolist()) == ("int64", wanted)
