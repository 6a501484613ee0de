"""Checks of the tensors that public functions of kernels take."""

from __future__ import annotations

from torch import Tensor, dtype


def expect(name: str, tensor: Tensor, shape: tuple[int | str, ...], kind: dtype) -> None:
    """Raises ValueError unless `tensor` has the dtype and the shape. A letter in `shape` matches any size."""
    # Called for every tensor of every operation; each read of a shape makes a new object.
    came = tensor.shape
    if tensor.dtype is kind and len(came) == len(shape):
        if came == shape:
            return
        for size, own in zip(shape, came, strict=True):
            if size != own and not isinstance(size, str):
                break
        else:
            return
    wanted = ", ".join(str(s) for s in shape)
    sizes = ", ".join(str(n) for n in came)
    raise ValueError(f"{name} must be [{wanted}] {_short(kind)}, got [{sizes}] {_short(tensor.dtype)}")


def _short(kind: dtype) -> str:
    return str(kind).removeprefix("torch.")
