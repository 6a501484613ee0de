"""How interactions join the catalog: what is left out is counted and named."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from meshfold.model.errors import InvalidData
from meshfold.model.types import Int64s

# Interactions with unknown items, of all, that are taken for a log that outlives its items.
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
    """Warns of interactions whose item the catalog lacks; refuses more than a share of them.

    where: the file or folder of the interactions. met: [M] int64 - the item of each interaction by its key.
    known: [N] int64 - the keys of the catalog. met_ids, known_ids: the same as their owner writes them.
    Raises InvalidData.
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
    said = (
        f"{where}: {count:,} of {len(met):,} interactions are with items that the catalog lacks, "
        f"{len(first):,} in all: {named}{', ...' if len(first) > _NAMED else ''}"
    )
    if count > unknown_share * len(met):
        some = ", ".join(str(known_ids[place]) for place in range(min(_NAMED, len(known))))
        raise InvalidData(
            f"{said}; the catalog has ids such as {some}. More than {unknown_share:.0%} unknown items mean another"
            " space of ids or another catalog: mend the ids, or set unknown_share in [interactions]"
        )
    _log.warning("%s; they are left out", said)
