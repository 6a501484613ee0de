"""A comparison's folder: pairs as Parquet, causes of differences as Parquet, and the comparison as JSON.

pairs/pairs-*.parquet     the compared pairs, without personal data
differences.parquet       one row per difference of the attributed pairs
comparison.json           the figures, from which reports are made
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
# Limits of one comparison's folder, from which nothing is deleted.
_ALL = PairLimits(bytes=1 << 62, age_s=float("inf"))


@dataclass(frozen=True)
class CompareInputs:
    """Inputs of a comparison besides pairs.

    sources: names of the places of the pairs. redaction: makes the pair that is written. catalog: returns a surface's
    catalog. differences: by request id. notes, counted: further notes and counts for the reader.
    """

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
        """The inputs with data from snapshots. notes, counted: read at the end of the comparison."""
        return replace(self, catalog=catalog, differences=differences, notes=notes, counted=counted)


def compare_pairs(
    pairs: Iterable[Pair],
    inputs: CompareInputs,
    skipped: Skipped,
    writer: PairWriter | None = None,
    progress: Progress = silent,
) -> Comparison:
    """Compares pairs; the comparison includes the skipped ones. writer: gets every pair, redacted.

    Raises InvalidData where no pair has answers of both sides.
    """
    counts: Counter[str] = Counter()
    alone: dict[PairSide, str] = {}
    taken = _taken(pairs, inputs.redaction, writer, counts, alone, progress)
    comparison = compare(taken, inputs.catalog, inputs.differences, inputs.settings)
    if not counts["both"]:
        raise InvalidData(_why_none(inputs, counts, alone, skipped))
    notes = [*comparison.notes, *inputs.notes, *skipped.notes()]
    if counts["redacted"]:
        notes.append(
            f"{counts['redacted']} of {counts['pairs']} pairs are redacted: their requests cannot be asked again."
        )
    return replace(
        comparison,
        surfaces=tuple(
            replace(
                surface,
                examples=tuple(replace(one, pair=inputs.redaction(one.pair)) for one in surface.examples),
            )
            for surface in comparison.surfaces
        ),
        counted={**comparison.counted, **inputs.counted, **skipped.counted},
        sources=inputs.sources,
        notes=tuple(notes),
    )


def write_comparison(
    out: Path, pairs: Iterable[Pair], inputs: CompareInputs, skipped: Skipped, progress: Progress = silent
) -> Comparison:
    """Compares pairs and writes the folder, which appears as a whole. Raises InvalidData and NotDurable."""
    with _new_folder(out) as folder:
        # The writer gets pairs that are redacted already.
        writer = PairWriter(folder / PAIRS, _ALL, lambda pair: pair)
        comparison = compare_pairs(pairs, inputs, skipped, writer, progress)
        writer.close()
        if writer.dropped:
            raise NotDurable(f"{writer.dropped} pairs could not be written beside {out}; make room there")
        with DifferenceWriter(folder / DIFFERENCES) as differences:
            for request_id, of_request in inputs.differences.items():
                differences.append(request_id, of_request)
        _write_json(folder / COMPARISON, comparison)
    return comparison


def read_comparison(folder: Path) -> Comparison | None:
    """Reads a folder of write_comparison; None where it has no comparison. Raises InvalidData."""
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
    """The pairs with both sides' answers. alone: gets for each side the id of one request that only it answered."""
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
        # Omitted slices are dropped here too, so that the figures do not contain them.
        yield replace(pair, slices=kept.slices)
    progress(STAGE, counts["pairs"], counts["pairs"])


def _why_none(
    inputs: CompareInputs, counts: Counter[str], alone: Mapping[PairSide, str], skipped: Skipped
) -> str:
    such_as = " and ".join(f"{request_id!r} of the {side}" for side, request_id in sorted(alone.items()))
    one_side = f"{counts['pairs']} requests with one side's answer, such as {such_as}"
    found = one_side if counts["pairs"] else "nothing that can be compared"
    why = f" ({' '.join(skipped.notes()[:3])})" if skipped else ""
    return f"{', '.join(inputs.sources)}: expected pairs with answers of both sides, got {found}{why}"


def check_new(out: Path) -> None:
    """Raises InvalidData where the folder exists already."""
    try:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise InvalidData(f"{out} is there already and not empty; name a new folder")
    except OSError as error:
        raise NotDurable(f"{out} cannot be written: {error.strerror}") from None


@contextmanager
def _new_folder(out: Path) -> Iterator[Path]:
    """A temporary folder that is renamed to `out` when the block succeeds, and deleted where it fails."""
    new = out.with_name(f".{out.name}.{os.getpid()}.new")
    check_new(out)
    try:
        shutil.rmtree(new, ignore_errors=True)
        # Readable by its owner alone, since it has results shown to users.
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
