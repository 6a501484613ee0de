import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshfold.model.strings import PackedStrings, order_of, pack_at, pack_strings

WORDS = ["", "a", "", "naïve", "日本語", "e\u0301", "\u00e9", "\x00", "\ud800", "😀", "a" * 5000, ""]


def test_every_string_comes_back_whole() -> None:
    packed = PackedStrings(*pack_strings(WORDS))
    assert len(packed) == len(WORDS)
    assert list(packed) == WORDS
    assert [packed[i - len(WORDS)] for i in range(len(WORDS))] == WORDS


@settings(deadline=None, max_examples=100)
@given(st.lists(st.text()), st.slices(10))
def test_it_is_a_sequence_like_a_list(words: list[str], part: slice) -> None:
    offsets, data = pack_strings(iter(words))
    packed = PackedStrings(offsets, data)
    assert offsets.dtype == np.int64
    assert data.dtype == np.uint8
    assert offsets[-1] == len(data) == sum(len(w.encode()) for w in words)
    assert list(packed) == words
    assert packed[part] == words[part]


def test_no_strings_are_an_empty_sequence() -> None:
    offsets, data = pack_strings([])
    assert offsets.tolist() == [0]
    assert len(data) == 0
    assert list(PackedStrings(offsets, data)) == []


def test_places_beyond_the_ends_are_index_errors() -> None:
    packed = PackedStrings(*pack_strings(["a", "b"]))
    for place in (2, -3):
        with pytest.raises(IndexError):
            packed[place]
    with pytest.raises(IndexError):
        PackedStrings(*pack_strings([]))[0]


@settings(deadline=None, max_examples=100)
@given(st.lists(st.text() | st.sampled_from(WORDS), min_size=1), st.data())
def test_strings_at_any_places(words: list[str], data: st.DataObject) -> None:
    packed = PackedStrings(*pack_strings(words))
    places = data.draw(st.lists(st.integers(0, len(words) - 1)))
    assert packed.take(np.array(places, np.int64)) == tuple(words[place] for place in places)


@settings(deadline=None, max_examples=100)
@given(st.lists(st.text() | st.sampled_from(WORDS)), st.booleans(), st.integers(0, 2**32 - 1))
def test_strings_in_order_and_packed_anew(words: list[str], packed: bool, seed: int) -> None:
    held = PackedStrings(*pack_strings(words)) if packed else words
    encoded = [word.encode("utf-8", "surrogatepass") for word in words]
    assert order_of(held).tolist() == sorted(range(len(words)), key=encoded.__getitem__)
    places = np.random.default_rng(seed).permutation(len(words))
    offsets, data = pack_at(held, places)
    expected = pack_strings(words[place] for place in places)
    assert np.array_equal(offsets, expected[0])
    assert np.array_equal(data, expected[1])
