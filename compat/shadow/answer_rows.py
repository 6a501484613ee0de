"""Rows that are answers, joined to pairs by their request ids.

Answers wait in a database of SQLite in a temporary file, which sorts them: memory stays a few megabytes, and the disk's
temporary folder (TMPDIR) holds about as much as the files do.
"""

from __future__ import annotations

import base64
import json
import sqlite3
from collections.abc import Iterator, Mapping
from itertools import groupby
from operator import itemgetter
from types import TracebackType
from typing import Any

from meshfold.compat.shadow.pair_rows import SIDE, BadRow, common_of, joined, side_of
from meshfold.compat.shadow.pairs import Pair, PairSide, SideAnswer
from meshfold.compat.shadow.skipped import Skipped
from meshfold.model.errors import InvalidData

TWICE = "answers of a side that answered the request before in the files"
OTHER_SURFACE = "answers whose request id another side has on another surface: not compared"
# A request has one of each; where sides tell another, the first side's counts.
_ONE_OF = ("user_key", "max_results", "filter")
_BATCH = 512
# The side whose columns tell of the request first.
_ORDER = (PairSide.MESH, PairSide.MODEL, PairSide.AGAIN)


class AnswerJoin:
    """Answers in, in any order; pairs out, in the order of request ids."""

    def __init__(self) -> None:
        # "" is a temporary file that SQLite removes by itself.
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute(
            "CREATE TABLE answers (request_id TEXT, side INTEGER, place TEXT, answer TEXT)"
        )
        self._waiting: list[tuple[str, int, str, str]] = []

    def __enter__(self) -> AnswerJoin:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._database.close()

    def add(self, row: Mapping[str, Any], side: PairSide | None, where: str, skipped: Skipped) -> None:
        """side: of the whole file; None where the row's column `side` tells. Raises BadRow and InvalidData."""
        side = side or _side(row)
        common = common_of(row)
        answer = side_of(row, "", lambda reason: skipped.add(reason, where))
        if answer is None:
            raise BadRow("rows without item_ids and without a status")
        common["request"] = base64.b64encode(common["request"]).decode()
        content = json.dumps([common, vars(answer)])
        self._waiting.append((common["request_id"], _ORDER.index(side), where, content))
        if len(self._waiting) >= _BATCH:
            self._write()

    def pairs(self, skipped: Skipped) -> Iterator[Pair]:
        """One for each request id, with the sides that answered. Raises InvalidData."""
        self._write()
        try:
            # rowid: of two answers of a side the first counts.
            rows = self._database.execute("SELECT * FROM answers ORDER BY request_id, side, rowid")
            for _, answers in groupby(rows, key=itemgetter(0)):
                pair = _pair(answers, skipped)
                if pair is not None:
                    yield pair
        except sqlite3.Error as error:
            raise _failed(error) from None

    def _write(self) -> None:
        try:
            self._database.execute("BEGIN")
            self._database.executemany("INSERT INTO answers VALUES (?, ?, ?, ?)", self._waiting)
            self._database.execute("COMMIT")
        except sqlite3.Error as error:
            raise _failed(error) from None
        self._waiting.clear()


def _side(row: Mapping[str, Any]) -> PairSide:
    try:
        return PairSide(row.get(SIDE) or "")
    except ValueError:
        raise BadRow(f"rows whose side is none of {', '.join(PairSide)}") from None


def _pair(answers: Iterator[tuple[str, int, str, str]], skipped: Skipped) -> Pair | None:
    common: dict[str, Any] = {}
    sides: dict[str, SideAnswer] = {}
    for _, number, where, content in answers:
        side = str(_ORDER[number])
        if side in sides:
            skipped.add(TWICE, where)
            continue
        told, answer = json.loads(content)
        if sides and told["surface"] and common["surface"] and told["surface"] != common["surface"]:
            skipped.add(OTHER_SURFACE, where)
            continue
        for name in _ONE_OF:
            values = [one[name] for one in (common, told) if name in one and _is_told(name, one[name])]
            if len(values) == 2 and values[0] != values[1]:
                skipped.add(f"answers that tell another {name} than the request's first answer", where)
        # What one side's rows leave out, another's may tell.
        for name, value in told.items():
            if name not in common or not _is_told(name, common[name]):
                common[name] = value
        answer["item_ids"], answer["scores"] = tuple(answer["item_ids"]), tuple(answer["scores"])
        sides[side] = SideAnswer(**answer)
    common["request"] = base64.b64decode(common["request"])
    try:
        return joined(common, sides)
    except BadRow as error:
        skipped.add(str(error), where)
        return None


def _is_told(name: str, value: Any) -> bool:
    """An empty filter is told: every item passes it."""
    return value is not None if name == "filter" else bool(value)


def _failed(error: sqlite3.Error) -> InvalidData:
    return InvalidData(
        f"answers cannot be joined in the temporary folder: {error}; make room there or set TMPDIR"
    )
