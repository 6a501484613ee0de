"""What a kernel's public function demands of its tensors."""

from __future__ import annotations

from torch import Tensor, dtype


def expect(name: str, tensor: Tensor, shape: tuple[int | str, ...], kind: dtype) -> None:
    """Raises ValueError unless `tensor` has the dtype and the shape; a letter in `shape` fits any size."""
    fits = tensor.dtype == kind and tensor.dim() == len(shape)
    fits = fits and all(isinstance(s, str) or s == n for s, n in zip(shape, tensor.shape, strict=True))
    if not fits:
        wanted = ", ".join(str(s) for s in shape)
        came = ", ".join(str(n) for n in tensor.shape)
        raise ValueError(f"{name} must be [{wanted}] {_short(kind)}, got [{came}] {_short(tensor.dtype)}")


def _short(kind: dtype) -> str:
    return str(kind).removeprefix("torch.")
