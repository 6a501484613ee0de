"""Reads pairs from recordings: callers' answers with their shadows."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

from meshfold.compat.key import KeyedHash
from meshfold.compat.recording.record_files import read_records, record_files
from meshfold.compat.shadow.pair_files import UNREADABLE
from meshfold.compat.shadow.pairs import Pair, PairSide
from meshfold.compat.shadow.recorded_calls import STATUSES, RecordedCall, calls_of
from meshfold.compat.shadow.request_facts import RequestFacts, facts_of
from meshfold.compat.shadow.row_files import CUT_FILES
from meshfold.compat.shadow.skipped import Skipped
from meshfold.compat.traffic import Traffics
from meshfold.model.errors import InvalidData
from meshfold.protos.meshfold.v1 import recording_pb2 as pb

# Names of slices: the mode, and the full name of a mapped method.
MODE, METHOD = "mode", "method"
OTHER_MAPPING = "calls that were recorded with another mapping, and are read by this one"
_SIDES = (PairSide.MESH, PairSide.MODEL)


def is_recording(place: Path) -> bool:
    """Whether a place is a folder of a recording, or has the file name of one."""
    return bool(record_files(place)) if place.is_dir() else place.suffix == ".binpb"


def recorded_pairs(
    place: Path,
    keyed: KeyedHash,
    skipped: Skipped,
    features: Collection[str] = (),
    traffics: Traffics | None = None,
) -> Iterator[Pair]:
    """The pairs of a recording's file or folder, in the order in which they were complete.

    A call without a shadow makes a pair with one side. Requests are as recorded, so that they can be replayed.
    request_id and user_key are hashes, computed here unless the recording has hashes. features: features of users that
    become slices. traffics: of mapped methods; their requests are translated to mesh.v1. Memory has one number for each
    call with a shadow, and the answers that wait for their shadows.

    Raises InvalidData where there is no recording, or no file of it can be read.
    """
    shadows: dict[int, int] = {}
    for record in _records(place, Skipped()):
        if record.shadow:
            shadows[record.call] = shadows.get(record.call, 0) + 1
    waiting: dict[int, list[pb.Recorded]] = {}
    for record in _records(place, skipped):
        wanted = 1 + shadows.get(record.call, 0)
        records = waiting.setdefault(record.call, [])
        records.append(record)
        if len(records) >= wanted:
            yield from pairs_of(waiting.pop(record.call), keyed, skipped, features, traffics)
    # Records left over: shadows whose answer was in a deleted file, or answers whose shadow was not written yet.
    for records in waiting.values():
        yield from pairs_of(records, keyed, skipped, features, traffics)


def _records(place: Path, skipped: Skipped) -> Iterator[pb.Recorded]:
    paths = [path for path, _, _ in record_files(place)] if place.is_dir() else [place]
    refused: list[InvalidData] = []
    for path in paths:
        try:
            for record in read_records(
                path, lambda path, byte: skipped.add(CUT_FILES, f"{path}, byte {byte}")
            ):
                if record.side in _SIDES and record.code in STATUSES:
                    yield record
                else:
                    skipped.add("records of another schema", str(path))
        except InvalidData as error:
            skipped.add(UNREADABLE, str(error))
            refused.append(error)
    if len(refused) == len(paths):
        raise refused[0] if refused else InvalidData(f"{place} holds no recording (recorded-*.binpb)")


def pairs_of(
    records: list[pb.Recorded],
    keyed: KeyedHash,
    skipped: Skipped,
    features: Collection[str],
    traffics: Traffics | None = None,
) -> Iterator[Pair]:
    """The pairs of a call's records: one, none, or one for each query of a mapped method's request."""
    where = f"call {records[0].call:016x}"
    answers = [record for record in records if not record.shadow]
    if not answers:
        skipped.add("shadows without their answers", where)
        return
    answered = answers[0]
    try:
        calls = calls_of(answered, [record for record in records if record.shadow], traffics or {})
        pairs = [
            _pair(answered, call, _facts(call.message, answered.is_hashed, keyed, features), where)
            for call in calls
        ]
    except InvalidData as error:
        skipped.add(str(error), where)
        return
    traffic = (traffics or {}).get(answered.method)
    if traffic is not None and answered.mapping not in ("", traffic.digest):
        skipped.add(OTHER_MAPPING, where)
    for place, pair in enumerate(pairs):
        if pair.request and pair.filter is None:
            skipped.add("filters that have no text: compared without a filter", where)
        yield pair if len(pairs) == 1 else replace(pair, request_id=f"{pair.request_id}-{place + 1}")


def _pair(answered: pb.Recorded, call: RecordedCall, facts: RequestFacts, where: str) -> Pair:
    slices = {MODE: answered.mode} | ({METHOD: answered.method} if answered.method else {})
    return Pair(
        # Request ids are optional for callers.
        request_id=facts.request_id or where.replace(" ", "-"),
        surface=answered.surface,
        user_key=facts.user_key,
        unix_ms=answered.unix_ms,
        served_by=answered.side,
        max_results=facts.max_results,
        filter=facts.filter if call.message else None,
        request=call.message,
        is_redacted=call.lacks_anything(facts),
        slices={**facts.slices, **slices} if call.message else slices,
        mesh=call.sides.get(PairSide.MESH),
        model=call.sides.get(PairSide.MODEL),
        again=call.sides.get(PairSide.AGAIN),
    )


def _facts(message: bytes, is_hashed: bool, keyed: KeyedHash, features: Collection[str]) -> RequestFacts:
    """Raises InvalidData."""
    try:
        return facts_of(message, None if is_hashed else keyed, features)
    except InvalidData:
        raise InvalidData("requests that do not decode") from None
