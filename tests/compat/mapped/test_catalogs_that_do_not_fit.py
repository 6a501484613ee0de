"""What only the catalog tells is told while serving, with the remedy; string ids go through as they are."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from meshfold.compat.mapped.compile import load
from meshfold.model.errors import Unprepared
from meshfold.model.types import Candidates, FieldValues, Ids
from tests.compat.mapped.conftest import HERE

pb: Any = import_module("tests.compat.mapped.protos.acme_recs_pb2")
TEXT = (HERE / "acme_recs.toml").read_text().replace("protos/", f"{HERE}/protos/")
TITLES = FieldValues(np.array([1, 0]), ("one",))


def adapter(folder: Path, *changes: tuple[str, str]) -> Any:
    text = TEXT
    for written, instead in changes:
        assert written in text
        text = text.replace(written, instead)
    (folder / "m.toml").write_text(text)
    return load(folder / "m.toml").adapters[0]


def answered(adapter: Any, ids: Ids, title: FieldValues = TITLES) -> Any:
    numbers = np.array([0.5, 0.25], np.float32)
    candidates = Candidates(("like",), "v1", ids, numbers, numbers, numbers[:, None], {"title": title})
    query = adapter.decode(pb.RecommendRequest(limit=2).SerializeToString())
    return pb.RecommendResponse.FromString(adapter.encode(query, candidates))


INTEGERS: Ids = np.array([7, 9])
STRINGS: Ids = ("a", "é")


@pytest.mark.parametrize(
    ("codec", "ids", "sent"),
    [
        ('ids = "prefix:vid_"', INTEGERS, ["vid_7", "vid_9"]),
        ('ids = "base36"', INTEGERS, ["7", "9"]),
        ('ids = "strip:x-"', STRINGS, ["x-a", "x-é"]),
        ("", STRINGS, ["a", "é"]),
    ],
)
def test_ids_are_sent_as_callers_know_them(tmp_path: Path, codec: str, ids: Ids, sent: list[str]) -> None:
    answer = answered(adapter(tmp_path, ('ids = "prefix:vid_"', codec)), ids)
    assert [video.id for video in answer.videos] == sent
    assert [video.title for video in answer.videos] == ["one", ""]


@pytest.mark.parametrize(
    ("changes", "ids", "told"),
    [
        ([], STRINGS, "the codec prefix:vid_ does not fit: the ids of this surface are strings"),
        (
            [('ids = "prefix:vid_"', "")],
            INTEGERS,
            'the ids of this surface are integers; give ids = "decimal"',
        ),
        (
            [('"videos.score" = "value"', '"videos.score" = { task = "likes" }')],
            INTEGERS,
            "did you mean 'like'?",
        ),
    ],
)
def test_a_catalog_that_does_not_fit_is_told(
    tmp_path: Path, changes: list[tuple[str, str]], ids: Ids, told: str
) -> None:
    with pytest.raises(Unprepared) as error:
        answered(adapter(tmp_path, *changes), ids)
    assert told in str(error.value)


def test_a_field_of_another_kind_or_of_many_values_is_told(tmp_path: Path) -> None:
    made = adapter(tmp_path)
    with pytest.raises(Unprepared, match="title is of kind integer"):
        answered(made, INTEGERS, FieldValues(np.array([1, 1]), np.array([1, 2])))
    with pytest.raises(Unprepared, match="several values of title"):
        answered(made, INTEGERS, FieldValues(np.array([2, 0]), ("one", "two")))
