from __future__ import annotations

import numpy as np
import torch

from meshfold.compat.mesh.items import Items
from meshfold.kernels.vectors.quantize import Quantized, dequantize
from meshfold.model.snapshot import Snapshot


def test_tables_are_in_the_order_of_ids(snapshot: Snapshot, items: Items) -> None:
    assert (np.diff(items.ids.keys()) > 0).all()
    rows = snapshot.index["rows"].long()
    index = snapshot.index
    assert torch.equal(
        items.vectors[rows], dequantize(Quantized(index["codes"], index["residuals"], index["units"]))
    )
    assert (items.popularity[rows.numpy()] == snapshot.items["popularity"].numpy()).all()


def test_rows_of_ids_that_are_there_and_of_ids_that_are_not(items: Items) -> None:
    ids = items.ids.keys()
    asked = np.array([ids[5], ids[0] - 1, ids[-1], ids[-1] + 1, ids[0]])
    assert items.ids.rows_of(asked).tolist() == [5, -1, len(items) - 1, -1, 0]
    assert items.ids.rows_of(asked[:0]).tolist() == []
    assert items.first_id == ids[:1]


def test_vectors_are_gathered_in_any_shape(items: Items) -> None:
    rows = torch.tensor([[3, 0], [3, -1]])
    assert torch.equal(items.vectors_of(rows)[0], items.vectors[[3, 0]])
    assert items.vectors_of(rows).shape == (2, 2, items.vectors.shape[1])
