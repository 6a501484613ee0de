"""What CUDA would run, where there is no GPU: its kernels by Triton's interpreter, on tensors of the CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch._ops import OpOverload
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack, resolve_name
from torch.utils._python_dispatch import TorchDispatchMode

# The host reads a value of these, or their results have shapes that follow from values: it waits for the device.
_WAITING = frozenset(
    (
        *("_local_scalar_dense", "item", "is_nonzero", "equal", "nonzero", "argwhere", "masked_select"),
        *("_unique", "_unique2", "unique_dim", "unique_consecutive", "unique_dim_consecutive"),
        *("bincount", "histc", "isin", "_assert_scalar"),
    )
)
# Copies between host and device, which on a CPU are none and so are no operation.
_COPIES = frozenset(
    (
        *(f"torch.Tensor.{name}" for name in ("tolist", "numpy", "cpu", "cuda", "__array__")),
        *("torch.tensor", "torch.as_tensor", "torch.from_numpy"),
    )
)


class _Kernels(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __torch_dispatch__(
        self,
        func: OpOverload[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        name = func._schema.name.partition("::")[2]
        if func.namespace == "meshfold":
            own = torch._C._dispatch_has_kernel_for_dispatch_key(func._schema.name, "CUDA")
            key = torch._C.DispatchKey.CUDA if own else torch._C.DispatchKey.CompositeExplicitAutograd
            with self:
                return func._op_dk(key, *args, **(kwargs or {}))
        by_mask = name in ("index", "index_put", "index_put_", "_index_put_impl_") and any(
            t is not None and t.dtype in (torch.bool, torch.uint8) for t in args[1]
        )
        counted = name == "repeat_interleave" and func._overloadname != "self_int"
        unsized = counted and not (kwargs or {}).get("output_size")
        waits = name in _WAITING or by_mask or unsized
        assert not waits, f"the host would wait for {func}"
        return func(*args, **(kwargs or {}))


class _Copies(TorchFunctionMode):
    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        assert resolve_name(func) not in _COPIES, f"the host would wait for {resolve_name(func)}"
        return func(*args, **(kwargs or {}))


def is_on_cuda() -> bool:
    """Whether as_on_cuda() is in effect."""
    return any(isinstance(mode, _Copies) for mode in _get_current_function_mode_stack())


@contextmanager
def as_on_cuda() -> Iterator[None]:
    """Operations of ours run as torch would dispatch them for CUDA tensors; one for which the host would wait for the
    device raises AssertionError."""
    with _Copies(), _Kernels():  # type: ignore[no-untyped-call]
        yield
