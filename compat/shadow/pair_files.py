"""Reads pairs from files: our own, or Parquet and JSON lines of others with a pair or an answer in each row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from meshfold.compat.shadow.answer_rows import AnswerJoin
from meshfold.compat.shadow.pair_rows import BadRow, pair_of
from meshfold.compat.shadow.pair_writer import PairLimits, PairWriter
from meshfold.compat.shadow.pairs import Pair, PairSide
from meshfold.compat.shadow.row_files import Row, read_rows
from meshfold.compat.shadow.row_schema import has_pairs
from meshfold.compat.shadow.skipped import Skipped
from meshfold.model.errors import InvalidData

__all__ = ["PAIRS", "PairLimits", "PairWriter", "files_of", "read_pairs"]

# Name of the folder of pairs in a comparison's folder.
PAIRS = "pairs"
UNREADABLE = "files that cannot be read"

_SUFFIXES = (".parquet", ".jsonl", ".ndjson", ".json")


def read_pairs(
    *places: Path, sides: Mapping[PairSide, Sequence[Path]] | None = None, skipped: Skipped | None = None
) -> Iterator[Pair]:
    """The pairs of files and of all files of folders.

    Rows that are pairs come first, in the order of the files; then answers joined by request id, in the order of
    request ids. sides: files and folders with answers of one side. skipped: counts skipped rows and files. Memory has a
    few hundred rows at a time.

    Raises InvalidData where a place has no such files, where a named file cannot be read, and where none of a folder's
    files can be read.
    """
    skipped = Skipped() if skipped is None else skipped
    with AnswerJoin() as join:
        for place in places:
            for where, row in _rows(place, skipped):
                pair = _take(row, None, where, join, skipped)
                if pair is not None:
                    yield pair
        for side, of_side in (sides or {}).items():
            for place in of_side:
                for where, row in _rows(place, skipped):
                    if "item_ids" not in row and has_pairs(row):
                        raise InvalidData(
                            f"{where}: expected an answer of {side} with item_ids, got the columns of pairs; give "
                            "the file without naming a side"
                        )
                    _take(row, side, where, join, skipped)
        yield from join.pairs(skipped)


def files_of(place: Path) -> Sequence[Path]:
    """The file, or the files of a folder in the order of their names. Raises InvalidData."""
    if not place.exists():
        raise InvalidData(f"{place} is not there")
    if not place.is_dir():
        return [place]
    folder = place / PAIRS if (place / PAIRS).is_dir() else place
    found = [
        path
        for path in sorted(folder.iterdir())
        if path.suffix in _SUFFIXES and not path.name.startswith((".", "_")) and path.is_file()
    ]
    if not found:
        raise InvalidData(
            f"{place} holds no files of pairs (*{', *'.join(_SUFFIXES)}) and no recording (recorded-*.binpb)"
        )
    return found


def _rows(place: Path, skipped: Skipped) -> Iterator[tuple[str, Row]]:
    """The rows of a place, each with its place in words. Raises InvalidData."""
    files = files_of(place)
    refused: list[InvalidData] = []
    for path in files:
        try:
            for number, row in read_rows(path, skipped):
                yield f"{path}, row {number}", row
        except InvalidData as error:
            if not place.is_dir():
                raise
            skipped.add(UNREADABLE, str(error))
            refused.append(error)
    if len(refused) == len(files):
        raise refused[0]


def _take(row: Row, side: PairSide | None, where: str, join: AnswerJoin, skipped: Skipped) -> Pair | None:
    """The pair of a row; None where the row is skipped, or is an answer, which goes to the join."""
    try:
        if side is None and "item_ids" not in row and (has_pairs(row) or "status" not in row):
            return pair_of(row, lambda reason: skipped.add(reason, where))
        join.add(row, side, where, skipped)
    except BadRow as error:
        skipped.add(str(error), where)
    return None
