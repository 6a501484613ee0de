"""Index recall: how much of the exact answer a snapshot's search finds, and what it scores for it."""

from __future__ import annotations

import torch
from torch import Tensor

from meshfold.kernels.bundles import pack
from meshfold.kernels.quantize import Quantized, quantize
from meshfold.model.index.calibration import exact_search, item_like_queries, user_like_queries
from meshfold.model.progress import Progress, silent
from meshfold.model.retrieval import RetrievalModel
from meshfold.model.snapshot import Snapshot

QUERIES = 64
# Apart from the seed that calibrated, so that recall is measured on queries it has not seen.
_HELD_OUT = 1_000_003


def recall_of(model: RetrievalModel, queries: Tensor, depth: int, candidates: int) -> tuple[float, float]:
    """(share of the exact `depth` best that the search returns as its best, share of the items scored).

    A result as good as the exact search's last counts as found, so that ties are no misses.
    queries: [Q, D] float32.
    """
    index = model.index
    n = index.rows.numel()
    items = Quantized(index.codes, index.residuals, index.units)
    everything = pack(torch.ones(n, dtype=torch.bool)).unsqueeze(0)
    exact = torch.cat(
        [exact_search(quantize(part), items, index.rows.long(), depth) for part in torch.split(queries, 16)]
    )
    found = scored = 0
    for vector, wanted in zip(queries, exact, strict=True):
        query = quantize(vector.view(1, 1, -1))
        scanned = index.search(query, everything, torch.tensor([candidates]), candidates)
        positions = scanned.positions[:, 0]
        own = index.similarities(query, positions)[0, 0].masked_fill(positions[0] < 0, -torch.inf)
        last = index.similarities(query, wanted.unsqueeze(0))[0, 0].min()
        found += min(int((own >= last).sum()), depth)
        scored += int(scanned.scored[0, 0])
    return found / (depth * len(queries)), scored / (n * len(queries))


def measure(snapshot: Snapshot, progress: Progress = silent) -> dict[str, float]:
    """Recall and share of items scored at the snapshot's own settings, for queries drawn like the items and
    unlike them."""
    config = snapshot.content.config
    model = RetrievalModel.of(snapshot)
    items = Quantized(model.index.codes, model.index.residuals, model.index.units)
    depth = min(config.recall_depth, snapshot.content.items)
    measured: dict[str, float] = {"depth": depth}
    for step, (kind, draw) in enumerate((("item_like", item_like_queries), ("user_like", user_like_queries))):
        progress("measuring recall", step, 2)
        queries = draw(items, QUERIES, config.seed + _HELD_OUT)
        recall, share = recall_of(model, queries, depth, max(config.candidates_on("cpu"), depth))
        measured |= {f"{kind}_recall": round(recall, 5), f"{kind}_scored_share": round(share, 5)}
    progress("measuring recall", 2, 2)
    return measured
