"""Forward passes as CUDA graphs: one launch in place of hundreds, for batches of sizes that came before.

A graph replays captured launches on the same memory, so that all sizes must be the same. Batches are therefore padded
to a small number of sizes, with queries that find nothing and steps that do nothing, which changes no answer. The first
batch of its sizes runs operation by operation, which compiles kernels; the second is captured; later ones replay it.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_map_only, tree_unflatten

from meshfold.kernels.filter.steps import FilterBatch, Op
from meshfold.kernels.value.formula import ValueOp
from meshfold.model.batch import QueryBatch, Results, UserBatch
from meshfold.model.inputs import PAD
from meshfold.model.ranking import TILE
from meshfold.service.errors import log_failure

# A graph's key: the sizes of a batch's tensors in order, and all its other values.
_Key = tuple[object, ...]
# Least padded lengths of lists. Nearly all requests have shorter ones, and so share graphs.
_STEPS, _VALUES, _EXCLUDED, _VALUE_STEPS, _VALUE_CONSTANTS = 16, 16, 256, 16, 8
# Alignment in bytes of tensors in one block of memory, that of torch's allocator.
_ALIGNED = 512


def padded(batch: QueryBatch) -> QueryBatch:
    """Pads a batch to one of the few sizes: with queries that find nothing, and steps and entries without effect."""
    users, filters, b = batch.users, batch.filters, batch.candidates.numel()
    rows = queries_padded(b)

    def grown(tensor: Tensor, filler: int, *lengths: int) -> Tensor:
        shape = (rows, *lengths, *tensor.shape[1 + len(lengths) :])
        out = torch.full(shape, filler, dtype=tensor.dtype)
        out[tuple(slice(length) for length in tensor.shape)] = tensor
        return out

    steps = grown(filters.steps, Op.NOOP, length_padded(filters.steps.shape[1], _STEPS))
    steps[b:, 0, 0] = Op.CONSTANT
    values = length_padded(filters.values.shape[1], _VALUES)
    value_steps = grown(
        batch.value_steps, ValueOp.NOOP, length_padded(batch.value_steps.shape[1], _VALUE_STEPS)
    )
    # The values of padding queries are dropped, but their programs must be valid.
    value_steps[b:] = value_steps[0]
    return QueryBatch(
        users=UserBatch(
            query_vectors=grown(users.query_vectors, 0),
            has_vector=grown(users.has_vector, 0),
            history_positions=grown(users.history_positions, -1),
            history_ids=grown(users.history_ids, PAD),
            inputs={name: grown(tensor, 0) for name, tensor in users.inputs.items()},
            has_input=grown(users.has_input, 0),
        ),
        filters=FilterBatch(
            steps,
            grown(filters.values, 0, values),
            grown(filters.value_rows, 0, values),
            grown(filters.excluded, -1, length_padded(filters.excluded.shape[1], _EXCLUDED)),
        ),
        candidates=grown(batch.candidates, 0),
        max_results=grown(batch.max_results, 0),
        value_steps=value_steps,
        value_constants=grown(
            batch.value_constants, 0, length_padded(batch.value_constants.shape[1], _VALUE_CONSTANTS)
        ),
        cap_field=grown(batch.cap_field, -1),
        cap_limit=grown(batch.cap_limit, 0),
        explain=grown(batch.explain, 0),
        most_candidates=depth_padded(batch.most_candidates),
        capped=batch.capped,
    )


def queries_padded(queries: int) -> int:
    """The padded number of queries of a batch: 1, 2, 4, 8, then multiples of 8."""
    return 1 << (queries - 1).bit_length() if queries <= 8 else -(-queries // 8) * 8


def depth_padded(depth: int) -> int:
    """The padded number of result columns: a power of two, or whole tiles of the ranking."""
    return -(-depth // TILE) * TILE if depth > TILE else 1 << max(depth - 1, 0).bit_length()


def length_padded(length: int, least: int) -> int:
    """The padded length of a program or list: a power of two of at least `least`."""
    return max(least, 1 << max(length - 1, 0).bit_length())


class Packed:
    """The tensors of batches of one size, in one block of device memory that one copy fills."""

    def __init__(self, batch: QueryBatch, device: torch.device) -> None:
        leaves, spec = tree_flatten(batch)
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        starts = [0]
        for tensor in tensors:
            size = tensor.numel() * tensor.element_size()
            starts.append(starts[-1] + -(-size // _ALIGNED) * _ALIGNED)
        is_cuda = device.type == "cuda"
        self._host = torch.zeros(starts[-1], dtype=torch.uint8, pin_memory=is_cuda)
        self._device = torch.zeros(starts[-1], dtype=torch.uint8, device=device)
        self._host_views = [_view(self._host, *at) for at in zip(starts, tensors, strict=False)]
        views = iter([_view(self._device, *at) for at in zip(starts, tensors, strict=False)])
        self.batch: QueryBatch = tree_unflatten(
            [next(views) if isinstance(leaf, Tensor) else leaf for leaf in leaves], spec
        )

    def fill(self, batch: QueryBatch) -> None:
        """Copies another batch of the same sizes in. No copy of the former may still be running."""
        tensors = [leaf for leaf in tree_flatten(batch)[0] if isinstance(leaf, Tensor)]
        for view, tensor in zip(self._host_views, tensors, strict=True):
            view.copy_(tensor)
        self._device.copy_(self._host, non_blocking=True)


@dataclass(frozen=True, eq=False)
class _Captured:
    """A captured graph. results: the tensors that each replay writes."""

    graph: torch.cuda.CUDAGraph
    inputs: Packed
    results: Results


class Graphs:
    """Runs a model on a GPU, one batch at a time, from host memory to host memory.

    All graphs share one memory pool. The results of a pass are copied to the host before the next pass begins, so that
    no two graphs use the pool at once.
    """

    def __init__(self, model: nn.Module, device: torch.device, most: int) -> None:
        """most: most graphs kept, the least recently used is dropped; 0 for none."""
        self._model = model
        self._device = device
        self._most = most
        with torch.cuda.device(device):
            # One stream for all passes; it waits for the copies to the device made before.
            self._stream = torch.cuda.Stream()
            self._stream.wait_stream(torch.cuda.current_stream())
            self._pool = torch.cuda.graph_pool_handle()
        # For each key that came before, whether its batches may be captured.
        self._seen: OrderedDict[_Key, bool] = OrderedDict()
        self._captured: OrderedDict[_Key, _Captured] = OrderedDict()

    def __call__(self, batch: QueryBatch) -> Results:
        """Runs a batch. The results have rows for padding queries, too, whose content is undefined."""
        batch = padded(batch)
        key = key_of(batch)
        with torch.cuda.device(self._device), torch.cuda.stream(self._stream):
            captured = self._captured_for(key, batch)
            if captured is None:
                results = self._model(tree_map_only(Tensor, lambda t: t.to(self._device), batch))
            else:
                captured.inputs.fill(batch)
                captured.graph.replay()
                results = captured.results
            # The copies run in parallel and are complete once the stream is synchronized.
            answer: Results = tree_map_only(Tensor, lambda t: t.to("cpu", non_blocking=True), results)
            self._stream.synchronize()
        return answer

    def _captured_for(self, key: _Key, batch: QueryBatch) -> _Captured | None:
        """The graph of a key, captured at its second batch; None at the first."""
        if key in self._captured:
            self._captured.move_to_end(key)
            return self._captured[key]
        if not self._seen.get(key, False):
            if self._most and key not in self._seen:
                self._seen[key] = True
                if len(self._seen) > 4 * self._most:
                    self._seen.popitem(last=False)
            return None
        try:
            captured = self._capture(batch)
        except Exception as error:  # a user's program may raise any error
            log_failure("a forward pass cannot be a CUDA graph and runs operation by operation", error)
            self._seen[key] = False
            return None
        self._captured[key] = captured
        if len(self._captured) > self._most:
            self._captured.popitem(last=False)
        return captured

    def _capture(self, batch: QueryBatch) -> _Captured:
        inputs, graph = Packed(batch, self._device), torch.cuda.CUDAGraph()
        # Thread-local, since other threads may use CUDA to load a snapshot meanwhile.
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
            results: Results = self._model(inputs.batch)
        return _Captured(graph, inputs, results)


def key_of(batch: QueryBatch) -> _Key:
    """The key of a batch of one snapshot, equal for batches that one graph can run."""
    return tuple(tuple(leaf.shape) if isinstance(leaf, Tensor) else leaf for leaf in tree_flatten(batch)[0])


def _view(block: Tensor, start: int, like: Tensor) -> Tensor:
    """A view of the block with the type and shape of a tensor."""
    size = like.numel() * like.element_size()
    return block[start : start + size].view(like.dtype).view(like.shape)
