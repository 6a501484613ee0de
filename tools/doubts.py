"""Warnings about measured figures, in words."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

# Share of users, split between interactions of equal time, from which a warning is given.
TIED_SHARE = 0.05


def of_ties(share: float) -> list[str]:
    """Warns of ties in time. share: share of split users whose cut is between interactions of equal time."""
    if share <= TIED_SHARE:
        return []
    return [
        f"for {share:.0%} of the users the latest interactions are not told apart by time: part of one moment was held"
        " out, drawn by a hash; give finer times"
    ]


def of_tasks(
    held_out: Mapping[str, int], interactions: Mapping[str, int], already_met: Mapping[str, int]
) -> list[str]:
    """held_out: for each task, users with held-out items. interactions: for each task, how many count for it.
    already_met: for each task, held-out items that results leave out, for their users had met them before."""
    words = []
    for task, users in held_out.items():
        if not interactions[task]:
            words.append(
                f"task {task}: no interaction counts for it, so that nothing is learned or measured; check"
                f" [tasks.{task}]"
            )
        elif not users and already_met[task]:
            words.append(
                f"task {task}: users had met all of their {already_met[task]} held-out items before, and results leave"
                " those out, so that nothing is measured; set exclude_history = false where people come back to items"
            )
        elif not users:
            words.append(f"task {task}: nobody did it in the held-out part, so that nothing is measured")
    return words


def of_untaught(untaught: Sequence[str], interactions: Mapping[str, int]) -> list[str]:
    """untaught: tasks that nothing was learned of. interactions: for each task, how many count for it."""
    others = "" if len(untaught) == len(interactions) else "; it gives the mean of the other tasks"
    return [
        f"task {task}: nobody did it before the held-out part and after another interaction, so that nothing is learned"
        f" of it{others}"
        for task in untaught
        if interactions[task]
    ]


def of_inputs(missing: tuple[str, ...]) -> list[str]:
    """Warns of missing inputs. missing: inputs of the schema that the interactions lack."""
    if not missing:
        return []
    names = ", ".join(missing)
    return [
        f"the interactions have no column {names}: queries bring no such feature, as from users who send none"
    ]


def tell(words: list[str]) -> None:
    """Prints the warnings on stderr, one line each."""
    for text in words:
        print(f"meshfold: {text}", file=sys.stderr, flush=True)
