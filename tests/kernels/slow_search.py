"""The docstring of kernels/search/ivf_search.py as plain Python: what the reference is compared with."""

from __future__ import annotations

import numpy as np
import torch

from meshfold.kernels.filter.steps import FilterTensors, Op
from meshfold.kernels.search.tensors import Found
from meshfold.kernels.vectors.quantize import quantize_reference
from tests.kernels.search_cases import SearchCase

LARGEST = float(np.finfo(np.float32).max)


class SlowFilter:
    """What items hold, as plain Python; sets of items are the bits of one integer."""

    def __init__(self, tensors: FilterTensors, items: int) -> None:
        self.everything = (1 << items) - 1
        self._held = [self._values(tensors, field, items) for field in range(len(tensors.columns))]

    @staticmethod
    def _values(tensors: FilterTensors, field: int, items: int) -> list[list[int]]:
        column, offsets = tensors.columns[field].tolist(), tensors.offsets[field].tolist()
        if offsets:
            return [column[offsets[i] : offsets[i + 1]] for i in range(items)]
        words = tensors.signature[:, field].flatten().tolist()
        return [[column[i]] if words[i // 64] >> i % 64 & 1 else [] for i in range(items)]

    def _where(self, bits: list[bool]) -> int:
        return int("0" + "".join("1" if bit else "0" for bit in reversed(bits)), 2)

    def passing(self, steps: list[list[int]], values: list[int]) -> int:
        stack: list[int] = []
        for op, a, b, c in steps:
            if op == Op.CONSTANT:
                stack.append(self.everything if a else 0)
            elif op in (Op.MATCH, Op.PLANE):
                wanted = set(values[b : b + c])
                stack.append(self._where([not wanted.isdisjoint(own) for own in self._held[a]]))
            elif op == Op.RANGE:
                low, high = values[b : b + 2]
                stack.append(self._where([any(low <= v <= high for v in own) for own in self._held[a]]))
            elif op == Op.EXISTS:
                stack.append(self._where([bool(own) for own in self._held[a]]))
            elif op == Op.NOT:
                stack.append(self.everything & ~stack.pop())
            elif op == Op.AND:
                stack.append(stack.pop() & stack.pop())
            elif op == Op.OR:
                stack.append(stack.pop() | stack.pop())
            elif op == Op.AT_LEAST:
                operands = [stack.pop() for _ in range(a)]
                stack.append(self._at_least(b, operands))
        (result,) = stack
        return result

    def _at_least(self, least: int, sets: list[int]) -> int:
        # reached[i]: items in at least i of the sets so far.
        reached = [self.everything] + [0] * max(least, len(sets))
        for members in sets:
            for i in range(len(reached) - 1, 0, -1):
                reached[i] |= reached[i - 1] & members
        return reached[max(least, 0)]


def slow_search(case: SearchCase) -> Found:
    """The docstring of kernels/search/ivf_search.py, one item after the other."""
    b, t, _ = case.vectors.shape
    n, c = case.ivf.codes.shape[0], case.ivf.offsets.numel() - 1
    of_items = SlowFilter(case.filter, n)
    counts = torch.zeros((2, b, t), dtype=torch.int64)
    found = Found(
        *(torch.full((b, t, case.k), -1), torch.zeros((b, t, case.k))),
        *(counts[0], counts[1], torch.zeros(b, dtype=torch.int64)),
    )
    for i in range(b):
        passing = of_items.passing(case.programs.steps[i].tolist(), case.programs.values[i].tolist())
        for position in {*case.programs.excluded[i].tolist()} - {-1}:
            passing &= ~(1 << position)
        size = min(n, 1024)
        found.sampled[i] = sum(passing >> (2 * s + 1) * n // (2 * size) & 1 for s in range(size))
        limits = case.limits
        budget, probes, depth = (int(of[i]) for of in (limits.budget, limits.probes, limits.candidates))
        for j in range(t):
            chosen: list[int] = []
            for cluster in slow_order(case, i, j)[: min(probes, c)]:
                first, stop = case.ivf.offsets[cluster : cluster + 2].tolist()
                inside = passing >> first & ((1 << stop - first) - 1)
                chosen += [first + p for p, bit in enumerate(reversed(f"{inside:b}")) if bit == "1"]
                found.opened[i, j] += 1
                if len(chosen) >= budget:
                    break
            found.scored[i, j] = len(chosen)
            wanted = depth if limits.max_results is None else min(int(limits.max_results[i]), depth)
            size = max(depth, wanted * limits.rescored)
            pool = ordered(case, chosen, slow_scores(case, i, j, chosen))[:size]
            similarities = slow_similarities(case, i, j, pool)
            best = ordered(case, pool, similarities)[:depth]
            by_position = dict(zip(pool, similarities, strict=True))
            found.positions[i, j, : len(best)] = torch.tensor(best, dtype=torch.int64)
            found.similarities[i, j, : len(best)] = torch.tensor([float(by_position[p]) for p in best])
    return found


def ordered(case: SearchCase, positions: list[int], scores: list[np.float32]) -> list[int]:
    """Best first, ties to the smaller row."""
    of = dict(zip(positions, scores, strict=True))
    return sorted(positions, key=lambda position: (-float(of[position]), int(case.ivf.rows[position])))


def slow_scores(case: SearchCase, i: int, j: int, chosen: list[int]) -> list[np.float32]:
    query = quantize_reference(case.vectors[i, j]).codes.numpy().astype(np.int64)
    scores = []
    for position in chosen:
        values = 32 * (case.ivf.codes[position].numpy().astype(np.int64) // 16) + 15
        with np.errstate(over="ignore"):
            scores.append(np.float32(np.float32(int(values @ query)) * case.ivf.scales[position].numpy()))
    return scores


def slow_similarities(case: SearchCase, i: int, j: int, pool: list[int]) -> list[np.float32]:
    codes, residuals, scale = quantize_reference(case.vectors[i, j]).contiguous()
    query = 256 * codes.long() + residuals.long()
    similarities = []
    for position in pool:
        fine = 256 * case.ivf.codes[position].long() + case.ivf.residuals[position].long()
        exact = float(int(fine @ query)) * float(case.ivf.scales[position]) * float(scale)
        similarities.append(np.float32(np.clip(exact, -LARGEST, LARGEST)))
    return similarities


def slow_order(case: SearchCase, i: int, j: int) -> list[int]:
    query = quantize_reference(case.vectors[i, j]).codes.numpy().astype(np.int64)
    length = np.float32(np.sqrt(np.float64(query @ query)))
    scores = []
    for cluster in range(case.ivf.centroids.shape[0]):
        total = np.float32(int(case.ivf.centroids[cluster].numpy().astype(np.int64) @ query))
        with np.errstate(over="ignore"):
            near = np.float32(total * case.ivf.centroid_scales[cluster].numpy())
        scores.append(float(near + np.float32(length * case.ivf.centroid_spreads[cluster].numpy())))
    return sorted(range(len(scores)), key=lambda cluster: (-scores[cluster], cluster))
