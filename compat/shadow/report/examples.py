"""An example for a page: both answers side by side, their differences and causes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, zip_longest

from meshfold.compat.shadow.comparison import Example
from meshfold.compat.shadow.pairs import OK, PairSide, SideAnswer
from meshfold.compat.shadow.report.texts import clean, count, milliseconds, moment, number, of_measure
from meshfold.compat.shadow.report.words import cause_words, figure_label, measure_of, side_label

MOST_RANKS = 100
_TITLE_CHARACTERS, _FIELD_CHARACTERS, _MOST_FIELDS = 120, 40, 3
_NAME_CHARACTERS, _FILTER_CHARACTERS, _MOST_FACTS = 80, 400, 12
_SHOWN_MEASURES = ("overlap@K", "noise overlap@K", "rbo", "overlap@10", "tau", "ndcg@K", "first_difference")
# Relative difference below which neighbouring values are marked as a tie, that of rounding in float32.
_TIE_RELATIVE = 1e-6


@dataclass(frozen=True)
class ItemCell:
    """An item at a rank of an answer.

    is_only: whether the other side lacks it. is_moved: whether its order differs on the other side, other than by items
    missing before it. why: the cause, or the other side's rank. is_tie: whether a neighbour has the same value.
    """

    title: str
    details: str
    value: str
    is_only: bool
    is_moved: bool
    is_tie: bool
    why: str


@dataclass(frozen=True)
class AnswerHead:
    """The head of an answer's column: its side, and facts of the answer as a whole."""

    side: str
    facts: str
    is_failed: bool


@dataclass(frozen=True)
class ExampleView:
    """An example to show. facts: names and values of the request. rows: (rank, mesh, model), None past an answer's
    end."""

    title: str
    measures: tuple[tuple[str, str], ...]
    facts: tuple[tuple[str, str], ...]
    heads: tuple[AnswerHead, AnswerHead]
    rows: tuple[tuple[int, ItemCell | None, ItemCell | None], ...]
    left_out: int
    is_redacted: bool


def example_view(example: Example) -> ExampleView:
    pair = example.pair
    mesh, model = pair.mesh, pair.model
    moved = _moved(_ids(mesh), _ids(model))
    columns = zip_longest(_cells(example, PairSide.MESH, moved), _cells(example, PairSide.MODEL, moved))
    rows = tuple((at + 1, *cells) for at, cells in enumerate(columns))
    return ExampleView(
        title=clean(pair.request_id, _NAME_CHARACTERS) or "(no id)",
        measures=tuple(
            (clean(figure_label(name), _NAME_CHARACTERS), of_measure(value, measure_of(name)))
            for name, value in _shown_measures(example.measures).items()
        ),
        facts=_facts(example),
        heads=(_head("mesh", mesh), _head("model", model)),
        rows=rows,
        left_out=max(len(_ids(mesh)), len(_ids(model))) - len(rows),
        is_redacted=pair.is_redacted,
    )


def _shown_measures(measures: Mapping[str, float]) -> Mapping[str, float]:
    """The measures to show for a pair: the most telling ones, or else the first ones."""
    known = {name: measures[name] for name in _SHOWN_MEASURES if not math.isnan(measures.get(name, math.nan))}
    return known or dict(islice(measures.items(), len(_SHOWN_MEASURES)))


def _facts(example: Example) -> tuple[tuple[str, str], ...]:
    pair = example.pair
    filter_text = "unknown" if pair.filter is None else pair.filter or "none, every item is eligible"
    facts = [
        ("time", moment(pair.unix_ms)),
        ("user", clean(pair.user_key, _NAME_CHARACTERS)),
        ("results asked for", f"{pair.max_results:,}" if pair.max_results else ""),
        ("filter", clean(filter_text, _FILTER_CHARACTERS)),
        ("served by", clean(pair.served_by, _NAME_CHARACTERS)),
        ("traced", count(len(example.differences), "difference") if example.differences else ""),
    ]
    facts += [
        (clean(name, _NAME_CHARACTERS), clean(value, _NAME_CHARACTERS))
        for name, value in list(pair.slices.items())[:_MOST_FACTS]
    ]
    return tuple((name, value) for name, value in facts if value)


def _head(side: str, answer: SideAnswer | None) -> AnswerHead:
    label = side_label(side)
    if answer is None:
        return AnswerHead(label, "no answer here", is_failed=True)
    known = [
        count(len(answer.item_ids), "result")
        if answer.status == OK
        else clean(answer.status, _NAME_CHARACTERS),
        "" if math.isnan(answer.latency_ms) else milliseconds(answer.latency_ms),
        clean(answer.version, _NAME_CHARACTERS),
    ]
    return AnswerHead(label, ", ".join(fact for fact in known if fact), is_failed=answer.status != OK)


def _cells(example: Example, side: PairSide, moved: set[int | str]) -> list[ItemCell]:
    """The cells of one answer, up to the last shown rank."""
    pair = example.pair
    answer, other = (pair.mesh, pair.model) if side == PairSide.MESH else (pair.model, pair.mesh)
    if answer is None:
        return []
    other_side = PairSide.MODEL if side == PairSide.MESH else PairSide.MESH
    other_ranks = _ranks(_ids(other))
    # With a failed answer no single item counts as missing.
    is_compared = other is not None and other.status == OK
    again = (
        pair.again if side == PairSide.MESH and pair.again is not None and pair.again.status == OK else None
    )
    causes = {d.item_id: d.cause.value for d in example.differences if d.missing_from == other_side}
    ties = _ties(answer.scores)
    cells = []
    for at, item_id in enumerate(_ids(answer)[:MOST_RANKS]):
        is_only = is_compared and item_id not in other_ranks
        why = []
        if is_only:
            why.append(cause_words(causes[item_id]).name if item_id in causes else f"not in the {other_side}")
            if again is not None and item_id not in again.item_ids:
                why.append("nor in the mesh, asked again")
        elif item_id in moved:
            why.append(f"{other_side} rank {other_ranks[item_id]}")
        title, details = _item(example, item_id)
        cells.append(
            ItemCell(
                title=title,
                details=details,
                value=number(answer.scores[at]) if at < len(answer.scores) else "",
                is_only=is_only,
                is_moved=item_id in moved,
                is_tie=at in ties,
                why=", ".join(why),
            )
        )
    return cells


def _ranks(ids: Sequence[int | str]) -> dict[int | str, int]:
    """Ranks from 1 by item; the better rank of a repeated item."""
    ranks: dict[int | str, int] = {}
    for rank, item_id in enumerate(ids, 1):
        ranks.setdefault(item_id, rank)
    return ranks


def _moved(mesh_ids: Sequence[int | str], model_ids: Sequence[int | str]) -> set[int | str]:
    """The smallest set of shown common items whose removal leaves both answers in the same order.

    The others form the longest sequence with rising ranks on both sides; among the longest, one with most equal ranks.
    """
    mesh_ranks, model_ranks = _ranks(mesh_ids), _ranks(model_ids)
    common = [item_id for item_id in mesh_ranks if item_id in model_ranks]
    common = [i for i in common if min(mesh_ranks[i], model_ranks[i]) <= MOST_RANKS]
    # By the last item of a sequence: (length, equal ranks, index of the item before in `common`).
    best: list[tuple[int, int, int]] = []
    for at, item_id in enumerate(common):
        earlier = (
            (*best[place][:2], place)
            for place in range(at)
            if model_ranks[common[place]] < model_ranks[item_id]
        )
        length, equal, before = max(earlier, default=(0, 0, -1))
        best.append((length + 1, equal + (mesh_ranks[item_id] == model_ranks[item_id]), before))
    moved = set(common)
    place = max(range(len(best)), key=lambda at: best[at][:2], default=-1)
    while place >= 0:
        moved.remove(common[place])
        place = best[place][2]
    return moved


def _item(example: Example, item_id: int | str) -> tuple[str, str]:
    """The title of an item, and its id and fields, as shown."""
    told_id = clean(str(item_id), _NAME_CHARACTERS)
    text = example.items.get(item_id)
    if text is None:
        return told_id, ""
    values = [clean(value, _FIELD_CHARACTERS) for value in list(text.fields.values())[:_MOST_FIELDS] if value]
    title = clean(text.title, _TITLE_CHARACTERS)
    return (title, " · ".join([told_id, *values])) if title else (told_id, " · ".join(values))


def _ties(scores: Sequence[float]) -> set[int]:
    """Places of values that equal a neighbour's."""
    ties = set()
    for at in range(1, min(len(scores), MOST_RANKS + 1)):
        if math.isclose(scores[at - 1], scores[at], rel_tol=_TIE_RELATIVE):
            ties |= {at - 1, at}
    return ties


def _ids(answer: SideAnswer | None) -> tuple[int | str, ...]:
    return answer.item_ids if answer is not None else ()
