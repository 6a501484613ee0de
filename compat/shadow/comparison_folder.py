"""A comparison's folder: pairs as Parquet, causes of differences as Parquet, and the comparison as JSON.

pairs/pairs-*.parquet     what was compared, less what is personal
differences.parquet       a row a difference of the pairs whose causes were looked for
comparison.json           the figures, of which reports are made
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from meshfold.compat.shadow.compare import compare
from meshfold.compat.shadow.compare_settings import CompareSettings
from meshfold.compat.shadow.comparison import Catalog, Comparison, Difference
from meshfold.compat.shadow.difference_files import DIFFERENCES, DifferenceWriter
from meshfold.compat.shadow.pair_files import PAIRS
from meshfold.compat.shadow.pair_redaction import PairRedaction
from meshfold.compat.shadow.pair_writer import PairLimits, PairWriter
from meshfold.compat.shadow.pairs import Pair, PairSide
from meshfold.compat.shadow.report.as_json import from_json, to_json
from meshfold.compat.shadow.skipped import Skipped
from meshfold.model.errors import InvalidData, NotDurable
from meshfold.model.progress import Progress, silent
from meshfold.model.store import sync_folder

COMPARISON = "comparison.json"
STAGE = "comparing pairs"
_MOST_JSON_BYTES = 256 << 20
# Of a folder of one comparison nothing goes.
_ALL = PairLimits(bytes=1 << 62, age_s=float("inf"))


@dataclass(frozen=True)
class CompareInputs:
    """What a comparison needs besides pairs. sources: names of the places of the pairs. redaction: what of a pair is
    written. catalog: of a surface. differences: by request id. notes, counted: for the reader, besides what was
    skipped."""

    sources: tuple[str, ...] = ()
    settings: CompareSettings = field(default_factory=CompareSettings)
    redaction: Callable[[Pair], Pair] = field(default_factory=PairRedaction)
    catalog: Callable[[str], Catalog | None] = lambda surface: None
    differences: Mapping[str, tuple[Difference, ...]] = field(default_factory=dict)
    notes: Sequence[str] = ()
    counted: Mapping[str, int] = field(default_factory=dict)

    def beside(
        self,
        catalog: Callable[[str], Catalog | None],
        differences: Mapping[str, tuple[Difference, ...]],
        notes: Sequence[str],
        counted: Mapping[str, int],
    ) -> CompareInputs:
        """With what snapshots tell. notes, counted: are read when the comparison is done."""
        return replace(self, catalog=catalog, differences=differences, notes=notes, counted=counted)


def compare_pairs(
    pairs: Iterable[Pair],
    given: CompareInputs,
    skipped: Skipped,
    writer: PairWriter | None = None,
    progress: Progress = silent,
) -> Comparison:
    """The comparison, with what was skipped in it. writer: gets every pair, redacted.

    Raises InvalidData where no pair has answers of both sides.
    """
    counts: Counter[str] = Counter()
    alone: dict[PairSide, str] = {}
    taken = _taken(pairs, given.redaction, writer, counts, alone, progress)
    comparison = compare(taken, given.catalog, given.differences, given.settings)
    if not counts["both"]:
        raise InvalidData(_why_none(given, counts, alone, skipped))
    notes = [*comparison.notes, *given.notes, *skipped.notes()]
    if counts["redacted"]:
        notes.append(
            f"{counts['redacted']} of {counts['pairs']} pairs are redacted: their requests cannot be asked again."
        )
    return replace(
        comparison,
        surfaces=tuple(
            replace(
                surface,
                examples=tuple(replace(one, pair=given.redaction(one.pair)) for one in surface.examples),
            )
            for surface in comparison.surfaces
        ),
        counted={**comparison.counted, **given.counted, **skipped.counted},
        sources=given.sources,
        notes=tuple(notes),
    )


def write_comparison(
    out: Path, pairs: Iterable[Pair], given: CompareInputs, skipped: Skipped, progress: Progress = silent
) -> Comparison:
    """Compares, and makes a folder of it that appears whole. Raises InvalidData and NotDurable."""
    with _new_folder(out) as folder:
        # The pairs that it gets are redacted.
        writer = PairWriter(folder / PAIRS, _ALL, lambda pair: pair)
        comparison = compare_pairs(pairs, given, skipped, writer, progress)
        writer.close()
        if writer.dropped:
            raise NotDurable(f"{writer.dropped} pairs could not be written beside {out}; make room there")
        with DifferenceWriter(folder / DIFFERENCES) as differences:
            for request_id, of_request in given.differences.items():
                differences.append(request_id, of_request)
        _write_json(folder / COMPARISON, comparison)
    return comparison


def read_comparison(folder: Path) -> Comparison | None:
    """Of a folder that write_comparison made; None where there is no comparison in it. Raises InvalidData."""
    path = folder / COMPARISON
    try:
        if not path.is_file():
            return None
        if path.stat().st_size > _MOST_JSON_BYTES:
            raise InvalidData(f"{path} has more than {_MOST_JSON_BYTES} bytes; compare the pairs again")
        return from_json(json.loads(path.read_bytes()))
    except OSError as error:
        raise InvalidData(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise InvalidData(f"{path} is no JSON or ends in the middle; compare the pairs again") from None
    except InvalidData as error:
        raise InvalidData(f"{path}: {error}") from None


def _taken(
    pairs: Iterable[Pair],
    redaction: Callable[[Pair], Pair],
    writer: PairWriter | None,
    counts: Counter[str],
    alone: dict[PairSide, str],
    progress: Progress,
) -> Iterator[Pair]:
    """alone: gets the id of a request that has one side's answer, for each side."""
    for pair in pairs:
        counts["pairs"] += 1
        counts["both"] += pair.mesh is not None and pair.model is not None
        if pair.mesh is None or pair.model is None:
            alone.setdefault(PairSide.MODEL if pair.mesh is None else PairSide.MESH, pair.request_id)
        kept = pair if writer is None else redaction(pair)
        counts["redacted"] += kept.is_redacted
        if writer is not None:
            writer.append(kept)
        progress(STAGE, counts["pairs"], counts["pairs"] + 1)
        # Figures are written, too: they tell nothing of slices that are left out.
        yield replace(pair, slices=kept.slices)
    progress(STAGE, counts["pairs"], counts["pairs"])


def _why_none(
    given: CompareInputs, counts: Counter[str], alone: Mapping[PairSide, str], skipped: Skipped
) -> str:
    such_as = " and ".join(f"{request_id!r} of the {side}" for side, request_id in sorted(alone.items()))
    one_side = f"{counts['pairs']} requests with one side's answer, such as {such_as}"
    found = one_side if counts["pairs"] else "nothing that can be compared"
    why = f" ({' '.join(skipped.notes()[:3])})" if skipped else ""
    return f"{', '.join(given.sources)}: expected pairs with answers of both sides, got {found}{why}"


def check_new(out: Path) -> None:
    """Raises InvalidData where a comparison cannot become this folder, as something is there."""
    try:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise InvalidData(f"{out} is there already and not empty; name a new folder")
    except OSError as error:
        raise NotDurable(f"{out} cannot be written: {error.strerror}") from None


@contextmanager
def _new_folder(out: Path) -> Iterator[Path]:
    """A folder beside `out` that takes its name when the `with` ends well, and goes where it does not."""
    new = out.with_name(f".{out.name}.{os.getpid()}.new")
    check_new(out)
    try:
        shutil.rmtree(new, ignore_errors=True)
        # Only the owner may read what people were shown.
        new.mkdir(parents=True, mode=0o700)
    except OSError as error:
        raise NotDurable(f"{out} cannot be written: {error.strerror}") from None
    try:
        yield new
        new.replace(out)
        sync_folder(out.parent)
    except OSError as error:
        raise NotDurable(f"{out} cannot be written: {error.strerror}; make room there") from None
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _write_json(path: Path, comparison: Comparison) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        json.dump(to_json(comparison), file, ensure_ascii=True, allow_nan=False)
        file.flush()
        os.fsync(file.fileno())
