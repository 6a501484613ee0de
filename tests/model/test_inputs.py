from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from meshfold.model.errors import InvalidQuery
from meshfold.model.inputs import PAD, HashBuckets, Vocabulary, encode_inputs, hash_of, tokens_of
from meshfold.model.program import export_program, load_program
from meshfold.model.schema import Input, InputKind

LARGEST = (1 << 63) - 1


@pytest.mark.parametrize(
    ("text", "hashed"),
    [
        ("", -5_426_141_060_434_712_860),
        ("de", 8_804_398_627_457_808_120),
        ("Grüße", -7_880_296_023_282_111_738),
        ("a b", 2_952_434_739_088_078_779),
        ("\ud800", 7_497_787_021_708_494_914),
    ],
)
def test_hashes_are_the_same_for_ever(text: str, hashed: int) -> None:
    """Towers in published snapshots depend on them."""
    assert hash_of(text) == hashed


def test_hashes_fill_int64_and_are_never_pad() -> None:
    hashes = [hash_of(str(i)) for i in range(2000)]
    assert len(set(hashes)) == 2000
    assert 800 < sum(h < 0 for h in hashes) < 1200
    assert all(PAD < h <= LARGEST for h in hashes)
    assert max(abs(h) for h in hashes) > 1 << 62


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        (" \t\n .,;!", []),
        ("Toy Story (1995)", ["toy", "story", "1995"]),
        ("GRÜSSE, ÉCOLE", ["grüsse", "école"]),
        ("don't snake_case", ["don", "t", "snake_case"]),
        ("千と千尋 の", ["千と千尋", "の"]),
    ],
)
def test_tokens_are_words_in_lower_case(text: str, words: list[str]) -> None:
    assert tokens_of(text) == words


def ints(*values: int) -> Any:
    return np.array(values, np.int64)


def floats(*values: float) -> Any:
    return np.array(values, np.float32)


KINDS = (
    Input("ages", InputKind.INTS, 3),
    Input("weights", InputKind.FLOATS, 2),
    Input("countries", InputKind.STRINGS, 2),
    Input("query", InputKind.TEXT, 4),
)


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("ages", ints(), [PAD, PAD, PAD]),
        ("ages", ints(-7), [-7, PAD, PAD]),
        ("ages", ints(LARGEST, 0, PAD), [LARGEST, 0, PAD]),
        ("ages", ints(1, 2, 3, 4), [1, 2, 3]),
        ("weights", floats(), [0.0, 0.0]),
        ("weights", floats(0.1), [float(np.float32(0.1)), 0.0]),
        ("weights", floats(1, 2, 3), [1.0, 2.0]),
        ("countries", (), [PAD, PAD]),
        ("countries", ("de",), [hash_of("de"), PAD]),
        ("countries", ("de", "", "fr"), [hash_of("de"), hash_of("")]),
        ("query", ("Toy Story!",), [hash_of("toy"), hash_of("story"), PAD, PAD]),
        ("query", ("a b", "", "C d e"), [hash_of(w) for w in "abcd"]),
        ("query", ("...",), [PAD] * 4),
    ],
)
def test_values_are_cut_and_padded(name: str, values: Any, expected: Sequence[float]) -> None:
    encoded = encode_inputs(KINDS, {name: values, "not_declared": ("x",)})
    assert list(encoded) == [i.name for i in KINDS]
    assert encoded[name].tolist() == expected
    for other in KINDS:
        held = encoded[other.name]
        assert held.dtype == (np.float32 if other.kind is InputKind.FLOATS else np.int64)
        assert held.shape == (other.length,)
        if other.name != name:
            assert (held == (0 if other.kind is InputKind.FLOATS else PAD)).all()


def test_nothing_declared_is_nothing() -> None:
    assert encode_inputs((), {"ages": ints(1)}) == {}


@pytest.mark.parametrize("name", [i.name for i in KINDS])
@pytest.mark.parametrize("values", [ints(1), floats(1), ("x",)])
def test_a_feature_of_another_kind_is_named(name: str, values: Any) -> None:
    kind = {i.name: i.kind for i in KINDS}[name]
    strings = isinstance(values, tuple)
    fits = strings if kind in (InputKind.STRINGS, InputKind.TEXT) else not strings
    fits = fits and (strings or (values.dtype == np.float32) == (kind is InputKind.FLOATS))
    features: Mapping[str, Any] = {name: values}
    if fits:
        encode_inputs(KINDS, features)
        return
    with pytest.raises(InvalidQuery, match=f"is declared as {kind}; send") as caught:
        encode_inputs(KINDS, features)
    assert caught.value.path == f'features["{name}"]'


def test_encoding_leaves_the_request_alone() -> None:
    given = ints(5, 6)
    encode_inputs(KINDS, {"ages": given})["ages"][0] = 9
    assert given.tolist() == [5, 6]


VALUES = [PAD, PAD + 1, -(1 << 40), -5, -1, 0, 1, 2, 5, 7, 1 << 40, LARGEST]


@pytest.mark.parametrize(
    "ids", [[], [5], [-5, 7], [7, -5, 7, 0], [LARGEST, PAD + 1, -1], list(range(-100, 3))]
)
def test_a_vocabulary_gives_places_as_plain_python_does(ids: list[int]) -> None:
    places = {value: place + 1 for place, value in enumerate(sorted(set(ids)))}
    values = torch.tensor([VALUES, VALUES[::-1]])
    wanted = [[places.get(v, 0) for v in row] for row in values.tolist()]
    assert Vocabulary(ids)(values).tolist() == wanted
    assert Vocabulary(np.array(ids, np.int64))(values).tolist() == wanted


@pytest.mark.parametrize("buckets", [1, 2, 7, 1 << 40, LARGEST])
def test_hash_buckets_are_as_plain_pythons(buckets: int) -> None:
    places = HashBuckets(buckets)(torch.tensor([VALUES])).tolist()[0]
    # The largest bucket of all overflows to the smallest int64 only where there are 2^63 of them.
    assert places == [0 if v == PAD else v % buckets + 1 for v in VALUES]
    assert all(0 <= place <= buckets for place in places)


@pytest.mark.parametrize("module", [Vocabulary([3, -5]), Vocabulary([]), HashBuckets(7)])
def test_both_are_the_same_inside_of_a_program(module: nn.Module) -> None:
    values = torch.tensor([VALUES])
    program = load_program(export_program(module, (torch.zeros_like(values),)), "x")
    assert torch.equal(program(values), module(values))
