"""The check that interactions fit the catalog: interactions with unknown items are counted and named."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from meshfold.model.errors import InvalidData
from meshfold.model.types import Int64s

# Default limit of the share of interactions with unknown items. Logs outlive items, so that some are normal.
UNKNOWN_SHARE = 0.5
_NAMED = 5
_log = logging.getLogger(__name__)


def check_join(
    where: Path,
    met: Int64s,
    met_ids: Int64s | Sequence[str],
    known: Int64s,
    known_ids: Int64s | Sequence[str],
    unknown_share: float = UNKNOWN_SHARE,
) -> None:
    """Logs a warning of interactions whose item the catalog lacks. Raises InvalidData above `unknown_share`.

    where: the file or folder of the interactions. met: [M] int64 - the item's key of each interaction. known: [N]
    int64 - the keys of the catalog. met_ids, known_ids: the ids of the same items as in the data, for messages.
    """
    if not len(met):
        return
    unknown = ~np.isin(met, known)
    count = int(unknown.sum())
    if not count:
        return
    _, first = np.unique(met[unknown], return_index=True)
    places = np.flatnonzero(unknown)[np.sort(first)]
    named = ", ".join(str(met_ids[place]) for place in places[:_NAMED].tolist())
    message = (
        f"{where}: {count:,} of {len(met):,} interactions are with items that the catalog lacks, "
        f"{len(first):,} in all: {named}{', ...' if len(first) > _NAMED else ''}"
    )
    if count > unknown_share * len(met):
        some = ", ".join(str(known_ids[place]) for place in range(min(_NAMED, len(known))))
        raise InvalidData(
            f"{message}; the catalog has ids such as {some}. More than {unknown_share:.0%} unknown items mean another"
            " space of ids or another catalog: mend the ids, or set unknown_share in [interactions]"
        )
    _log.warning("%s; they are left out", message)
