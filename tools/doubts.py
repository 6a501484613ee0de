"""What makes measured figures doubtful, as words for people."""

from __future__ import annotations

import sys
from collections.abc import Mapping

# Of users whose cut falls between interactions of one time, beyond which it is told.
TIED_SHARE = 0.05


def of_ties(share: float) -> list[str]:
    """share: of the users that are split, those whose cut falls between interactions of one time."""
    if share <= TIED_SHARE:
        return []
    return [
        f"for {share:.0%} of the users the latest interactions are not told apart by time: part of one moment was held"
        " out, drawn by a hash; give finer times"
    ]


def of_tasks(held_out: Mapping[str, int], interactions: Mapping[str, int]) -> list[str]:
    """held_out: for each task, users with held-out items. interactions: for each task, how many count for it."""
    words = []
    for task, users in held_out.items():
        if not interactions[task]:
            words.append(
                f"task {task}: no interaction counts for it, so that nothing is learned or measured; check"
                f" [tasks.{task}]"
            )
        elif not users:
            words.append(f"task {task}: nobody did it in the held-out part, so that nothing is measured")
    return words


def of_inputs(missing: tuple[str, ...]) -> list[str]:
    """missing: inputs of the schema that the interactions do not tell."""
    if not missing:
        return []
    names = ", ".join(missing)
    return [
        f"the interactions have no column {names}: queries bring no such feature, as from users who send none"
    ]


def tell(words: list[str]) -> None:
    """A line each on stderr."""
    for text in words:
        print(f"meshfold: {text}", file=sys.stderr, flush=True)
