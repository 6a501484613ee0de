"""The peer of the rows: brute force in torch."""

from __future__ import annotations

import statistics
import time

import torch
from torch import Tensor

from benchmarks.gpu.measure import Prepared, synchronize
from benchmarks.gpu.world import World
from meshfold.kernels.vectors.quantize import Quantized, dequantize

_CHUNK = 1 << 20
# Items the peer scores at a time: half a gigabyte of float16 scores for 64 queries.
_PEER_CHUNK = 1 << 22


class BruteForce:
    """The peer: all vectors in float16, one matrix product and torch.topk a chunk. Masks come ready, off its clock."""

    def __init__(self, world: World) -> None:
        self._world = world
        kind = torch.float16 if world.device.type == "cuda" else torch.float32
        self._table = torch.empty((world.items, world.dimension), dtype=kind, device=world.device)
        for start in range(0, world.items, _CHUNK):
            part, index = slice(start, start + _CHUNK), world.index
            self._table[part] = dequantize(
                Quantized(index.codes[part], index.residuals[part], index.units[part])
            )

    @staticmethod
    def bytes_of(world: World, batch: int) -> int:
        """Bytes beside the world's."""
        return 2 * world.items * world.dimension + 6 * batch * min(world.items, _PEER_CHUNK)

    def run(self, vectors: Tensor, passed: list[Tensor], k: int) -> Tensor:
        """[B, k] positions."""
        queries = vectors.to(self._table.dtype)
        best = queries.new_empty((len(vectors), 0))
        held = torch.empty((len(vectors), 0), dtype=torch.int64, device=vectors.device)
        for start in range(0, self._world.items, _PEER_CHUNK):
            scores = queries @ self._table[start : start + _PEER_CHUNK].T
            for i, own in enumerate(passed):
                scores[i].masked_fill_(~own[start : start + _PEER_CHUNK], -torch.inf)
            found = scores.topk(min(k, scores.shape[1]))
            best, held = torch.cat([best, found.values], 1), torch.cat([held, found.indices + start], 1)
            kept = best.topk(min(k, best.shape[1]))
            best, held = kept.values, held.gather(1, kept.indices)
        return held

    def p50_ms(self, prepared: Prepared, repeats: int) -> float:
        case, device = prepared.case, self._world.device
        passed = [self._world.passes(i) for i in range(case.batch)] if case.filtered else []
        taken = []
        for turn in range(repeats + 1):
            batch = prepared.batches[turn % len(prepared.batches)]
            synchronize(device)
            start_s = time.perf_counter()
            self.run(batch.users.query_vectors[:, 0], passed, batch.most_candidates)
            synchronize(device)
            taken.append((time.perf_counter() - start_s) * 1e3)
        return statistics.median(taken[1:])
