"""`meshfold adapt`: drafts, checks and explains a mapping of callers' own protocol."""

from __future__ import annotations

import argparse
from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from meshfold.commands import console
from meshfold.model.errors import InvalidConfig, InvalidQuery

if TYPE_CHECKING:
    from meshfold.compat.mapped.adapter import MappedAdapter
    from meshfold.compat.mapped.compile import Mapping
    from meshfold.compat.mapped.descriptors import Protocol

_EPILOG = """\
examples:
  meshfold adapt init --proto acme.proto > acme.toml
  meshfold adapt init --reflect 127.0.0.1:9000 --out acme.toml
  meshfold adapt check acme.toml --recording .meshfold/recorded
  meshfold adapt explain acme.toml request.json
  meshfold adapt explain acme.toml request.json --store .meshfold/store
  meshfold adapt explain acme.toml request.json --answer answer.binpb

A mapping says how requests of a protocol become queries, and how results become its answers; `meshfold serve
--mapping acme.toml` serves it. Messages in files are bytes, or protobuf's JSON in *.json.
"""
_MOST_SHOWN = 20


def add(subparsers: argparse._SubParsersAction[Any]) -> None:
    parser = subparsers.add_parser(
        "adapt",
        help="map callers' own protocol",
        description="Map callers' own unary protobuf protocol.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", dest="action", required=True)
    init = actions.add_parser("init", help="write a first mapping by names and types")
    source = init.add_mutually_exclusive_group(required=True)
    source.add_argument("--reflect", metavar="HOST:PORT", help="a running server that answers reflection")
    source.add_argument("--proto", type=Path, nargs="+", metavar="FILE", help=".proto files")
    source.add_argument(
        "--descriptors", type=Path, metavar="FILE", help="a FileDescriptorSet, as protoc writes it"
    )
    init.add_argument(
        "--out", type=Path, metavar="FILE", help="a new file; standard output where it is left out"
    )
    init.set_defaults(run=_init)
    check = actions.add_parser("check", help="load a mapping and try it on requests")
    check.add_argument("mapping", type=Path, metavar="MAPPING")
    check.add_argument(
        "--recording",
        type=Path,
        metavar="PLACE",
        help="a recording, a file of one request, or a folder of them",
    )
    check.add_argument(
        "--method", metavar="NAME", help="whose requests they are, where a mapping has several"
    )
    check.set_defaults(run=_check)
    explain = actions.add_parser(
        "explain", help="show one request as the query that it becomes, and its answer"
    )
    explain.add_argument("mapping", type=Path, metavar="MAPPING")
    explain.add_argument("request", type=Path, metavar="REQUEST", help="a file of one request")
    answer = explain.add_mutually_exclusive_group()
    answer.add_argument("--answer", type=Path, metavar="FILE", help="an answer, as comparisons read it")
    answer.add_argument("--store", type=Path, metavar="S", help="whose newest snapshot answers the request")
    explain.add_argument("--method", metavar="NAME", help="whose request it is, where a mapping has several")
    explain.set_defaults(run=partial(_explain))


def _init(args: argparse.Namespace) -> int:
    from meshfold.compat.mapped.errors import Misfit
    from meshfold.compat.mapped.first_mapping import first_mapping

    try:
        protocol, source = _protocol(args)
    except Misfit as error:
        raise InvalidConfig(str(error)) from None
    text = first_mapping(protocol, source)
    if args.out is None:
        console.print(text.rstrip("\n"))
        return 0
    try:
        with args.out.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise InvalidConfig(f"{args.out} is there already; name a new file") from None
    except OSError as error:
        raise InvalidConfig(f"{args.out} cannot be written: {error.strerror}") from None
    console.print(f"{args.out}: decide what is marked undecided, then `meshfold adapt check {args.out}`")
    return 0


def _protocol(args: argparse.Namespace) -> tuple[Protocol, str]:
    """The protocol, and the line of a mapping that names its source."""
    from meshfold.compat.mapped.descriptors import from_descriptor_set, from_protos, from_reflection

    if args.reflect:
        return from_reflection(args.reflect), f'reflect = "{args.reflect}"'
    # File names in a mapping are relative to its folder.
    folder = (args.out.parent if args.out else Path()).resolve()
    if args.proto:
        names = ", ".join(f'"{_from(folder, file)}"' for file in args.proto)
        return from_protos(args.proto), f"proto = [{names}]"
    return from_descriptor_set(args.descriptors), f'descriptors = "{_from(folder, args.descriptors)}"'


def _from(folder: Path, file: Path) -> Path:
    whole = file.resolve()
    return whole.relative_to(folder) if whole.is_relative_to(folder) else whole


def _check(args: argparse.Namespace) -> int:
    from meshfold.compat.mapped.compile import load

    mapping = load(args.mapping)
    for fixed in mapping.fixed:
        console.print(f"{fixed.METHOD}: a fixed answer")
    for adapter in mapping.adapters:
        console.print(
            f"{adapter.METHOD}: fits {adapter.descriptor.input_type.full_name} and "
            f"{adapter.descriptor.output_type.full_name}"
        )
        if adapter.traffic is not None and not adapter.traffic.can_compare:
            console.print(f"{adapter.METHOD}: no field has item_id, so that answers are not compared")
    if args.recording is None:
        return 0
    return _try(_adapter(mapping, args.method), args.recording)


def _try(adapter: MappedAdapter, place: Path) -> int:
    """Decodes requests and counts the fields that the mapping ignores. Returns 1 where any is refused or there is
    none."""
    from meshfold.compat.mapped.requests import ignored, requests_of
    from meshfold.model.limits import Limits, check

    limits = Limits()
    left_out: Counter[str] = Counter()
    refused: list[str] = []
    tried = pages = 0
    for sent in requests_of(place, adapter):
        if adapter.traffic is not None and adapter.traffic.is_later_page(sent.message, sent.metadata):
            pages += 1
            continue
        tried += 1
        try:
            for part in adapter.parts(sent.message, sent.metadata):
                size = adapter.measure(part, limits)
                query = adapter.decode(part)
                check(query, limits)
                if _shown(query) != _shown(adapter.decode(part)) or size.surface != query.surface:
                    refused.append(f"{sent.where}: is decoded in two ways")
            left_out.update({*ignored(adapter, adapter.request.parse(sent.message)), *sent.left_out})
        except InvalidQuery as error:
            refused.append(f"{sent.where}: {adapter.request.path(error.path)}: {error.message}")
    for line in refused[:_MOST_SHOWN]:
        console.print(f"refused: {line}")
    for path, count in left_out.most_common(_MOST_SHOWN):
        console.print(f"ignored: {path}, set by {count} of {tried} requests")
    if pages:
        console.print(f"later pages, whose tokens are of the side that gave them: {pages}, not tried")
    console.print(f"{tried} requests, {len(refused)} refused, {len(left_out)} fields ignored")
    return 1 if refused or not tried else 0


def _explain(args: argparse.Namespace) -> int:
    from meshfold.compat.mapped.compile import load
    from meshfold.compat.mapped.explained import answer_by, answer_in
    from meshfold.compat.mapped.requests import ignored, requests_of
    from meshfold.model.limits import Limits

    adapter = _adapter(load(args.mapping), args.method)
    for sent in requests_of(args.request, adapter):
        for part in adapter.parts(sent.message, sent.metadata):
            adapter.measure(part, Limits())
            for name, value in _shown(adapter.decode(part)).items():
                console.print(f"{name}: {value}")
        for path in {**ignored(adapter, adapter.request.parse(sent.message)), **dict.fromkeys(sent.left_out)}:
            console.print(f"ignored: {path}")
        if args.answer is not None:
            _show_answer(answer_in(args.answer, adapter), adapter)
        elif args.store is not None:
            _show_answer(answer_by(args.store, sent, adapter), adapter)
    return 0


def _show_answer(message: bytes, adapter: MappedAdapter) -> None:
    """Shows an answer as its caller gets it, and the items that a comparison reads from it."""
    from meshfold.compat.mapped.explained import as_json, parts_of

    console.print(f"answer: {as_json(message, adapter)}")
    for part in parts_of(message, adapter):
        console.print(f"item_ids: {_listed(part.item_ids)}")
        console.print(f"scores: {_listed(part.scores) or '(the answer tells none)'}")
        if part.version:
            console.print(f"version: {part.version}")


def _adapter(mapping: Mapping, method: str | None) -> MappedAdapter:
    """The method of that name, or the only one. Raises InvalidConfig."""
    from meshfold.model.schema import nearest

    known = {adapter.METHOD: adapter for adapter in mapping.adapters}
    if method is None and len(known) == 1:
        return next(iter(known.values()))
    if method is None:
        raise InvalidConfig(
            f"{mapping.file} maps {len(known)} methods; name one with --method: {', '.join(known)}"
        )
    if method not in known:
        raise InvalidConfig(f"{mapping.file} maps no method {method!r}{nearest(method, known)}")
    return known[method]


def _shown(query: Any) -> dict[str, str]:
    """The non-empty parts of a query as text. Personal parts are included, since the operator may see them."""
    from meshfold.model.filter.text import format_filter

    shown = {
        "surface": query.surface or "(the only one)",
        "max_results": str(query.max_results),
        "request_id": query.request_id,
        "user_id": str(query.user_id) if query.user_id else "",
        "history": _listed(query.history),
        "excluded_ids": _listed(query.excluded_ids),
        "filter": format_filter(query.filter) if query.filter is not None else "",
        "value_formula": query.value_formula,
        "task_weights": ", ".join(f"{task} {weight:g}" for task, weight in query.task_weights.items()),
        "fields": ", ".join(query.fields),
    }
    shown |= {f"features.{name}": _listed(values) for name, values in query.features.items()}
    return {name: text for name, text in shown.items() if text}


def _listed(values: Any) -> str:
    each = values.tolist() if isinstance(values, np.ndarray) else list(values)
    more = f", ... ({len(each)} in all)" if len(each) > _MOST_SHOWN else ""
    return ", ".join(map(str, each[:_MOST_SHOWN])) + more
