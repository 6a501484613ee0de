"""Drafts a mapping of a protocol from the names and types of its fields; marks the parts that need a decision."""

from __future__ import annotations

import re
from collections.abc import Iterator

from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor

from meshfold.compat.mapped.descriptors import Protocol
from meshfold.compat.mapped.paths import kind_of
from meshfold.compat.wire_values import is_map, is_repeated, is_required

_MOST_DEPTH = 4
_IDS = ("string", "integer")
_ID = r"(\w+_)?(id|key|uuid)s?"
_USER = "(user|viewer|member|customer|account|profile)"
_MET = "(history|watched|viewed|seen|clicked|recent|interactions)"
_UNWANTED = "(exclude|excluded|hidden|blocked|blocklist|denied|skip)"
# For each part of a request, in the order of a mapping: last names of its path, its kinds, whether it is a list.
_REQUEST = (
    (
        "surface",
        r"(surface|placement|page|slot|channel|feed|collection|model_name)(_name|_id)?",
        ("string", "enum"),
        False,
    ),
    ("request_id", r"(request|trace|query)_id", ("string",), False),
    ("user_id", rf"({_USER}(_?id|_key|\.id|\.key|\.user_id)?|uid)", _IDS, False),
    ("history", rf"(\w+_)?{_MET}(_\w+)?(\.\w+)?", _IDS, True),
    ("excluded", rf"(\w+_)?{_UNWANTED}(_\w+)?(\.\w+)?", _IDS, True),
    (
        "max_results",
        r"(limit|max_results|page_size|num_results|count|top_?k|k|size|n|num_\w+|max_\w+)",
        ("integer",),
        False,
    ),
    ("offset", r"(offset|skip|start)", ("integer",), False),
    ("page_token", r"(page_token|cursor|continuation_token)", ("string",), False),
    ("formula", r"(formula|ranking|ranker|sort|objective)", ("string", "enum"), False),
)
_CANDIDATE = (
    ("item_id", rf"({_ID}|item|video|document|doc|name)", _IDS),
    ("value", r"(\w+_)?(score|value|relevance|rank_score|weight)(_\w+)?", ("number",)),
    ("similarity", r"(similarity|distance)", ("number",)),
    ("rank", r"(rank|position)", ("integer",)),
)
_WHOLE = (
    ("request_id", r"(request|trace|query)_id", ("string",)),
    ("version", r"(model|version|model_version|snapshot)(_id|_name)?", ("string",)),
    ("next_page_token", r"(next_page_token|next_cursor|cursor)", ("string",)),
    ("count", r"(count|total|num_results|total_size)", ("integer",)),
)
_ZEROS = {"string": '""', "integer": "0", "number": "0.0", "bool": "false"}


def first_mapping(protocol: Protocol, source: str) -> str:
    """The text of a draft mapping file. source: the line of its [protocol] table."""
    lines = ["[protocol]", source]
    for name, method in protocol.methods.items():
        lines.append("")
        if method.client_streaming or method.server_streaming:
            lines.append(f"# {name} is a stream: it is not mapped.")
        elif (candidates := _candidates(method.output_type)) is None:
            lines.append(f"# {name} gives no list of items. If its answer is always the same, write it down:")
            lines += [f"# [method.{_quoted(name)}]", "# fixed = { }"]
        else:
            lines += _method(name, method, candidates)
    return "\n".join(lines) + "\n"


def _method(name: str, method: MethodDescriptor, candidates: tuple[str, FieldDescriptor]) -> list[str]:
    request, undecided = _request(method.input_type)
    answer, left = _answer(method.output_type, candidates)
    lines = [f"[method.{_quoted(name)}]"]
    if any(field.type == FieldDescriptor.TYPE_STRING for field in candidates[1].message_type.fields):
        lines.append('# ids = "prefix:item_"    # where callers have "item_12" and the catalog has 12')
    lines += ["", f"[method.{_quoted(name)}.request]", *request, *undecided]
    return [*lines, "", f"[method.{_quoted(name)}.answer]", *answer, *left]


def _request(message: Descriptor) -> tuple[list[str], list[str]]:
    lines: list[str] = []
    taken: set[str] = set()
    leaves = list(_leaves(message))
    for key, pattern, kinds, is_list in _REQUEST:
        for path, field, many in leaves:
            if path in taken or many is not is_list or kind_of(field) not in kinds or is_map(field):
                continue
            if re.fullmatch(rf"(.*\.)?{pattern}", path):
                taken.add(path)
                written = (
                    f"{{ path = {_quoted(path)}, default = 100 }}" if key == "max_results" else _quoted(path)
                )
                lines.append(f"{key} = {written}")
                break
        else:
            if key == "max_results":
                lines.append(
                    "max_results = { const = 100 }    # undecided: no field tells how many results are wanted"
                )
    undecided = [
        f"# undecided: {_quoted(path)}, {_words(field, many)}"
        for path, field, many in leaves
        if path not in taken
    ]
    return lines, undecided


def _answer(message: Descriptor, candidates: tuple[str, FieldDescriptor]) -> tuple[list[str], list[str]]:
    prefix, held = candidates
    lines: list[str] = []
    left: list[str] = []
    seen: set[str] = set()
    inside = f"{prefix}."
    for path, field, many in _leaves(message):
        rest = path.removeprefix(inside)
        known = _CANDIDATE if path.startswith(inside) else _WHOLE
        name = field.name
        source = next(
            (
                source
                for source, pattern, kinds in known
                if source not in seen and kind_of(field) in kinds and re.fullmatch(pattern, name)
            ),
            None,
        )
        fits = not is_map(field) and (many and "." not in rest if known is _CANDIDATE else not many)
        if source is not None and fits and not (known is _CANDIDATE and is_repeated(field)):
            seen.add(source)
            lines.append(f"{_quoted(path)} = {_quoted(source)}")
        elif is_required(field) and not many:
            zero = _ZEROS.get(kind_of(field)) or _quoted(field.enum_type.values[0].name)
            lines.append(
                f"{_quoted(path)} = {{ const = {zero} }}    # undecided: {_words(field, many)}, required"
            )
        else:
            left.append(f"# undecided: {_quoted(path)}, {_words(field, many)}")
    if "item_id" not in seen:
        left.append(f"# undecided: which field of {held.message_type.full_name} is the item's id")
    return lines, left


def _candidates(message: Descriptor) -> tuple[str, FieldDescriptor] | None:
    """The repeated messages that represent items: the first whose fields include an id."""
    for path, field in _repeated(message, "", 0):
        if any(re.fullmatch(_CANDIDATE[0][1], inner.name) for inner in field.message_type.fields):
            return path, field
    return None


def _repeated(message: Descriptor, prefix: str, depth: int) -> Iterator[tuple[str, FieldDescriptor]]:
    for field in message.fields:
        if field.message_type is None or is_map(field) or depth > _MOST_DEPTH:
            continue
        if is_repeated(field):
            yield prefix + field.name, field
        else:
            yield from _repeated(field.message_type, f"{prefix}{field.name}.", depth + 1)


def _leaves(
    message: Descriptor, prefix: str = "", many: bool = False, within: tuple[str, ...] = ()
) -> Iterator[tuple[str, FieldDescriptor, bool]]:
    """(path, field, whether it is a list) of all values, without recursive messages."""
    within = (*within, message.full_name)
    for field in message.fields:
        here, is_many = prefix + field.name, many or (is_repeated(field) and not is_map(field))
        inner = field.message_type
        if inner is None or is_map(field) or inner.full_name == "google.protobuf.Any":
            yield here, field, is_many
        elif inner.full_name not in within and len(within) <= _MOST_DEPTH:
            yield from _leaves(inner, f"{here}.", is_many, within)


def _words(field: FieldDescriptor, many: bool) -> str:
    kind = "map" if is_map(field) else kind_of(field)
    return f"a list of kind {kind}" if many else kind


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
