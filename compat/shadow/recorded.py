"""Pairs out of recordings: answers, and the shadows that were asked beside them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

import grpc

from meshfold.compat.key import KeyedHash
from meshfold.compat.recording.record_files import read_records, record_files
from meshfold.compat.shadow.answers import answer_of, failure_of
from meshfold.compat.shadow.pair_files import UNREADABLE
from meshfold.compat.shadow.pairs import OK, Pair, PairSide, SideAnswer
from meshfold.compat.shadow.request_facts import HISTORY, RequestFacts, facts_of
from meshfold.compat.shadow.row_files import CUT_FILES
from meshfold.compat.shadow.skipped import Skipped
from meshfold.model.errors import InvalidData
from meshfold.protos.meshfold.v1 import recording_pb2 as pb

# The name of the slice.
MODE = "mode"
_SIDES = (PairSide.MESH, PairSide.MODEL)
_STATUSES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}


def is_recording(place: Path) -> bool:
    """Whether it is a folder of a recording, or a file with the name of one."""
    return bool(record_files(place)) if place.is_dir() else place.suffix == ".binpb"


def recorded_pairs(
    place: Path, keyed: KeyedHash, skipped: Skipped, features: Collection[str] = ()
) -> Iterator[Pair]:
    """The pairs of a recording's file or folder, in the order in which they were complete.

    Where no shadow was asked, a pair has one side. Requests are as recorded, so that they can be asked again;
    request_id and user_key are hashes, made here where the recording has none. features: of users, that become slices.
    Memory holds a number for each call with a shadow, and the answers whose shadow follows.

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
            yield from pairs_of(waiting.pop(record.call), keyed, skipped, features)
    # A shadow whose answer went with an older file, or what came while the files were read.
    for records in waiting.values():
        yield from pairs_of(records, keyed, skipped, features)


def _records(place: Path, skipped: Skipped) -> Iterator[pb.Recorded]:
    paths = [path for path, _, _ in record_files(place)] if place.is_dir() else [place]
    refused: list[InvalidData] = []
    for path in paths:
        try:
            for record in read_records(
                path, lambda path, byte: skipped.add(CUT_FILES, f"{path}, byte {byte}")
            ):
                if record.side in _SIDES and record.code in _STATUSES:
                    yield record
                else:
                    skipped.add("records of another schema", str(path))
        except InvalidData as error:
            skipped.add(UNREADABLE, str(error))
            refused.append(error)
    if len(refused) == len(paths):
        raise refused[0] if refused else InvalidData(f"{place} holds no recording (recorded-*.binpb)")


def pairs_of(
    records: list[pb.Recorded], keyed: KeyedHash, skipped: Skipped, features: Collection[str]
) -> Iterator[Pair]:
    """The pair of a call's records, or none."""
    where = f"call {records[0].call:016x}"
    answers = [record for record in records if not record.shadow]
    if not answers:
        skipped.add("shadows without their answers", where)
        return
    answered = answers[0]
    # What the model was asked, where a user was filled in for it, says more than what the caller sent.
    asked = next((r for r in records if r.shadow and r.request and r.side == PairSide.MODEL), answered)
    try:
        facts = _facts(asked, keyed, features)
        sides: dict[str, SideAnswer] = {}
        for record in (answered, *(record for record in records if record.shadow)):
            sides.setdefault(str(PairSide.AGAIN if record.again else record.side), _side(record))
    except InvalidData as error:
        skipped.add(str(error), where)
        return
    if facts.filter is None:
        skipped.add("filters that have no text: compared without a filter", where)
    yield Pair(
        # A caller need not name requests.
        request_id=facts.request_id or where.replace(" ", "-"),
        surface=answered.surface,
        user_key=facts.user_key,
        unix_ms=answered.unix_ms,
        served_by=answered.side,
        max_results=facts.max_results,
        filter=facts.filter if asked.request else None,
        request=asked.request,
        is_redacted=_is_redacted(asked, facts),
        slices={**facts.slices, MODE: answered.mode} if asked.request else {MODE: answered.mode},
        mesh=sides.get(PairSide.MESH),
        model=sides.get(PairSide.MODEL),
        again=sides.get(PairSide.AGAIN),
    )


def _facts(record: pb.Recorded, keyed: KeyedHash, features: Collection[str]) -> RequestFacts:
    """Raises InvalidData."""
    try:
        return facts_of(record.request, None if record.is_hashed else keyed, features)
    except InvalidData:
        raise InvalidData("requests that do not decode") from None


def _side(record: pb.Recorded) -> SideAnswer:
    """Raises InvalidData."""
    status, latency_ms = _STATUSES[record.code], record.took_s * 1000
    if status.name != OK:
        return failure_of(status, latency_ms)
    if not record.answer:
        # So is one recorded whose bytes are none.
        raise InvalidData("answers without content")
    try:
        return answer_of(record.answer, latency_ms)
    except InvalidData:
        raise InvalidData("answers that do not decode") from None


def _is_redacted(record: pb.Recorded, facts: RequestFacts) -> bool:
    """Of an older record, which does not tell: where nothing of a history is left, as it may have been left out."""
    if not record.request:
        return False
    return record.is_redacted if record.HasField("is_redacted") else facts.slices[HISTORY] == "0"
