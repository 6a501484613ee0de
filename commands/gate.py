"""`meshfold gate`: whether the evidence lets the model answer in the mesh's place, or a snapshot in another's."""

from __future__ import annotations

import argparse
import json
import sys
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meshfold.commands import console
from meshfold.commands.shadow_compare import ended_by_signals
from meshfold.model.errors import InvalidConfig, MeshfoldError
from meshfold.model.progress import Progress

if TYPE_CHECKING:
    from meshfold.compat.gate.evidence import Evidence
    from meshfold.compat.gate.settings import GateSettings
    from meshfold.compat.gate.verdict import Verdict
    from meshfold.compat.shadow.skipped import Skipped

_YES, _NO, _NOT_ENOUGH = 0, 1, 2
_MOST_BYTES = 1 << 20
_EPILOG = """\
R is a recording (`meshfold record`), a folder or file of pairs, or what `meshfold shadow compare` made. Where no pair
has an answer of the model, the newest snapshots of S answer the requests; with --audit they answer in place of the
model's recorded answers. With --against, those of S answer on the mesh's side and those of NEWER on the model's.

FILE has a table [gate] with the settings below, and for more:

  [gate]
  accepted_causes = ["user_vector"]  # that you know to be the mesh's: user_vector, scores, model_catalog, cap
  [gate.measures]                  # further measures, each with its margin
  rbo = 0.02
  [gate.exposure_margins]          # of a field, or of one value
  "genres=Drama" = 0.1
  [[gate.queries]]                 # numbers of a Prometheus server
  name = "cpu"
  url = "http://prometheus:9090"
  query = "sum(rate(process_cpu_seconds_total[5m]))"
  at_most = 8

examples:
  meshfold gate --recording .meshfold/pairs --store .meshfold/store
  meshfold gate --recording .meshfold/recorded --store .meshfold/store --against candidate --margin 0.3

exit status: 0 yes, 1 no, 2 not enough evidence, also where something cannot be read. Of several surfaces, 1 where any
is stopped, 0 where all pass.
"""


def add(subparsers: argparse._SubParsersAction[Any]) -> None:
    parser = subparsers.add_parser(
        "gate",
        help="say whether the evidence lets the model answer in the mesh's place",
        description="Say whether pairs of answers are evidence enough to let the model answer in the mesh's place, or "
        "a newer snapshot in an older one's: yes, no, or not enough yet, and why.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--recording", type=Path, required=True, metavar="R", help="a recording, pairs, or a comparison"
    )
    parser.add_argument(
        "--store",
        type=Path,
        required=True,
        metavar="S",
        help="with the snapshots that the model answers with",
    )
    parser.add_argument(
        "--against",
        type=Path,
        metavar="NEWER",
        help="another store, whose newest snapshots are judged by those of S",
    )
    parser.add_argument(
        "--audit", action="store_true", help="have the newest snapshots of S answer the requests"
    )
    parser.add_argument("--surface", default="", metavar="NAME", help="the only surface to judge")
    parser.add_argument(
        "--attribute",
        type=int,
        default=2000,
        metavar="N",
        help="pairs of a surface whose causes are looked for, about (default: %(default)s)",
    )
    parser.add_argument("--settings", type=Path, metavar="FILE", help="a TOML file with a table [gate]")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    _add_flags(parser)
    parser.set_defaults(run=_run, parser=parser)


def _add_flags(parser: argparse.ArgumentParser) -> None:
    from meshfold.compat.gate.settings import flags

    group = parser.add_argument_group("settings")
    for each in flags():
        group.add_argument(
            each.flag,
            dest=each.name,
            type=each.kind,
            metavar="N" if each.kind is int else "NUMBER",
            help=f"{each.meaning} (default: {each.default:g})",
        )


def _run(args: argparse.Namespace) -> int:
    if args.against is not None and args.audit:
        args.parser.error("--against has snapshots answer on both sides already: leave --audit out")
    if args.attribute < 0:
        args.parser.error(f"argument --attribute: at least 0 expected, got {args.attribute}")
    try:
        return _judged(args)
    except MeshfoldError as error:
        # What cannot be read is no evidence: neither yes nor no.
        print(f"meshfold: {error}", file=sys.stderr)
        return _NOT_ENOUGH


def _judged(args: argparse.Namespace) -> int:
    # Imported here, since they bring torch.
    from meshfold.compat.gate.evidence import Evidence
    from meshfold.compat.gate.judge import judge
    from meshfold.compat.shadow.attribution.mesh_facts import MeshFacts
    from meshfold.compat.shadow.skipped import Skipped
    from meshfold.compat.shadow.store_snapshots import StoreSnapshots

    settings = _settings(args)
    skipped = Skipped()
    with (
        ended_by_signals(),
        Evidence.of(args.recording, args.surface) as evidence,
        console.progress() as progress,
    ):
        _answer(args, evidence, skipped, progress)
        if not evidence.is_timed and settings.asks_p99:
            settings = replace(settings, p99_stop_ms=float("inf"))
            evidence.notes.append("Latencies are not asked about, as no server answered.")
        snapshots = StoreSnapshots(args.against or args.store, progress)
        verdicts = judge(evidence, settings, snapshots, MeshFacts(), args.attribute, skipped, progress)
    notes = [*evidence.notes, *snapshots.notes, *skipped.notes()]
    _tell(verdicts, notes, args.json)
    decisions = {verdict.decision.value for verdict in verdicts}
    if "no" in decisions:
        return _NO
    return _YES if decisions == {"yes"} else _NOT_ENOUGH


def _answer(args: argparse.Namespace, evidence: Evidence, skipped: Skipped, progress: Progress) -> None:
    if args.against is not None:
        evidence.answer_by_both(args.store, args.against, skipped, progress)
    elif args.audit or not evidence.has_model():
        evidence.answer_by(args.store, skipped, progress)


def _settings(args: argparse.Namespace) -> GateSettings:
    """Of the file, then of the flags. Raises InvalidConfig."""
    from meshfold.compat.gate.settings import flags, settings_of

    table: dict[str, Any] = {}
    if args.settings is not None:
        table = _table(args.settings)
    given = {each.name: getattr(args, each.name) for each in flags() if getattr(args, each.name) is not None}
    return settings_of({**table, **given}, args.settings or "the command line")


def _table(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as opened:
            content = opened.read(_MOST_BYTES + 1)
        if len(content) > _MOST_BYTES:
            raise InvalidConfig(f"{file} has more than {_MOST_BYTES} bytes; expected settings in TOML")
        table = tomllib.loads(content.decode("utf-8-sig"))
    except OSError as error:
        raise InvalidConfig(f"the settings file {file} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidConfig(f"{file} is not a TOML file: {error}") from None
    gate = table.get("gate")
    if not isinstance(gate, dict):
        raise InvalidConfig(f"{file} has no table [gate]; put the settings of the gate below such a line")
    return gate


def _tell(verdicts: tuple[Verdict, ...], notes: list[str], as_json: bool) -> None:
    if as_json:
        document = {"verdicts": [verdict.to_json() for verdict in verdicts], "notes": notes}
        console.print(json.dumps(document, ensure_ascii=False, allow_nan=False, indent=1))
        return
    for verdict in verdicts:
        rows = [(reason.name, _word(reason.decision), reason.sentence) for reason in verdict.reasons]
        of = f"{verdict.pairs:,} pairs of {verdict.users:,} users, {verdict.noise_pairs:,} asked twice"
        title = f"{verdict.surface or 'the surface'}: {_word(verdict.decision)} ({of})"
        console.table(("asked", "says", "because"), rows, title)
        console.print()
    for note in notes:
        console.print(note)


def _word(decision: str) -> str:
    return {"yes": "yes", "no": "NO", "not_enough": "not enough"}[decision]
