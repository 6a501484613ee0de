"""Tables of a catalog in the order of item ids, as the services of the mesh use them.

A service names an item by its row, its place in the order of ids, so that ties by the smaller row are ties by the
smaller id.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from meshfold.kernels.vectors.items import item_vectors
from meshfold.kernels.vectors.quantize import Quantized
from meshfold.model.item_ids import ItemIds
from meshfold.model.snapshot import Snapshot
from meshfold.model.types import Float32s, Ids


class Items:
    """Tables of items by row. ids. vectors: [N, D] float32, those of the index. popularity: [N] float32."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.ids: ItemIds = snapshot.item_ids()
        self._positions = snapshot.items["positions"]
        index = snapshot.index
        held = Quantized(index["codes"], index["residuals"], index["units"])
        self.vectors: Tensor = item_vectors(held, self._positions)
        self.popularity: Float32s = self.by_row(snapshot.items["popularity"]).numpy()

    def __len__(self) -> int:
        return len(self.ids)

    def by_row(self, tensor: Tensor) -> Tensor:
        """Reorders a tensor [N, ...] from positions to rows."""
        return tensor[self._positions]

    @property
    def first_id(self) -> Ids:
        """The id of one item: [1]."""
        return self.ids.at(np.zeros(1, np.int64))

    def vectors_of(self, rows: Tensor) -> Tensor:
        """The vectors of rows: [..., D] float32. rows: [...] int64; -1 gives an arbitrary item's vector."""
        d = self.vectors.shape[1]
        return torch.index_select(self.vectors, 0, rows.clamp(min=0).flatten()).view(*rows.shape, d)
