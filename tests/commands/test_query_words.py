from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import pytest

from meshfold.commands import query_words as words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("1,2,3", [1, 2, 3]),
        (" 1, -2 ,,0 ", [1, -2, 0]),
        ("9223372036854775807,-9223372036854775808", [2**63 - 1, -(2**63)]),
        ("vid_1,vid_2", ("vid_1", "vid_2")),
        ("1,AE22", ("1", "AE22")),
        ("007,8", ("007", "8")),
        ('"12","7"', ("12", "7")),
        ('"a,b",c', ("a,b", "c")),
        ('"say ""hi""",é', ('say "hi"', "é")),
        ("550e8400-e29b-41d4-a716-446655440000", ("550e8400-e29b-41d4-a716-446655440000",)),
        ("1.5,2", ("1.5", "2")),
    ],
)
def test_ids_are_integers_where_all_look_like_integers(text: str, expected: Any) -> None:
    got = words.ids(text)
    assert (got if isinstance(got, tuple) else got.tolist()) == expected
    assert isinstance(got, tuple) or got.dtype == np.int64


@pytest.mark.parametrize(
    ("text", "expected"),
    [("7", 7), ("-7", -7), ("AE22", "AE22"), ('"7"', "7"), ("007", "007"), ("a b", "a b"), ('"a,b"', "a,b")],
)
def test_a_user_is_an_integer_or_a_string(text: str, expected: int | str) -> None:
    assert words.user_id(text) == expected


@pytest.mark.parametrize("text", ["", "1,2", '"a', "99999999999999999999", "9" * 5000])
def test_what_is_no_user_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        words.user_id(text)


def features(*texts: str) -> dict[str, Any]:
    return {
        name: values if isinstance(values, tuple) else (str(values.dtype), values.tolist())
        for name, values in words.features_of(map(words.feature, texts)).items()
    }


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["hour=8"], ("int64", [8])),
        (["hour=8", "hour=-9"], ("int64", [8, -9])),
        (["hour=8.5"], ("float32", [8.5])),
        (["hour=8", "hour=1e3"], ("float32", [8.0, 1000.0])),
        (["hour:floats=8"], ("float32", [8.0])),
        (["hour=8", "hour:floats=9"], ("float32", [8.0, 9.0])),
        (["hour:strings=8"], ("8",)),
        (['hour="8"'], ("8",)),
        (["hour=8", "hour=noon"], ("8", "noon")),
        (["hour=de", "hour=en"], ("de", "en")),
        (["hour="], ("",)),
        (["hour=a=b"], ("a=b",)),
        (["hour=nan"], ("nan",)),
        (["hour=inf"], ("inf",)),
        (["hour=0x10"], ("0x10",)),
        (["hour=1_000"], ("1_000",)),
        (["hour=007"], ("007",)),
        (["hour=two words"], ("two words",)),
    ],
)
def test_a_feature_is_what_its_values_look_like(texts: list[str], expected: Any) -> None:
    assert features(*texts) == {"hour": expected}


def test_features_of_several_names_stay_apart() -> None:
    assert features("hour=8", "country=de", "hour=9") == {"hour": ("int64", [8, 9]), "country": ("de",)}


@pytest.mark.parametrize("text", ["hour", "=8", "hour:number=8", "hour:=8", "query_vector=1"])
def test_what_is_no_feature_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        words.feature(text)


@pytest.mark.parametrize(
    "texts",
    [
        ["hour:ints=8.5"],
        ["hour:ints=x"],
        ["hour:floats=x"],
        ["hour:floats=nan"],
        ["hour:ints=1", "hour:floats=2"],
        ["hour:ints=99999999999999999999"],
    ],
)
def test_values_that_are_not_of_the_kind_are_refused(texts: list[str]) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        features(*texts)
