"""Which parts of an answer a caller wants: tensors, entries and keys of maps, by name."""

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
    """only: names that are wanted. but: names that are not. all: whether all are, where neither is set; None for yes.
    known: names that the answer has."""

    only: Value | None
    but: Value | None
    all: Value | None
    known: set[str] = field(default_factory=set)

    def read(self, message: Any, metadata: Metadata) -> frozenset[str] | None:
        """None where all are wanted. Raises InvalidQuery for a name that the answer has not."""
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
    """A path to a list of names, all where it is empty; or a table of only, but and all. Raises InvalidMapping."""

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
