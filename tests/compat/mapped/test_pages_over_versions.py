"""Pages of one answer while the catalog is published anew: nothing is repeated, whichever version answers."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from meshfold.compat.mapped.compile import load
from meshfold.model.limits import Limits
from meshfold.service.runner import Runner
from meshfold.service.work import Work, run_alone
from tests.compat.mapped.conftest import HERE
from tests.service.conftest import Publish

pb: Any = import_module("tests.compat.mapped.protos.acme_legacy_pb2")
LIMITS = Limits()


def test_a_token_of_one_version_goes_on_in_the_next(tmp_path: Path, publish_items: Publish) -> None:
    (adapter,) = load(HERE / "acme_legacy.toml").adapters
    runners = [Runner.open(publish_items(tmp_path / str(seed), seed=seed), "shop") for seed in (0, 1)]

    def page(version: int, token: str) -> Any:
        request = pb.FeedRequest(header={"request_id": "r", "page": "shop"}, page_size=15, page_token=token)
        message = adapter.framed(request.SerializeToString(), {})
        return pb.FeedResponse.FromString(run_alone(Work(adapter, runners[version], LIMITS), message))

    first, before = page(0, ""), page(1, "")
    second = page(1, first.next_page_token)
    third = page(0, second.next_page_token)
    shown = [[video.video_id for video in answer.videos] for answer in (first, second, third)]
    assert [len(ids) for ids in shown] == [15, 15, 15]
    assert len({each for ids in shown for each in ids}) == 45
    # What the new version has first comes next, without what was shown.
    expected = [video.video_id for video in before.videos if video.video_id not in shown[0]]
    assert shown[1][: len(expected)] == expected
    assert first.debug != second.debug
