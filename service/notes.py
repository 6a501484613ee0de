"""Notes for `explain` on parts of a request that the snapshot lacks, by the paths of model/limits.py."""

from __future__ import annotations

from meshfold.model.filter.unmatched import UnmatchedParts
from meshfold.model.schema import Schema, nearest
from meshfold.model.types import QUERY_VECTOR, Ids
from meshfold.model.value.formulas import ValueFormulas
from meshfold.service.prepared import PreparedQuery

_NAMED = 5
_CHARACTERS = 60


class Notes:
    """Makes the notes on queries of one snapshot."""

    def __init__(
        self, schema: Schema, formulas: ValueFormulas, unmatched: UnmatchedParts, has_user_tower: bool
    ) -> None:
        self._declared = {i.name for i in schema.inputs}
        self._read = {name for program in formulas.programs.values() for name in program.features}
        self._read |= {QUERY_VECTOR} | (self._declared if has_user_tower else set())
        self._unmatched = unmatched

    def of(self, prepared: PreparedQuery, known: bool, eligible: int) -> dict[str, str]:
        """Notes by path. known: whether the model knows anything of the user. eligible: number of items that pass."""
        query = prepared.query
        notes: dict[str, str] = {}
        if text := _history(prepared, known):
            notes["history"] = text
        for name in query.features.keys() - self._read:
            notes[f'features["{name}"]'] = self._feature(name)
        if query.filter is not None:
            notes |= self._unmatched.of(query.filter, is_empty=not eligible)
            if "filter" in notes and len(prepared.excluded):
                notes["filter"] += "; excluded items and those of the history do not count"
        return notes

    def _feature(self, name: str) -> str:
        if name in self._declared:
            return "is declared, but this snapshot has no user tower that reads it"
        return (
            f"neither tower nor formula reads it{nearest(name, self._declared | self._read - {QUERY_VECTOR})}"
        )


def _history(prepared: PreparedQuery, known: bool) -> str:
    history, positions = prepared.query.history, prepared.user.history
    if not len(history):
        if known:
            return ""
        return "is empty, and callers keep histories: nothing is known of the user, so the most popular items answer"
    places = [place for place, position in enumerate(positions.tolist()) if position < 0]
    if not places:
        return ""
    read: Ids = history[-len(positions) :]
    named = ", ".join(_short(str(read[place])) for place in places[:_NAMED])
    more = f" and {len(places) - _NAMED} more" if len(places) > _NAMED else ""
    if len(places) < len(positions):
        return f"{len(places)} of {len(positions)} items are not in the catalog: {named}{more}"
    so = "" if known else "; nothing is known of the user, so the most popular items answer"
    return f"none of its items is in the catalog: {named}{more}{so}"


def _short(text: str) -> str:
    return text if len(text) <= _CHARACTERS else text[: _CHARACTERS - 3] + "..."
