"""The selection of an answer's parts by the caller: names of tensors, entries and keys of maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from meshfold.compat.mapped.mapping_file import Part
from meshfold.compat.mapped.values import Metadata, Scope, Value, value_of
from meshfold.model.errors import InvalidQuery
from meshfold.model.schema import nearest


@dataclass(eq=False)
class Asked:
    """Reads a request's selection. only: selected names. but: excluded names. all: whether all are selected where
    neither is set; None for yes. known: all names of the answer."""

    only: Value | None
    but: Value | None
    all: Value | None
    known: set[str] = field(default_factory=set)

    def read(self, message: Any, metadata: Metadata) -> frozenset[str] | None:
        """The selected names; None for all. Raises InvalidQuery for a name that the answer lacks."""
        if self.only is not None and (names := self._names(self.only, message, metadata)):
            return frozenset(names)
        if self.but is not None and (names := self._names(self.but, message, metadata)):
            return frozenset(self.known.difference(names))
        if self.all is None or self.all.read(message, metadata):
            return None
        return frozenset()

    def _names(self, value: Value, message: Any, metadata: Metadata) -> Sequence[str]:
        found: Sequence[str] = value.read(message, metadata) or ()
        for place, name in enumerate(found):
            if name not in self.known:
                raise InvalidQuery(
                    f"{value.name}[{place}]", f"the answer has no {name[:64]!r}{nearest(name, self.known)}"
                )
        return found


def asked_of(part: Part, scope: Scope) -> Asked:
    """Compiles `asked`: a path to a list of names (empty for all), or a table of only, but and all. Raises
    InvalidMapping."""

    def names(entry: Part) -> Value:
        value = value_of(entry, scope, ("string",), many=True)
        if not value.many:
            raise entry.error(f"{value.name!r} is one string; expected a list of names")
        return value

    if not isinstance(part.raw, dict):
        return Asked(names(part), None, None)
    table = part.table({"only", "but", "all"})
    if not table:
        raise part.error("is empty; give only, but or all")
    return Asked(
        names(table["only"]) if "only" in table else None,
        names(table["but"]) if "but" in table else None,
        value_of(table["all"], scope, ("bool",)) if "all" in table else None,
    )
