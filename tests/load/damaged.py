"""Damaged snapshots, each opened and asked in a process of its own kind: refused or answered, never a crash.

    python tests/load/damaged.py
    python tests/load/damaged.py --only 1234
    LD_PRELOAD="LIBASAN LIBSTDC++" python tests/load/damaged.py --library build/sanitize/_native.so

A number stands for one damage (damage.py). Processes take them in turn: one that dies or hangs is told with the number
that it had, and another takes its place. Last line: BENCH {...}. Exit status 1 where one crashed, hung, failed with
another error than a refusal, or was refused without a name.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import resource
import subprocess
import sys
import tempfile
import threading
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import numpy as np
import torch

# Appended: folders here have names of packages.
sys.path.append(str(Path(__file__).resolve().parents[2]))

from meshfold.model.errors import InvalidQuery, SnapshotRefused, UnknownName
from meshfold.model.filter.expression import All, AtLeast, Exists, Expression, Match, Not, Range
from meshfold.model.filter.expression import Any as AnyOf
from meshfold.model.snapshot import MANIFEST, PROGRAMS, TENSOR_FILES
from meshfold.model.types import EmbedQuery, MaxPerValue, Query, ScoreQuery, SearchQuery, User
from meshfold.service.runner import Runner
from tests.load.damage import damage, make_base

TIMEOUT_S, SANITIZED_TIMEOUT_S = 60.0, 600.0
# Beyond, what a snapshot asks for is an error in its process instead of the end of others'.
MOST_BYTES = 32 << 30
REFUSED, ANSWERED, CRASHED, HUNG, TRACEBACK = "refused", "answered", "crashed", "hung", "tracebacks"
UNNAMED = "a refusal without the name of a file"


def outcome(bases: tuple[Path, Path], number: int) -> tuple[str, str, str]:
    """(what became of the snapshot of a number, what is wrong with it, what was said of it)."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "snapshot"
        told = damage(bases, folder, number)
        try:
            ask(Runner.open(folder, "shop"))
        except SnapshotRefused as error:
            named = any(f"{folder / name}: " in str(error) for name in (MANIFEST, *TENSOR_FILES, *PROGRAMS))
            return (REFUSED, told, str(error)) if named else (TRACEBACK, told, f"{UNNAMED}: {error}")
        except Exception:
            return TRACEBACK, told, traceback.format_exc()
        return ANSWERED, told, ""


USER = User(
    7,
    np.array([10, 13, 40, 11]),
    {"country": ("x",), "search": ("some words",), "clock": np.zeros(2, np.float32)},
)


def ask(runner: Runner) -> None:
    """Every call, with what the schema has. A query that does not fit is the query's fault; any other error is not."""
    for query in queries(runner):
        try:
            prepared = runner.prepare(query)
        except (InvalidQuery, UnknownName):
            continue
        found = runner.run([prepared, prepared])[0]
        if len(set(list(found.item_ids))) != len(found.item_ids):
            raise AssertionError("an item was found twice")
    (embedded,) = runner.embed([runner.prepare_embed(EmbedQuery("shop", (USER, User())))])
    for filter_ in filters(runner):
        vectors = tuple(np.ones_like(embedded.vectors[0, :1])) + tuple(np.zeros_like(embedded.vectors[0, :1]))
        runner.search([runner.prepare_search(SearchQuery("shop", 20, vectors, filter_))])
    runner.score([runner.prepare_score(ScoreQuery("shop", USER, np.array([10, 13, 16, 700, 11])))])


def filters(runner: Runner) -> Iterator[Expression | None]:
    """By what each field allows, alone and together."""
    each: list[Expression] = []
    for f in runner.schema.filterable:
        each.append(Exists(f.name))
        if f.kind.holds_strings:
            each.append(Match(f.name, strings=("l1", "t3", "t40", "t77", "t81")))
        else:
            each.append(Match(f.name, ints=(0, 1, -2, 31, 50)))
        if f.kind.ordered:
            each.append(Range(f.name, 3.0, 80.0, inclusive=True))
    yield None
    yield from each
    yield from (Not(filter_) for filter_ in each)
    yield AtLeast(2, tuple(each))
    yield All((AnyOf(tuple(each[::2])), Not(All(tuple(each[1::2])))))


def queries(runner: Runner) -> Iterator[Query]:
    fields = tuple(f.name for f in runner.schema.fields)
    caps: list[MaxPerValue | None] = [None, *(MaxPerValue(f.name, 1) for f in runner.schema.filterable)]
    for place, filter_ in enumerate(filters(runner)):
        yield Query(
            "shop",
            (1, 50, 10_000)[place % 3],
            history=USER.history if place % 2 else np.empty(0, np.int64),
            features=USER.features,
            filter=filter_,
            excluded_ids=np.array([10, 19, 22]),
            task_weights={"like": 1.5} if place % 4 == 1 else {},
            value_formula=("", "recent", "similarity")[place % 3],
            max_per_value=caps[place % len(caps)],
            fields=fields,
            explain=place % 5 != 0,
        )


def work(bases: tuple[Path, Path]) -> None:
    """Numbers from standard input; an outcome a line."""
    torch.set_num_threads(1)
    # An address sanitizer reserves more than any machine has.
    if "asan" not in os.environ.get("LD_PRELOAD", ""):
        resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        print(json.dumps(outcome(bases, int(line))), file=answers, flush=True)


@dataclass
class Run:
    """Processes that take numbers from one queue."""

    bases: tuple[Path, Path]
    timeout_s: float = TIMEOUT_S
    counts: Counter[str] = field(default_factory=Counter)
    # What was wrong, what was said, by number: of all but those that were refused or answered.
    failures: dict[int, tuple[str, str, str]] = field(default_factory=dict)

    def run(self, numbers: Sequence[int], processes: int) -> None:
        left: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        for number in (*numbers, *[None] * processes):
            left.put(number)
        threads = [threading.Thread(target=self._take, args=(left,)) for _ in range(processes)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _take(self, left: queue.SimpleQueue[int | None]) -> None:
        number = left.get()
        while number is not None:
            with tempfile.TemporaryFile("w+") as errors, self._start(errors) as process:
                what = ANSWERED
                while number is not None and what not in (CRASHED, HUNG):
                    what, told, said = self._ask(process, number, errors)
                    self.counts[what] += 1
                    if what not in (REFUSED, ANSWERED):
                        self.failures[number] = what, told, said
                    number = left.get()

    def _ask(self, process: subprocess.Popen[str], number: int, errors: IO[str]) -> tuple[str, str, str]:
        assert process.stdin is not None
        assert process.stdout is not None
        hung = threading.Event()

        def end() -> None:
            hung.set()
            process.kill()

        timer = threading.Timer(self.timeout_s, end)
        timer.start()
        process.stdin.write(f"{number}\n")
        process.stdin.flush()
        line = process.stdout.readline()
        timer.cancel()
        if line:
            what, told, said = json.loads(line)
            return what, told, said
        status = process.wait()
        errors.seek(0)
        return HUNG if hung.is_set() else CRASHED, "", f"exit status {status}\n{errors.read()[-4000:]}"

    def _start(self, errors: IO[str]) -> subprocess.Popen[str]:
        command = [sys.executable, __file__, "--work", *map(str, self.bases)]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=errors, text=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Damaged snapshots: refused or answered, never a crash.")
    parser.add_argument("--count", type=int, default=5000, metavar="N", help="snapshots (default: 5000)")
    parser.add_argument("--first", type=int, default=0, metavar="N", help="number of the first (default: 0)")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, metavar="N")
    parser.add_argument(
        "--library", type=Path, metavar="FILE", help="native kernels, such as those with sanitizers"
    )
    parser.add_argument("--only", type=int, metavar="NUMBER", help="one, in this process")
    parser.add_argument("--work", type=Path, nargs=2, metavar="DIR", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.library:
        os.environ["MESHFOLD_KERNELS_LIBRARY"] = str(args.library.resolve())
    if args.work:
        return work(tuple(args.work))
    with tempfile.TemporaryDirectory() as folder:
        bases = make_base(Path(folder))
        if args.only is not None:
            what, told, said = outcome(bases, args.only)
            return print(f"{told}\n{what}: {said}")
        run = Run(bases, SANITIZED_TIMEOUT_S if args.library else TIMEOUT_S)
        run.run(range(args.first, args.first + args.count), args.processes)
    for number, (what, told, said) in sorted(run.failures.items()):
        print(
            f"{number}: {what}: {told}\n{said}\nrepeat: python {__file__} --only {number}\n", file=sys.stderr
        )
    counts = {what: run.counts[what] for what in (REFUSED, ANSWERED, CRASHED, HUNG, TRACEBACK)}
    print(f"BENCH {json.dumps({'name': 'damaged', 'snapshots': run.counts.total(), **counts})}")
    sys.exit(1 if run.failures else 0)


if __name__ == "__main__":
    main()
