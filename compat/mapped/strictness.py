"""Refuses requests that set fields which the mapping does not read, where the mapping demands it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.unknown_fields import UnknownFieldSet

from meshfold.compat.mapped.mapping_file import Part
from meshfold.compat.mapped.paths import Step
from meshfold.compat.mapped.values import Metadata, Scope, is_constant, value_of
from meshfold.compat.wire_values import is_map, is_repeated
from meshfold.model.errors import InvalidQuery

# Checks a request. Raises InvalidQuery.
Check = Callable[[Any, Metadata], None]

_KINDS = ("string", "integer", "number", "bool")


@dataclass(eq=False)
class _Node:
    """The parts of a field that paths read. inner: its fields by full name; empty where it is read as a whole. by:
    field by which paths select its entries; None for keys of a map. known: selected values; None where paths select
    nothing."""

    inner: dict[str, _Node] = field(default_factory=dict)
    by: FieldDescriptor | None = None
    known: set[Any] | None = field(default_factory=set)
    is_whole: bool = False


def accepted(part: Part, scope: Scope) -> Check:
    """Checks that fields, given by path, are unset or have one of the allowed values. Raises InvalidMapping."""
    checks: list[tuple[Any, tuple[Any, ...]]] = []
    for text, each in part.table().items():
        named = Part(each.file, each.lines, each.key, text)
        value = value_of(named, scope, _KINDS)
        wanted = tuple(entry.raw for entry in each.entries())
        for entry in each.entries():
            if not is_constant(entry.raw, value.kind):
                raise entry.error(f"must be of kind {value.kind}, got {entry.raw!r}")
        checks.append((value, wanted))

    def check(message: Any, metadata: Metadata) -> None:
        for value, wanted in checks:
            held = value.read(message, metadata)
            if held is not None and held not in wanted:
                raise InvalidQuery(value.name, f"{_said(held)} is not served; {_listed(wanted)}")

    return check


def unread(scope: Scope) -> Check:
    """Checks that a request sets only fields that the scope's paths read. Call it when all paths are known."""
    root = _Node()
    for _, steps in scope.found:
        node = root
        for step in steps:
            node = node.inner.setdefault(step.field.full_name, _Node())
            _choose(node, step)
            if step.where is not None:
                node.inner.setdefault(step.where[0].full_name, _Node(is_whole=True))
            if step.any_type is not None:
                break
        node.is_whole = True
    tensors = scope.tensors

    def check(message: Any, _: Metadata) -> None:
        _walk(message, root.inner, "")
        for each in tensors:
            each.check(message)

    return check


def _choose(node: _Node, step: Step) -> None:
    """Records the entries of a field that a path selects."""
    if node.known is None:
        return
    if step.where is not None:
        node.by = step.where[0]
        node.known.add(step.where[1])
    elif step.key is not None:
        node.known.add(step.key)
    else:
        node.known = None


def _walk(message: Any, known: Mapping[str, _Node], prefix: str) -> None:
    for found, value in message.ListFields():
        node = known.get(found.full_name)
        here = prefix + (f"({found.full_name})" if found.is_extension else found.name)
        if node is None:
            raise InvalidQuery(here, "is not served; leave it out")
        if node.known is not None:
            _check_chosen(found, value, node, here)
        if node.is_whole or found.message_type is None:
            continue
        if is_map(found):
            # Paths omit the `value` field of a map's entry messages.
            if found.message_type.fields_by_name["value"].message_type is not None:
                for key, inner in value.items():
                    _walk(inner, node.inner, f'{here}["{key}"].')
        elif is_repeated(found):
            for place, inner in enumerate(value):
                _walk(inner, node.inner, f"{here}[{place}].")
        else:
            _walk(value, node.inner, f"{here}.")
    unknown = UnknownFieldSet(message)
    if len(unknown):
        raise InvalidQuery(
            prefix.rstrip(".") or "request",
            f"has a field {unknown[0].field_number}, which the mapping's {message.DESCRIPTOR.full_name} has not",
        )


def _check_chosen(found: FieldDescriptor, value: Any, node: _Node, here: str) -> None:
    """Raises InvalidQuery for an entry that no path selects."""
    assert node.known is not None
    if is_map(found):
        for key in value:
            if key not in node.known:
                raise InvalidQuery(f'{here}["{key}"]', f"is not served; {_listed(sorted(node.known))}")
    elif node.by is not None:
        for place, entry in enumerate(value):
            held = getattr(entry, node.by.name)
            if held not in node.known:
                raise InvalidQuery(
                    f"{here}[{place}].{node.by.name}",
                    f"{_said(held)} is not served; {_listed(sorted(node.known))}",
                )


def _said(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value)[:80] if isinstance(value, str) else str(value)


def _listed(values: Any) -> str:
    return f"served: {', '.join(map(_said, values))}"
