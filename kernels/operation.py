"""How an operation is made known to torch: one name, one schema, an implementation for each kind of device.

torch.library.custom_op does the same with more around it: its calls take several times as long, which counts beside
kernels of some microseconds, and the first one imports torch's compiler, which takes a second. Where there is nothing
to dispatch, a CPU kernel is called at once, which spares another 5 to 15 microseconds a call.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Generic, ParamSpec, TypeVar

import torch
from torch import Tensor
from torch._ops import OpOverload

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

_library = torch.library.Library("meshfold", "DEF")
# Looked up once: what a call reads is seldom in the cache.
_modes = torch._C._len_torch_dispatch_stack
_is_traced = torch.compiler.is_dynamo_compiling


def is_plain(*tensors: object) -> bool:
    """Whether all are tensors in the CPU's memory that nothing traces and no mode watches: then there is nothing to
    dispatch."""
    for tensor in tensors:
        # Fake tensors and parameters are of types of their own.
        if type(tensor) is not Tensor or not tensor.is_cpu:
            return False
    return not (_is_traced() or _modes())


def is_traced() -> bool:
    """Whether anything traces this thread, or a mode watches it."""
    # What torch.export runs without tracing Python stands on the stack.
    return bool(_is_traced() or _modes())


class Operation(Generic[Arguments, Result]):
    """torch.ops.meshfold.<name>, called as the function it was made of. It neither changes nor returns its arguments,
    and nothing is differentiated through it."""

    def __init__(self, name: str, reference: Callable[Arguments, Result]) -> None:
        self._name = name
        _library.define(name + torch.library.infer_schema(reference, mutates_args=()))
        _library.impl(name, reference, "CompositeExplicitAutograd")
        # For tensors that is_plain() says yes to.
        self.on_cpu = reference
        self.overload: OpOverload[Arguments, Result] = getattr(torch.ops.meshfold, name).default

    def __call__(self, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        if is_plain(*(arg for arg in args if type(arg) is not int)):
            return self.on_cpu(*args, **kwargs)
        return self.overload(*args, **kwargs)

    def register_kernel(self, device: str) -> Callable[[Callable[Arguments, Result]], None]:
        """The implementation for tensors on a kind of device, `cpu` or `cuda`."""

        def register(kernel: Callable[Arguments, Result]) -> None:
            _library.impl(self._name, kernel, device.upper())
            if device == "cpu":
                self.on_cpu = kernel

        return register

    def register_import(self, device: str, module: str, name: str) -> None:
        """The same for an implementation that is imported when it is first called."""

        def kernel(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
            found: Callable[Arguments, Result] = getattr(import_module(module), name)
            return found(*args, **kwargs)

        self.register_kernel(device)(kernel)

    def register_fake(self, shapes: Callable[Arguments, Result]) -> None:
        """What shapes and types the results have, for torch.export."""
        torch.library.register_fake(f"meshfold::{self._name}", shapes, lib=_library)


def operation(
    name: str,
) -> Callable[[Callable[Arguments, Result]], Operation[Arguments, Result]]:
    """Makes an operation of its reference, which runs on any device for which no kernel is registered."""

    def make(reference: Callable[Arguments, Result]) -> Operation[Arguments, Result]:
        return Operation(name, reference)

    return make
