"""`meshfold query`: sends a query to a running server and shows the answer."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol

from meshfold.commands import console
from meshfold.commands import query_words as words
from meshfold.commands.query_answer import notes_of, show, to_json
from meshfold.model.errors import InvalidQuery
from meshfold.model.types import Candidates, Query, no_ids
from meshfold.service.config import ServerConfig
from meshfold.service.handlers import ALL_FIELDS

_EPILOG = """\
examples:
  meshfold query --history 1,2,3 --filter '"Comedy" in genres && year >= 1990'
  meshfold query --history 1,2,3 --weights like=0.7 watch=0.3 --max-per author=2 --explain
  meshfold query --user AE22 --history vid_12,vid_7 --feature hour=8 --feature country=de
  meshfold query --vector user.npy --fields title,year --max-results 100 --json

Ids are integers where all look like integers, else strings; in double quotes they are strings: --history '"12","7"'.
A feature that is given again grows to a list. Its values are integers, floats or strings as they look; name:floats=8
names the kind, and in double quotes they are strings.

In front of a mesh the server is asked by mesh.v1, as its callers ask, and the answer says who gave it: the mesh or the
model. mesh.v1 brings no fields of items. --protocol meshfold.v1 asks the model alone.
"""
_PROTOCOLS = ("auto", "mesh.v1", "meshfold.v1")


class Reply(Protocol):
    """An answer. answered_by: "mesh", "model", or "" where unknown. fallback: status of the first side, where it
    failed. versions: of a mesh's parts by name."""

    @property
    def candidates(self) -> Candidates: ...

    @property
    def protocol(self) -> str: ...

    @property
    def answered_by(self) -> str: ...

    @property
    def fallback(self) -> str: ...

    @property
    def versions(self) -> Mapping[str, str]: ...


class Client(Protocol):
    """A client of a server."""

    def ask(self, query: Query, timeout_s: float, protocol: str) -> Reply: ...

    def close(self) -> None: ...


def add(subparsers: argparse._SubParsersAction[Any], connect: Callable[[str], Client]) -> None:
    """Adds the command. connect: address -> client."""
    parser = subparsers.add_parser(
        "query",
        help="ask a running server and show the answer",
        description="Ask a running server and show the answer.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--address", default=ServerConfig.address, help="of the server (default: %(default)s)"
    )
    parser.add_argument(
        "--timeout", type=words.seconds, default=10.0, metavar="SECONDS", help="default: %(default)g"
    )
    parser.add_argument("--surface", default="", help="may be left out where the server has one")
    parser.add_argument(
        "--protocol",
        choices=_PROTOCOLS,
        default="auto",
        help="auto: mesh.v1 in front of a mesh, else meshfold.v1 (default: auto)",
    )
    user = parser.add_argument_group("user")
    user.add_argument(
        "--history", type=words.ids, default=no_ids(), metavar="ID,...", help="items met, oldest first"
    )
    user.add_argument(
        "--user", type=words.user_id, default=0, metavar="ID", help="id of the user, a number or a string"
    )
    user.add_argument(
        "--feature",
        action="append",
        type=words.feature,
        default=[],
        metavar="NAME=VALUE",
        help="of the request, such as hour=8; repeat it for more features or values",
    )
    user.add_argument(
        "--vector",
        nargs="+",
        type=words.vector,
        default=[],
        metavar="FILE",
        help="query vector as .npy or text, or one for each task in the order of the surface's tasks",
    )
    what = parser.add_argument_group("what")
    what.add_argument("--filter", metavar="CEL", help="such as 'year >= 1990 && !(\"Horror\" in genres)'")
    what.add_argument(
        "--exclude", type=words.ids, default=no_ids(), metavar="ID,...", help="items to leave out"
    )
    what.add_argument("--max-results", type=int, default=20, metavar="N", help="default: %(default)s")
    what.add_argument(
        "--max-per",
        type=words.max_per,
        metavar="FIELD=N",
        help="most results that share a value of the field",
    )
    what.add_argument("--weights", nargs="+", type=words.weight, default=[], metavar="TASK=WEIGHT")
    what.add_argument("--formula", default="", help="name of a value formula of the surface")
    shown = parser.add_argument_group("what to show")
    shown.add_argument(
        "--fields", type=words.names, default=(ALL_FIELDS,), metavar="NAME,...", help="default: every field"
    )
    shown.add_argument("--explain", action="store_true", help="show how the answer came about")
    shown.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.set_defaults(run=partial(_run, parser=parser, connect=connect))


def _run(args: argparse.Namespace, parser: argparse.ArgumentParser, connect: Callable[[str], Client]) -> int:
    try:
        query = _query(args)
    except argparse.ArgumentTypeError as error:
        parser.error(f"argument --feature: {error}")
    client = connect(args.address)
    try:
        with console.progress() as progress:
            progress(f"waiting for {args.address}", 0, 1)
            reply = client.ask(query, args.timeout, args.protocol)
            progress(f"waiting for {args.address}", 1, 1)
    except InvalidQuery as error:
        raise InvalidQuery(error.path, error.message + _remedy(error, query)) from None
    finally:
        client.close()
    if args.json:
        console.print(json.dumps(to_json(reply, args.explain), ensure_ascii=False, indent=1))
        return 0
    show(reply, args.explain)
    for note in notes_of(reply.candidates.explain, query):
        console.print(note)
    return 0


def _remedy(error: InvalidQuery, query: Query) -> str:
    """Advice for the command line that adds to the server's error."""
    if error.path in ("history", "excluded_ids") and "surface are strings" in error.message:
        return '; in double quotes they are strings: \'"12","7"\''
    if error.path.startswith('features["') and "is declared as" in error.message:
        name = error.path.split('"')[1]
        return f"; --feature {name}:KIND=VALUE names the kind: ints, floats or strings"
    if error.path in ("max_per_value", "fields") and "mesh.v1" in error.message:
        return ": --protocol meshfold.v1"
    return ""


def _query(args: argparse.Namespace) -> Query:
    """The query of the command line. Raises ArgumentTypeError where a feature has values of several kinds."""
    expression = None
    if args.filter is not None:
        from meshfold.model.filter.text import parse_filter

        expression = parse_filter(args.filter)
    return Query(
        surface=args.surface,
        max_results=args.max_results,
        user_id=args.user,
        history=args.history,
        features=words.all_features(args.feature, args.vector),
        filter=expression,
        excluded_ids=args.exclude,
        task_weights=dict(args.weights),
        value_formula=args.formula,
        max_per_value=args.max_per,
        fields=args.fields,
        # Always requested, since notes on unknown parts of the query are made from it.
        explain=True,
    )
