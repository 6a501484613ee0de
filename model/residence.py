"""Copying of a model's tensors from mapped files to a device, in chunks, after a check of its memory.

Residuals can stay on the host: they are half of the bytes of vectors, and a query reads those of pools and candidates
alone. They are in pinned memory then, which kernels read through the bus.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping
from enum import StrEnum

import torch
from torch import Tensor, nn

from meshfold.model.errors import SnapshotRefused
from meshfold.model.index.ivf import RESCORED_PER_RESULT, IvfIndex
from meshfold.model.program import Program
from meshfold.model.progress import Progress, silent

# Bytes of a chunk. Two chunks alternate: one is read from disk while the other is copied.
CHUNK_BYTES = 64 << 20
# Limit in bytes of the stacks of kernels/gpu/filter_steps.py.
_FILTER_SCRATCH_BYTES = 256 << 20
# Tensors with a size of their own in sizes_of; other tensors of the index count as clusters.
_PARTS = ("codes", "residuals", "units", "rows", "popular", "popularity")


class Residuals(StrEnum):
    """The memory that residuals are kept in."""

    DEVICE = "device"
    HOST = "host"


def sizes_of(model: nn.Module) -> dict[str, int]:
    """Bytes of a model by part: codes, residuals, units, rows, popular, popularity, signature, columns, clusters and
    programs."""
    sizes = dict.fromkeys((*_PARTS, "signature", "columns", "clusters", "programs"), 0)
    for name, tensor in (*model.named_buffers(), *model.named_parameters()):
        sizes[_part(name)] += tensor.numel() * tensor.element_size()
    return sizes


def _part(name: str) -> str:
    whole, _, last = name.rpartition(".")
    if whole.startswith(("user", "ranking")):
        return "programs"
    if whole.startswith("filter"):
        return "signature" if last == "_signature" else "columns"
    return last if last in _PARTS else "clusters"


def device_bytes(sizes: Mapping[str, int], residuals: Residuals) -> int:
    """Bytes of a model's parts on the device. sizes: from sizes_of."""
    return sum(sizes.values()) - (sizes["residuals"] if residuals is Residuals.HOST else 0)


def workspace_bytes(index: IvfIndex, tasks: int, batch: int, candidates: int) -> int:
    """Estimated bytes of a forward pass besides the model: bitmaps of items, probe orders, scores and candidates."""
    items, clusters, vectors = index.rows.numel(), index.centroids.shape[0], batch * tasks
    bits = batch * -(-items // 512) * 64
    # Bytes by part. 52 a cluster: keys, their order and copies of both. 24 a survivor: a key, a place and scratch of
    # the selection. 80 a pool item: places, similarities and keys, and scratch of the sort.
    room = min(items, index.room(candidates))
    pool = min(room, candidates * RESCORED_PER_RESULT)
    searching = vectors * (52 * clusters + 24 * room + 80 * pool)
    ranking = vectors * candidates * 128
    return bits + max(_FILTER_SCRATCH_BYTES, searching, ranking)


def check_room(
    sizes: Mapping[str, int], residuals: Residuals, workspace: int, free: int, device: torch.device
) -> None:
    """Raises SnapshotRefused where model and workspace exceed the device's free bytes."""
    needed = device_bytes(sizes, residuals)
    if needed + workspace <= free:
        return
    largest = sorted(sizes, key=lambda part: -sizes[part])
    shown = [p for p in largest if not (p == "residuals" and residuals is Residuals.HOST)][:4]
    parts = ", ".join(f"{part} {_gib(sizes[part])}" for part in shown)
    remedies = ["a smaller --max-batch", "another --device"]
    if residuals is Residuals.DEVICE:
        remedies.insert(0, f"--residuals host, which takes {_gib(sizes['residuals'])} less there")
    raise SnapshotRefused(
        f"the snapshot takes {_gib(needed)} of {device} ({parts}) and a batch {_gib(workspace)} beside it, but"
        f" {_gib(free)} are free; a snapshot that is replaced keeps its memory until the new one is loaded."
        f" Use {', or '.join(remedies)}"
    )


def free_bytes(device: torch.device) -> int:
    """Free bytes of a CUDA device, including those that torch keeps for its next tensors."""
    free, _ = torch.cuda.mem_get_info(device)
    return int(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))


def reside(
    model: nn.Module, device: torch.device, residuals: Residuals, workspace: int, progress: Progress = silent
) -> None:
    """Copies a model to a device, so that none of its tensors is mapped from a file.

    workspace: bytes that must stay free. Raises SnapshotRefused, before anything is copied, where a GPU has no room.
    """
    sizes = sizes_of(model)
    if device.type == "cuda":
        check_room(sizes, residuals, workspace, free_bytes(device), device)
    copier = _Copier(device, sum(sizes.values()) - sizes["programs"], progress)
    programs = [part for part in model.modules() if isinstance(part, Program)]
    inner = {id(part) for program in programs for part in program.modules()}
    for owner, name, tensor in list(_buffers(model)):
        if id(owner) not in inner:
            on_host = name == "residuals" and residuals is Residuals.HOST
            owner._buffers[name] = copier.copied(tensor, on_host)
    for program in programs:
        program.to(device)


def _buffers(model: nn.Module) -> Iterator[tuple[nn.Module, str, Tensor]]:
    for part in model.modules():
        for name, tensor in part._buffers.items():
            if tensor is not None:
                yield part, name, tensor


class _Copier:
    """Copies tensors in chunks, to a GPU through two buffers of pinned memory in turn."""

    def __init__(self, device: torch.device, total_bytes: int, progress: Progress) -> None:
        self._device = device
        self._is_cuda = device.type == "cuda"
        self._total_bytes, self._done_bytes = total_bytes, 0
        self._progress = progress
        self._turn = 0
        if self._is_cuda:
            self._staged = [torch.empty(CHUNK_BYTES, dtype=torch.uint8, pin_memory=True) for _ in range(2)]
            self._sent = [torch.cuda.Event() for _ in range(2)]

    def copied(self, tensor: Tensor, on_host: bool) -> Tensor:
        """The same values on the device, or in host memory that the device reads."""
        if on_host:
            target = torch.empty(tensor.shape, dtype=tensor.dtype)
            if self._is_cuda:
                _pin(target)
        else:
            target = torch.empty(tensor.shape, dtype=tensor.dtype, device=self._device)
        if not tensor.numel():
            return target
        staged = self._is_cuda and not on_host
        chunks = zip(*(torch.split(_bytes(t), CHUNK_BYTES) for t in (tensor, target)), strict=True)
        for chunk, part in chunks:
            if staged:
                self._send(chunk, part)
            else:
                part.copy_(chunk)
            self._done_bytes += chunk.numel()
            self._progress(f"copying to {self._device}", self._done_bytes, self._total_bytes)
        if staged:
            torch.cuda.current_stream(self._device).synchronize()
        return target

    def _send(self, chunk: Tensor, part: Tensor) -> None:
        self._turn = 1 - self._turn
        buffer, sent = self._staged[self._turn][: chunk.numel()], self._sent[self._turn]
        # Waits for the buffer's last copy; an event that was never recorded is complete.
        sent.synchronize()
        buffer.copy_(chunk)
        part.copy_(buffer, non_blocking=True)
        sent.record(torch.cuda.current_stream(self._device))


def _bytes(tensor: Tensor) -> Tensor:
    """[bytes] uint8 - a view where the tensor is contiguous."""
    return tensor.reshape(-1).view(torch.uint8)


def _pin(tensor: Tensor) -> None:
    """Locks a tensor's memory for reads by GPUs. torch's own pinned memory would be rounded up to a power of two.

    Raises SnapshotRefused where the system refuses.
    """
    if not tensor.numel():
        return
    runtime, address = torch.cuda.cudart(), tensor.data_ptr()
    # 1: for every GPU of the process, cudaHostRegisterPortable.
    failed = int(runtime.cudaHostRegister(address, tensor.numel() * tensor.element_size(), 1))
    if failed:
        raise SnapshotRefused(
            f"{_gib(tensor.numel() * tensor.element_size())} of residuals cannot be locked in host memory"
            f" (CUDA error {failed}); free some or raise the limit of locked memory, or use --residuals device"
        )
    weakref.finalize(tensor, runtime.cudaHostUnregister, address).atexit = False


def _gib(size: int) -> str:
    return f"{size / 2**30:.2f} GiB"
