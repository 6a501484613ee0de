"""`meshfold gate`: whether the evidence is enough to let the model answer in the mesh's place."""

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
R is a recording (`meshfold record`), a folder or file of pairs, or the folder of a `meshfold shadow compare`. If no
pair has an answer of the model, the newest snapshots of S answer the requests. With --audit they replace the model's
recorded answers. With --against, snapshots of S answer as the mesh and snapshots of NEWER as the model.

FILE has a table [gate] with the settings above, and these:

  [gate]
  accepted_causes = ["user_vector"]  # the mesh's own: user_vector, scores, model_catalog, cap
  [gate.measures]                  # further measures, each with its margin
  rbo = 0.02
  [gate.exposure_margins]          # for a field, or for one value
  "genres=Drama" = 0.1
  [[gate.queries]]                 # numbers from a Prometheus server
  name = "cpu"
  url = "http://prometheus:9090"
  query = "sum(rate(process_cpu_seconds_total[5m]))"
  at_most = 8

examples:
  meshfold gate --recording .meshfold/pairs --store .meshfold/store
  meshfold gate --recording .meshfold/recorded --store .meshfold/store --against candidate --margin 0.3

exit status: 0 yes, 1 no, 2 not enough evidence or unreadable input. With several surfaces: 1 if any is stopped, 0 if
all pass.
"""


def add(subparsers: argparse._SubParsersAction[Any]) -> None:
    parser = subparsers.add_parser(
        "gate",
        help="say whether there is evidence enough to let the model answer in the mesh's place",
        description="Say whether pairs of answers are evidence enough to replace the mesh by the model, or an older "
        "snapshot by a newer one: yes, no, or not enough yet, with the reasons.",
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
        help="store of the snapshots that the model answers with",
    )
    parser.add_argument(
        "--against",
        type=Path,
        metavar="NEWER",
        help="store of newer snapshots, to be judged against those of S",
    )
    parser.add_argument(
        "--audit", action="store_true", help="answer the requests with the newest snapshots of S"
    )
    parser.add_argument("--surface", default="", metavar="NAME", help="the only surface to judge")
    parser.add_argument(
        "--attribute",
        type=int,
        default=2000,
        metavar="N",
        help="approximate number of pairs of a surface to find causes for (default: %(default)s)",
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
        args.parser.error("--against answers for both sides already: leave --audit out")
    if args.attribute < 0:
        args.parser.error(f"argument --attribute: at least 0 expected, got {args.attribute}")
    try:
        return _judged(args)
    except MeshfoldError as error:
        # Unreadable input is neither yes nor no: it is not enough evidence.
        print(f"meshfold: {error}", file=sys.stderr)
        return _NOT_ENOUGH


def _judged(args: argparse.Namespace) -> int:
    # Imported late: these modules import torch.
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
            evidence.notes.append("Latencies are not judged: no server answered.")
        snapshots = StoreSnapshots(args.against or args.store, progress)
        verdicts = judge(evidence, settings, snapshots, MeshFacts(), args.attribute, skipped, progress)
    notes = [*evidence.notes, *snapshots.notes, *skipped.notes()]
    _show(verdicts, notes, args.json)
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
    """Settings of the file, overridden by flags. Raises InvalidConfig."""
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


def _show(verdicts: tuple[Verdict, ...], notes: list[str], as_json: bool) -> None:
    if as_json:
        document = {"verdicts": [verdict.to_json() for verdict in verdicts], "notes": notes}
        console.print(json.dumps(document, ensure_ascii=False, allow_nan=False, indent=1))
        return
    for verdict in verdicts:
        rows = [(reason.name, _word(reason.decision), reason.sentence) for reason in verdict.reasons]
        of = f"{verdict.pairs:,} pairs of {verdict.users:,} users, {verdict.noise_pairs:,} asked twice"
        title = f"{verdict.surface or 'the surface'}: {_word(verdict.decision)} ({of})"
        console.table(("question", "answer", "reason"), rows, title)
        console.print()
    for note in notes:
        console.print(note)


def _word(decision: str) -> str:
    return {"yes": "yes", "no": "NO", "not_enough": "not enough"}[decision]
