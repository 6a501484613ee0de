"""Index recall: the share of exact results that a snapshot's search finds, and the share of items that it scores."""

from __future__ import annotations

import torch
from torch import Tensor

from meshfold.kernels.filter.steps import FilterBatch
from meshfold.kernels.search.exact_search import exact_search
from meshfold.kernels.vectors.quantize import Quantized, quantize
from meshfold.model.index.calibration import item_like_queries, user_like_queries
from meshfold.model.progress import Progress, silent
from meshfold.model.retrieval import RetrievalModel
from meshfold.model.snapshot import Snapshot

QUERIES = 64
# Added to the seed of calibration, so that recall is measured on other queries.
HELD_OUT = 1_000_003


def recall_of(
    model: RetrievalModel, queries: Tensor, max_results: int, candidates: int
) -> tuple[float, float]:
    """(recall@max_results against exact search, share of items scored). queries: [Q, D] float32.

    Results with at least the similarity of the exact search's last result count as found, because of ties.
    """
    index = model.index
    q, n = queries.shape[0], index.rows.numel()
    items = Quantized(index.codes, index.residuals, index.units)
    exact = exact_search(quantize(queries), items, index.rows, max_results)
    vectors = queries.unsqueeze(1)
    coded = quantize(vectors)
    each = torch.full((q,), candidates)
    found = index.search(
        *(vectors, model.filter.tensors(), FilterBatch.everything(q)),
        *(each, candidates, torch.full_like(each, max_results)),
    )
    own = found.similarities[:, 0].masked_fill(found.positions[:, 0] < 0, -torch.inf)
    last = index.similarities(coded, exact)[:, 0].min(1, keepdim=True).values
    hits = int((own >= last).sum(1).clamp(max=max_results).sum())
    return hits / (max_results * q), int(found.scored.sum()) / (n * q)


def measure(snapshot: Snapshot, progress: Progress = silent) -> dict[str, float]:
    """Recall and share of scored items with the snapshot's settings, for item-like and user-like queries."""
    config = snapshot.content.config
    model = RetrievalModel.of(snapshot)
    items = Quantized(model.index.codes, model.index.residuals, model.index.units)
    depth = min(config.recall_depth, snapshot.content.items)
    measured: dict[str, float] = {"depth": depth}
    for step, (kind, draw) in enumerate((("item_like", item_like_queries), ("user_like", user_like_queries))):
        progress("measuring recall", step, 2)
        queries = draw(items, QUERIES, config.seed + HELD_OUT)
        recall, share = recall_of(model, queries, depth, max(config.candidates_on("cpu"), depth))
        measured |= {f"{kind}_recall": round(recall, 5), f"{kind}_scored_share": round(share, 5)}
    progress("measuring recall", 2, 2)
    return measured
