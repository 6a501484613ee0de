"""The split of the interactions into a training, a validation and a test part."""

from __future__ import annotations

import numpy as np

from meshfold.model.data.catalog import Catalog
from meshfold.model.data.interactions import Interactions
from meshfold.model.errors import InvalidData
from meshfold.model.train.examples import Timelines
from meshfold.model.train.metrics import HeldOut
from meshfold.model.types import Int64s

# Limit of users in a validation or a test, taken at even distances; more users hardly change the figures.
_MOST_USERS = 10_000


class Parts:
    """Each user's interactions in order of time, cut twice: training | validation | test.

    earlier: interactions before the test part. earliest: interactions before the validation part. everything, known,
    learned: timelines of the same users with all interactions, those in `earlier`, those in `earliest`. test_cuts,
    validation_cuts: [U] int64 - number of a user's interactions before that part. facts: figures to report, such as
    the share of cuts between interactions of equal time, which make a test doubtful.
    """

    def __init__(self, catalog: Catalog, interactions: Interactions, held_out: float) -> None:
        self.tasks, self.items = catalog.schema.tasks, len(catalog)
        self.exclude = catalog.schema.exclude_history
        self.earlier = interactions.split_latest(held_out)[0]
        self.earliest = self.earlier.split_latest(held_out)[0]
        ids = catalog.item_ids
        self.everything = Timelines.of(interactions, ids, self.tasks)
        if len(self.everything.places) == 0:
            raise InvalidData(
                f"none of {len(interactions)} interactions is with an item of the catalog; check that both tables name"
                " items by the same ids"
            )
        counts = self.everything.tasks.sum(1).tolist()
        self.facts = {
            "tied_cuts": round(interactions.tied_cuts(held_out), 4),
            "interactions": dict(zip(self.tasks, counts, strict=True)),
        }
        self.test_cuts = self.everything.lengths_in(Timelines.of(self.earlier, ids, self.tasks))
        self.known = self.everything.until(self.test_cuts)
        self.validation_cuts = self.known.lengths_in(Timelines.of(self.earliest, ids, self.tasks))
        self.learned = self.known.until(self.validation_cuts)

    def validation(self) -> tuple[Int64s, Int64s]:
        """(rows of users, their cuts): [U] int64 - users with interactions before and in the validation part."""
        return _evaluated(self.known, self.validation_cuts)

    def test(self) -> tuple[Int64s, Int64s]:
        """(rows of users, their cuts): [U] int64 - users with interactions before and in the test part.

        Raises InvalidData where there is none.
        """
        rows, cuts = _evaluated(self.everything, self.test_cuts)
        if len(rows) == 0:
            raise InvalidData(
                "no user has two interactions with items of the catalog, so that there is nothing to learn; add"
                " interactions of users who met several items, or bring item vectors"
            )
        return rows, cuts

    def held_out(self, timelines: Timelines, rows: Int64s, cuts: Int64s) -> list[HeldOut]:
        """For each task, the interactions of users after their cuts. rows: [U] int64 - indices into timelines.users."""
        return [
            HeldOut.after(timelines, rows, cuts, task, self.items, self.exclude)
            for task in range(len(self.tasks))
        ]


def _evaluated(timelines: Timelines, cuts: Int64s) -> tuple[Int64s, Int64s]:
    rows = np.flatnonzero((cuts > 0) & (timelines.lengths > cuts))
    rows = rows[:: max(1, -(-len(rows) // _MOST_USERS))]
    return rows, cuts[rows]
