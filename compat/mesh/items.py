"""What every service of the mesh keeps of a catalog: tables in the order of item ids.

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
    """ids: by row. vectors: [N, D] float32 as the index holds them. popularity: [N] float32."""

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
        """tensor: [N, ...] in the order of positions -> in the order of rows."""
        return tensor[self._positions]

    @property
    def first_id(self) -> Ids:
        """[1] - the id of some item."""
        return self.ids.at(np.zeros(1, np.int64))

    def vectors_of(self, rows: Tensor) -> Tensor:
        """[..., D] float32. rows: [...] int64 - -1 gives some item's."""
        d = self.vectors.shape[1]
        return torch.index_select(self.vectors, 0, rows.clamp(min=0).flatten()).view(*rows.shape, d)
