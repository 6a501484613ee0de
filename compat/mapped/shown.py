"""The source of each field of an answer, as data for tools that read answers back or explain them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from meshfold.compat.mapped.codecs import Codec, codec_of
from meshfold.compat.mapped.mapping_file import Part
from meshfold.compat.mapped.paths import Path

# Keys of a table of which one gives the source of a value.
SOURCES = ("from", "field", "task", "const", "echo", "cel")


@dataclass(frozen=True, eq=False)
class Shown:
    """One field of an answer.

    path: of the field in the answer. kind: one of SOURCES. source: for "from" item_id, value, similarity, rank, scores
    and others; else the name of the field or task, the constant, the repeated path of the request, or the expression.
    codec: of ids; None to send them unchanged. enum: the protocol's names by the catalog's. scale, offset: of fixed
    point; a number x is sent as x * scale + offset. raw: kind of numbers in raw bytes. only: "integers" or "strings"
    where the field is for one kind of ids. default: for items without a value. tensor: name of the tensor of the
    values; "" for a plain field.
    """

    path: Path
    kind: str
    source: Any
    codec: Codec | None = None
    enum: Mapping[str, str] = field(default_factory=dict)
    scale: float = 1.0
    offset: float = 0.0
    raw: str = ""
    only: str = ""
    default: Any = None
    tensor: str = ""


def shown_of(entry: Part, path: Path, codec: Codec | None, tensor: str = "") -> Shown:
    """The source of a checked entry of a mapping's answer. codec: of the method's ids."""
    raw = entry.raw
    if not isinstance(raw, dict):
        return Shown(path, "from", raw, codec if raw == "item_id" else None)
    kind = next(name for name in SOURCES if name in raw)
    source = raw[kind]
    if "ids" in raw:
        codec = codec_of(raw["ids"])
    return Shown(
        path,
        kind,
        source,
        codec if "item_id" in (source, raw.get("key")) else None,
        raw.get("enum", {}),
        float(raw.get("scale", 1.0)),
        float(raw.get("offset", 0.0)),
        raw.get("as", ""),
        raw.get("only", ""),
        raw.get("default"),
        tensor,
    )
