"""Joins rows that are answers into pairs, by request id.

The answers are sorted by a SQLite database in a temporary file: memory stays at a few megabytes, and the temporary
folder (TMPDIR) needs about as much space as the files.
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
# Columns with one value per request; where sides differ, the value of the first side in _ORDER counts.
_ONE_OF = ("user_key", "max_results", "filter")
_BATCH = 512
# The order in which sides' columns describe the request.
_ORDER = (PairSide.MESH, PairSide.MODEL, PairSide.AGAIN)


class AnswerJoin:
    """Takes answers in any order; returns pairs in the order of request ids."""

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
        """Adds an answer. side: the file's side; None to read the row's column `side`. Raises BadRow and
        InvalidData."""
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
        """One pair for each request id, with the sides that answered. Raises InvalidData."""
        self._write()
        try:
            # Ordered by rowid, so that the first of two answers of a side counts.
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
        columns, answer = json.loads(content)
        if sides and columns["surface"] and common["surface"] and columns["surface"] != common["surface"]:
            skipped.add(OTHER_SURFACE, where)
            continue
        for name in _ONE_OF:
            values = [one[name] for one in (common, columns) if name in one and _is_known(name, one[name])]
            if len(values) == 2 and values[0] != values[1]:
                skipped.add(f"answers that tell another {name} than the request's first answer", where)
        # A column missing in one side's row may be in another's.
        for name, value in columns.items():
            if name not in common or not _is_known(name, common[name]):
                common[name] = value
        answer["item_ids"], answer["scores"] = tuple(answer["item_ids"]), tuple(answer["scores"])
        sides[side] = SideAnswer(**answer)
    common["request"] = base64.b64decode(common["request"])
    try:
        return joined(common, sides)
    except BadRow as error:
        skipped.add(str(error), where)
        return None


def _is_known(name: str, value: Any) -> bool:
    """Whether a column has a value. An empty filter is one: every item passes it."""
    return value is not None if name == "filter" else bool(value)


def _failed(error: sqlite3.Error) -> InvalidData:
    return InvalidData(
        f"answers cannot be joined in the temporary folder: {error}; make room there or set TMPDIR"
    )
