"""Callers of the made-up company: load by locust, and callers who turn pages, listen to a stream and come back."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.empty_pb2 import Empty
from google.protobuf.proto import serialize_length_prefixed

from benchmarks.own_proto.protocol import GET_FEED, WATCH_FEED, Messages

LOCUST = Path(sys.executable).parent / "locust"
LOCUSTFILE = Path(__file__).parents[2] / "tests" / "load" / "locustfile.py"
_TIMEOUT_S = 20.0


def write_messages(path: Path, messages: Sequence[bytes]) -> None:
    """Each after its length, as locustfile.py reads them."""
    with path.open("wb") as file:
        for message in messages:
            # A message without fields keeps the bytes of any other.
            serialize_length_prefixed(Empty.FromString(message), file)


def load(address: str, messages: Path, rate: float, seconds: float, report: Path) -> tuple[int, int]:
    """(requests, those that failed)."""
    flags = ["--headless", "--only-summary", "--run-time", f"{round(seconds)}s"]
    flags += ["--targets", f"feed={address}"]
    flags += ["--requests", str(messages), "--method", GET_FEED, "--rate", str(rate), "--csv", str(report)]
    flags += ["--timeout", str(_TIMEOUT_S)]
    run = subprocess.run([LOCUST, "-f", LOCUSTFILE, *flags], capture_output=True, text=True, check=False)
    table = report.with_name(f"{report.name}_stats.csv")
    if not table.exists():
        raise SystemExit(f"locust ended with status {run.returncode}: {run.stderr[-2000:]}")
    with table.open() as file:
        total = next(row for row in csv.DictReader(file) if row["Name"] == "Aggregated")
    return int(total["Request Count"]), int(total["Failure Count"])


@dataclass
class Seen:
    """by: answers of each side. wrong: what should not have been, in words."""

    requests: int = 0
    failed: int = 0
    by: Counter[str] = field(default_factory=Counter)
    side_of: dict[str, str] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)


def turn_pages(address: str, requests: Sequence[Any], pb: Messages) -> Seen:
    """Two pages of each request, and the first again: a user stays on one side, and no page repeats another."""
    seen = Seen()
    with grpc.insecure_channel(address) as channel:
        ask = channel.unary_unary(GET_FEED)

        def asked(request: Any) -> Any:
            seen.requests += 1
            try:
                answer, call = ask.with_call(request.SerializeToString(), timeout=_TIMEOUT_S)
            except grpc.RpcError as error:
                seen.failed += 1
                seen.wrong.append(f"{error.code().name}: {error.details()}")
                return None
            side = dict(call.trailing_metadata())["meshfold-answered-by"]
            seen.by[side] += 1
            user = request.viewer.account.id
            if seen.side_of.setdefault(user, side) != side:
                seen.wrong.append(f"{user} was answered by {seen.side_of[user]}, then by {side}")
            return pb.response.FromString(answer)

        for request in requests:
            first = asked(request)
            if first is None or not first.next_page_token:
                continue
            following = pb.request.FromString(request.SerializeToString())
            following.page_token = first.next_page_token
            second = asked(following)
            if second is None:
                continue
            shown = {video.video_id for video in first.videos}
            if shown & {video.video_id for video in second.videos}:
                seen.wrong.append(f"a page of {request.viewer.account.id} repeats the one before")
            again = asked(request)
            if again is not None and [v.video_id for v in again.videos] != [v.video_id for v in first.videos]:
                seen.wrong.append(f"{request.viewer.account.id} got another answer to the same request")
    return seen


def watch(address: str, request: Any, pb: Messages) -> int:
    """How many videos a stream gave: it passes through, whatever the modes say."""
    with grpc.insecure_channel(address) as channel:
        stream = channel.unary_stream(WATCH_FEED, response_deserializer=pb.video.FromString)
        return sum(1 for _ in stream(request.SerializeToString(), timeout=_TIMEOUT_S))
