"""Parses words of the command line of `meshfold query` into parts of a Query."""

from __future__ import annotations

import argparse
import csv
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from meshfold.model.types import QUERY_VECTOR, FeatureList, Float32s, Ids, MaxPerValue

# An integer in its canonical form; other forms, such as 007, are strings.
_INTEGER = re.compile(r"(?:0|-?[1-9][0-9]*)\Z")
_INT64 = 1 << 63
_KINDS = ("ints", "floats", "strings")
# (name, kind or "", value, whether the value was in double quotes)
Feature = tuple[str, str, str, bool]


def seconds(text: str) -> float:
    number = float(text)
    if not 0 < number < 86_400:
        raise argparse.ArgumentTypeError(f"more than 0 and less than a day expected, got {text}")
    return number


def ids(text: str) -> Ids:
    """Parses ids: integers where all are, else strings; strings also where any is in double quotes."""
    parts, quoted = _parts(text, "item ids with commas between them")
    if quoted or not all(map(_INTEGER.match, parts)):
        return tuple(parts)
    return np.array([_int64(part) for part in parts], np.int64)


def user_id(text: str) -> int | str:
    """Parses a user id: an integer or a string; always a string in double quotes."""
    parts, quoted = _parts(text, "the id of one user")
    if len(parts) != 1:
        raise argparse.ArgumentTypeError(f"the id of one user expected, got {text!r}")
    return parts[0] if quoted or not _INTEGER.match(parts[0]) else _int64(parts[0])


def feature(text: str) -> Feature:
    """Parses NAME=VALUE or NAME:KIND=VALUE."""
    named, equals, value = text.partition("=")
    name, colon, kind = named.partition(":")
    if not equals or not name or (colon and kind not in _KINDS):
        raise argparse.ArgumentTypeError(
            f"NAME=VALUE expected, such as hour=8, or NAME:KIND=VALUE with a kind of {', '.join(_KINDS)};"
            f" got {text!r}"
        )
    if name == QUERY_VECTOR:
        raise argparse.ArgumentTypeError(f"a query vector comes from a file: --vector FILE; got {text!r}")
    quoted = len(value) > 1 and value[0] == value[-1] == '"'
    return name, kind, value[1:-1] if quoted else value, quoted


def features_of(given: Iterable[Feature]) -> dict[str, FeatureList]:
    """The features by name, with values in their order. Without a kind, values are integers where all look like
    integers, floats where all are numbers, else strings. Raises ArgumentTypeError where a value does not have the
    kind."""
    by_name: dict[str, list[Feature]] = {}
    for one in given:
        by_name.setdefault(one[0], []).append(one)
    return {name: _feature_list(name, values) for name, values in by_name.items()}


def _feature_list(name: str, given: list[Feature]) -> FeatureList:
    kinds = {kind for _, kind, _, _ in given if kind}
    if len(kinds) > 1:
        raise argparse.ArgumentTypeError(
            f"feature {name} has one kind, got {' and '.join(sorted(kinds))}; name one of them"
        )
    values = [value for _, _, value, _ in given]
    kind = kinds.pop() if kinds else _kind_of(values, any(quoted for _, _, _, quoted in given))
    if kind == "strings":
        return tuple(values)
    for value in values:
        if not (_INTEGER.match(value) if kind == "ints" else _is_number(value)):
            raise argparse.ArgumentTypeError(f"feature {name} holds {kind}, got {value!r}")
    if kind == "ints":
        return np.array([_int64(value) for value in values], np.int64)
    return np.array([float(value) for value in values], np.float32)


def _kind_of(values: list[str], quoted: bool) -> str:
    if quoted or not all(map(_is_number, values)):
        return "strings"
    return "ints" if all(map(_INTEGER.match, values)) else "floats"


def _is_number(text: str) -> bool:
    """Whether a text is a finite number. 007 is a string, since it might be an id."""
    if re.match(r"[+-]?0[0-9]", text):
        return False
    try:
        return math.isfinite(float(text)) and "_" not in text
    except ValueError:
        return False


def _parts(text: str, expected: str) -> tuple[list[str], bool]:
    """The parts between commas without their double quotes, and whether there were quotes."""
    try:
        rows = list(csv.reader([text], skipinitialspace=True, strict=True))
    except csv.Error as error:
        raise argparse.ArgumentTypeError(f"{expected} expected, got {text!r} ({error})") from None
    quoted = '"' in text
    parts = [part if quoted else part.strip() for row in rows for part in row]
    return [part for part in parts if part], quoted


def _int64(text: str) -> int:
    number = int(text) if len(text) <= 20 else _INT64
    if not -_INT64 <= number < _INT64:
        raise argparse.ArgumentTypeError(
            f'integers from -2^63 to 2^63 - 1 expected, got {text}; a string is written "{text}"'
        )
    return number


def names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def weight(text: str) -> tuple[str, float]:
    task, _, number = text.rpartition("=")
    try:
        return task, float(number)
    except ValueError:
        raise argparse.ArgumentTypeError(f"TASK=WEIGHT expected, such as like=0.7; got {text!r}") from None


def max_per(text: str) -> MaxPerValue:
    name, _, limit = text.rpartition("=")
    try:
        return MaxPerValue(name, int(limit))
    except ValueError:
        raise argparse.ArgumentTypeError(f"FIELD=N expected, such as author=2; got {text!r}") from None


def vector(file: str) -> Float32s:
    path = Path(file)
    try:
        numbers = np.load(path, allow_pickle=False) if path.suffix == ".npy" else np.loadtxt(path, ndmin=1)
        values = np.asarray(numbers, np.float32)
    except (OSError, ValueError) as error:
        raise argparse.ArgumentTypeError(f"{file} holds no vector: {error}") from None
    if values.ndim != 1:
        shape = list(values.shape)
        raise argparse.ArgumentTypeError(f"{file} holds an array of shape {shape}; one vector is wanted")
    return values


def all_features(given: Iterable[Feature], vectors: Iterable[Float32s]) -> Mapping[str, FeatureList]:
    """The features of --feature and --vector. Raises ArgumentTypeError."""
    whole = list(vectors)
    return features_of(given) | ({QUERY_VECTOR: np.concatenate(whole)} if whole else {})
