"""`meshfold shadow compare`: compares pairs of answers and writes a folder with the figures."""

from __future__ import annotations

import argparse
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meshfold.commands import console
from meshfold.commands.shadow_words import STATUS, add_mapping, add_settings, add_store, settings_of, tell
from meshfold.model.errors import NotDurable
from meshfold.model.progress import Progress

if TYPE_CHECKING:
    from meshfold.compat.shadow.pairs import Pair
    from meshfold.compat.shadow.skipped import Skipped
    from meshfold.compat.shadow.sources import Sources

_SIDES = ("mesh", "model", "again")
_EPILOG = f"""\
INPUT is a recording (`meshfold record`), a folder that a server compares into, or a file or folder of Parquet or JSON
lines that anything wrote. There a row is a pair:

  request_id, mesh_item_ids, model_item_ids
  and where known mesh_ and model_ with scores, status, latency_ms, version; again_ with the same, for the mesh asked a
  second time; surface, user_key, unix_ms, max_results, filter, request, is_redacted, served_by, slices

or an answer, joined by request_id:

  request_id, side (mesh, model or again), item_ids
  and where known scores, status, latency_ms, version and what a pair has besides

With --mesh, --model and --again a file holds one side's answers, and its rows need no side. Beside a recording they are
answers to its requests, as another system logged them: a tap. Its request ids may be plain, or hashes under --key.

R is a new folder: pairs/*.parquet, differences.parquet and comparison.json, for `meshfold shadow report R`.

examples:
  meshfold shadow compare .meshfold/recorded --store .meshfold/store --out compared
  meshfold shadow compare .meshfold/recorded --store .meshfold/store --audit --out audited
  meshfold shadow compare --mesh old.parquet --model new.parquet --out compared
  meshfold shadow compare .meshfold/recorded --mesh mesh-log.jsonl --out tapped
  meshfold shadow compare .meshfold/recorded --mapping acme.toml --store .meshfold/store --out compared

{STATUS}"""


def add(actions: argparse._SubParsersAction[Any]) -> None:
    parser = actions.add_parser(
        "compare",
        help="compare pairs of answers",
        usage="%(prog)s [INPUT ...] [--mesh FILE] [--model FILE] [--again FILE] --out R [options]",
        description="Compare pairs of answers, and keep the figures with the pairs.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "inputs", nargs="*", type=Path, metavar="INPUT", help="a recording, or files of pairs or answers"
    )
    for side in _SIDES:
        parser.add_argument(
            f"--{side}",
            action="append",
            default=[],
            type=Path,
            metavar="FILE",
            help=f"a file or folder of answers that are all of the side {side}; may be repeated",
        )
    parser.add_argument("--out", type=Path, required=True, metavar="R", help="a new folder for the result")
    parser.add_argument("--surface", default="", metavar="NAME", help="the only surface to compare")
    add_store(parser)
    parser.add_argument(
        "--audit",
        action="store_true",
        help="have the store's newest snapshots answer the requests, in place of recorded answers of the model",
    )
    parser.add_argument(
        "--attribute",
        type=int,
        default=1000,
        metavar="N",
        help="pairs of a surface whose causes are looked for, half of them the worst (default: %(default)s)",
    )
    for service in ("tower", "retrieval", "scoring"):
        parser.add_argument(
            f"--{service}",
            default="",
            metavar="HOST:PORT",
            help=f"the mesh's {service} service, to compare stages",
        )
    parser.add_argument(
        "--candidates",
        type=int,
        default=0,
        metavar="N",
        help="that the mesh finds and ranks (default: as the model)",
    )
    parser.add_argument(
        "--features",
        default="",
        metavar="NAMES",
        help="of users, with commas, that become slices; in recordings",
    )
    parser.add_argument("--key", default="", metavar="FILE", help="key of hashed ids (default: a random one)")
    parser.add_argument(
        "--keep-requests", action="store_true", help="keep whole requests, personal fields included"
    )
    parser.add_argument(
        "--omit",
        default="",
        metavar="NAMES",
        help="left out of R: filter, request, user_key, slices, slices.NAME",
    )
    add_mapping(parser)
    add_settings(parser)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a summary")
    parser.set_defaults(run=_run, parser=parser)


def _run(args: argparse.Namespace) -> int:
    from meshfold.compat.shadow.comparison_folder import CompareInputs, check_new, write_comparison
    from meshfold.compat.shadow.pair_redaction import PairRedaction, names_in
    from meshfold.compat.shadow.skipped import Skipped

    _check(args)
    sources = _sources(args)
    given = CompareInputs(
        sources.names,
        settings_of(args),
        PairRedaction(sources.keyed, args.keep_requests, names_in(args.omit)),
    )
    check_new(args.out)
    skipped = Skipped()
    with ExitStack() as stack, console.progress() as progress:
        # An audit keeps whole requests in a temporary folder, which must be deleted at a signal, too.
        stack.enter_context(ended_by_signals())
        read: Callable[[Skipped], Iterator[Pair]] = sources.pairs
        if args.audit:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="meshfold-")))
            read = _audited(args, sources, skipped, folder, progress)
        if args.store is not None:
            # Imported here, since they import torch.
            from meshfold.compat.shadow.attribution.mesh_facts import MeshFacts
            from meshfold.compat.shadow.store_snapshots import StoreSnapshots

            snapshots = StoreSnapshots(args.store, progress)
            facts = MeshFacts(args.tower, args.retrieval, args.scoring, args.candidates)
            differences = snapshots.differences(lambda: read(Skipped()), args.attribute, facts)
            given = given.beside(snapshots.catalog, differences, snapshots.notes, snapshots.counted)
        comparison = write_comparison(args.out, read(skipped), given, skipped, progress)
    status = tell(comparison, args.json, skipped)
    if not args.json:
        console.print(
            f"\nkept in {args.out}; `meshfold shadow report {args.out} --html report.html` writes the report"
        )
    return status


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Ends the process by an exit at SIGTERM and SIGHUP, so that temporary files are deleted."""

    def end(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    usual: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        usual.update({number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)})
    try:
        yield
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)


def _check(args: argparse.Namespace) -> None:
    if not (args.inputs or args.mesh or args.model or args.again):
        args.parser.error("an INPUT is expected, or files with --mesh and --model")
    if args.audit and args.store is None:
        args.parser.error("--audit asks the snapshots of a store: name it with --store")
    for name in ("attribute", "candidates"):
        if getattr(args, name) < 0:
            args.parser.error(f"argument --{name}: at least 0 expected, got {getattr(args, name)}")


def _sources(args: argparse.Namespace) -> Sources:
    from meshfold.compat.key import keyed_hash
    from meshfold.compat.mapped.traffics import traffics_of
    from meshfold.compat.shadow.pair_redaction import names_in
    from meshfold.compat.shadow.pairs import PairSide
    from meshfold.compat.shadow.sources import Sources

    return Sources(
        places=args.inputs,
        sides={PairSide(side): getattr(args, side) for side in _SIDES if getattr(args, side)},
        surface=args.surface,
        keyed=keyed_hash(args.key),
        features=names_in(args.features),
        traffics=traffics_of(args.mapping),
    )


def _audited(
    args: argparse.Namespace, sources: Sources, skipped: Skipped, folder: Path, progress: Progress
) -> Callable[[Skipped], Iterator[Pair]]:
    """Reads the pairs with the answers of the store's snapshots, through a temporary folder of whole pairs."""
    from meshfold.compat.shadow.audit import SnapshotAnswers, audit
    from meshfold.compat.shadow.pair_files import PairLimits, PairWriter, read_pairs

    writer = PairWriter(folder / "pairs", PairLimits(bytes=1 << 62, age_s=float("inf")), lambda pair: pair)
    answers = SnapshotAnswers(args.store, args.surface, progress=progress)
    for pair in audit(sources.pairs(skipped), answers, skipped, progress):
        writer.append(pair)
    writer.close()
    if writer.dropped:
        raise NotDurable(
            f"{writer.dropped} pairs could not be written to {folder}; make room there or set TMPDIR"
        )
    return lambda again: read_pairs(folder / "pairs", skipped=again) if writer.written else iter(())
