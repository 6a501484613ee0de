from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshfold.model.errors import InvalidQuery
from meshfold.model.item_ids import IntegerIds, ItemIds, StringIds, keys_of_strings, rows_of, select
from meshfold.model.strings import PackedStrings, pack_strings
from meshfold.model.types import Ids

IDS = st.integers(-(2**63), 2**63 - 1) | st.integers(-5, 5)


@given(st.sets(IDS, min_size=1), st.lists(IDS))
def test_each_id_has_its_place_and_others_none(known: set[int], others: list[int]) -> None:
    ids = np.array(sorted(known), np.int64)
    asked = [*others, *sorted(known)[::2], *others[:1]]
    wanted = [sorted(known).index(i) if i in known else -1 for i in asked]
    found = rows_of(ids, np.array(asked, np.int64))
    assert (str(found.dtype), found.tolist()) == ("int64", wanted)


NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=6) | st.sampled_from(
    ["a", "AE22", "vid_1", "é"]
)


def _string_ids(names: list[str]) -> StringIds:
    names = sorted(names, key=str.encode)
    hashes = keys_of_strings(names)
    order = np.argsort(hashes)
    return StringIds(hashes[order], order.astype(np.int32), PackedStrings(*pack_strings(names)))


@given(st.sets(NAMES, min_size=1), st.lists(NAMES))
def test_strings_have_their_rows_and_others_none(known: set[str], others: list[str]) -> None:
    ids = _string_ids(list(known))
    ordered = sorted(known, key=str.encode)
    asked = (*others, *ordered, *others)
    assert ids.rows_of(asked).tolist() == [ordered.index(i) if i in known else -1 for i in asked]
    assert ids.at(np.arange(len(ordered))) == tuple(ordered)
    assert ids.keys().tolist() == ids.keys_of(tuple(ordered)).tolist() == keys_of_strings(ordered).tolist()
    assert len(ids) == len(known)


def test_a_string_with_the_hash_of_another_is_not_taken_for_it() -> None:
    names = ["a", "b"]
    hashes = keys_of_strings(["x", "b"])
    order = np.argsort(hashes)
    ids = StringIds(hashes[order], order.astype(np.int32), PackedStrings(*pack_strings(names)))
    assert ids.rows_of(("x", "b")).tolist() == [-1, 1]


@pytest.mark.parametrize(
    ("ids", "asked", "message"),
    [
        (
            _string_ids(["a"]),
            np.array([1]),
            "history: holds integers; the item ids of this surface are strings",
        ),
        (
            IntegerIds(np.array([1])),
            ("a",),
            "history: holds strings; the item ids of this surface are integers",
        ),
    ],
)
def test_ids_of_the_other_kind_are_refused(ids: ItemIds, asked: Ids, message: str) -> None:
    with pytest.raises(InvalidQuery, match=message):
        ids.rows_of(asked, "history")


@pytest.mark.parametrize("ids", [_string_ids(["a"]), IntegerIds(np.array([1]))])
@pytest.mark.parametrize("none", [(), np.empty(0, np.int64)])
def test_no_ids_are_of_either_kind(ids: ItemIds, none: Ids) -> None:
    assert ids.rows_of(none).tolist() == ids.keys_of(none).tolist() == []


def test_some_of_the_ids() -> None:
    chosen = np.array([True, False, True])
    assert select(("a", "b", "c"), chosen) == ("a", "c")
    assert np.array_equal(select(np.array([5, 6, 7]), chosen), [5, 7])
