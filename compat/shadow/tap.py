"""A tap: joins recorded mirrored requests with the answers that another system logged for them, by request id.

The logged answers are in a SQLite database in a temporary file, so that memory stays at a few megabytes; the recorded
pairs are read one by one.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from meshfold.compat.key import KeyedHash
from meshfold.compat.shadow.pairs import Pair, PairSide, SideAnswer
from meshfold.compat.shadow.skipped import Skipped
from meshfold.model.errors import InvalidData

NOT_LOGGED = "recorded requests without a logged answer"
NOT_RECORDED = "logged answers whose request was not recorded"
OTHER_SURFACE = "logged answers of another surface than the recorded request's"
ANSWERED_TWICE = "logged answers of a side that answered the recorded request, too"
OTHER_IDS = "logged answers with integer ids to recorded ones with strings, or the other way"
_BATCH = 512


def tapped(
    recorded: Iterable[Pair], logged: Iterable[Pair], keyed: KeyedHash, skipped: Skipped
) -> Iterator[Pair]:
    """The recorded pairs, in their order, with logged answers for their missing sides.

    logged: one pair per request. keyed: the hash of recorded request ids; logged ids may be plain or hashed with the
    same key. skipped: counts pairs without a counterpart. Raises InvalidData where the temporary folder is full.
    """
    database = sqlite3.connect("", isolation_level=None)  # a temporary file that SQLite removes by itself
    try:
        _store(database, logged, keyed)
        for pair in recorded:
            answers = _taken(database, pair.request_id)
            if answers is None:
                skipped.add(NOT_LOGGED, f"request {pair.request_id!r}")
                yield pair
                continue
            whole = pair
            surface, of_sides = answers
            if surface and pair.surface and surface != pair.surface:
                skipped.add(OTHER_SURFACE, f"request {pair.request_id!r}")
                yield pair
                continue
            for side, answer in of_sides.items():
                if _side(pair, side) is not None:
                    skipped.add(ANSWERED_TWICE, f"request {pair.request_id!r}")
                elif _other_ids(pair, answer):
                    skipped.add(OTHER_IDS, f"request {pair.request_id!r}")
                else:
                    whole = _with(whole, side, answer)
            yield whole
        (left, first) = database.execute(
            "SELECT COUNT(*), MIN(hashed) FROM logged WHERE taken = 0"
        ).fetchone()
        if left:
            skipped.add(NOT_RECORDED, f"request {first!r}", left)
    except sqlite3.Error as error:
        raise InvalidData(
            f"logged answers cannot be kept in the temporary folder: {error}; make room there or set TMPDIR"
        ) from None
    finally:
        database.close()


def _store(database: sqlite3.Connection, logged: Iterable[Pair], keyed: KeyedHash) -> None:
    """Stores logged answers. Columns: given, the request id as logged; hashed, its keyed hash."""
    database.execute("PRAGMA journal_mode = OFF")
    database.execute(
        "CREATE TABLE logged (given TEXT, hashed TEXT, surface TEXT, answers TEXT, taken INTEGER)"
    )
    waiting: list[tuple[str, str, str, str, int]] = []

    def write() -> None:
        database.execute("BEGIN")
        database.executemany("INSERT INTO logged VALUES (?, ?, ?, ?, ?)", waiting)
        database.execute("COMMIT")
        waiting.clear()

    for pair in logged:
        answers = {str(side): vars(_side(pair, side)) for side in PairSide if _side(pair, side) is not None}
        given = pair.request_id
        waiting.append((given, keyed.request_id(given), pair.surface, json.dumps(answers), 0))
        if len(waiting) >= _BATCH:
            write()
    write()
    for column in ("given", "hashed"):
        database.execute(f"CREATE INDEX by_{column} ON logged ({column})")


def _taken(database: sqlite3.Connection, request_id: str) -> tuple[str, dict[PairSide, SideAnswer]] | None:
    """The surface ("" where unknown) and the logged answers by side of a request id; None where there are none."""
    for column in ("hashed", "given"):
        query = f"SELECT rowid, surface, answers FROM logged WHERE {column} = ?"
        found = database.execute(query, (request_id,)).fetchone()
        if found is not None:
            rowid, surface, answers = found
            database.execute("UPDATE logged SET taken = 1 WHERE rowid = ?", (rowid,))
            return surface, {PairSide(side): _answer(stored) for side, stored in json.loads(answers).items()}
    return None


def _answer(stored: dict[str, Any]) -> SideAnswer:
    return SideAnswer(**{**stored, "item_ids": tuple(stored["item_ids"]), "scores": tuple(stored["scores"])})


def _side(pair: Pair, side: PairSide) -> SideAnswer | None:
    answer: SideAnswer | None = getattr(pair, side)
    return answer


def _with(pair: Pair, side: PairSide, answer: SideAnswer) -> Pair:
    match side:
        case PairSide.MESH:
            return replace(pair, mesh=answer)
        case PairSide.MODEL:
            return replace(pair, model=answer)
    return replace(pair, again=answer)


def _other_ids(pair: Pair, answer: SideAnswer) -> bool:
    """Whether the kind of the answer's ids differs from the pair's."""
    answers = [answer, *(there for side in PairSide if (there := _side(pair, side)) is not None)]
    return len({type(one.item_ids[0]) for one in answers if one.item_ids}) > 1
