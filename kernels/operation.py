"""How an operation is made known to torch: one name, one schema, an implementation for each kind of device.

torch.library.custom_op does the same with more around it: its calls take several times as long, which counts beside
kernels of some microseconds, and the first one imports torch's compiler, which takes a second. Where there is nothing
to dispatch, a CPU kernel is called at once, which saves another 5 to 15 microseconds a call.

Arguments and results may be dataclasses of tensors. torch sees their fields one after another: the schema is derived
from the annotations of the reference, and nothing else lists the fields.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from importlib import import_module
from typing import Any, Generic, ParamSpec, TypeVar, get_args, get_origin, get_type_hints

import torch
from torch import Tensor
from torch._ops import OpOverload

from meshfold.kernels.native import library

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

_library = torch.library.Library("meshfold", "DEF")
# Looked up once: a call seldom finds them in the cache.
_modes = torch._C._len_torch_dispatch_stack
_is_traced = torch.compiler.is_dynamo_compiling


def is_plain(*tensors: object) -> bool:
    """Whether all are tensors in the CPU's memory, nothing traces this thread and no mode watches it: then there is
    nothing to dispatch."""
    for tensor in tensors:
        # Fake tensors and parameters have types of their own.
        if type(tensor) is not Tensor or not tensor.is_cpu:
            return False
    return not (_is_traced() or _modes())


def is_traced() -> bool:
    """Whether anything traces this thread, or a mode watches it."""
    # torch.export without tracing of Python puts a mode on the stack.
    return bool(_is_traced() or _modes())


class Operation(Generic[Arguments, Result]):
    """torch.ops.meshfold.<name>, called as its reference is. It neither changes nor returns its arguments, and nothing
    is differentiated through it."""

    def __init__(self, name: str, reference: Callable[Arguments, Result]) -> None:
        hints = get_type_hints(reference)
        result = hints.pop("return")
        self._name = name
        self._parameters = [_Flat.of(parameter, hint) for parameter, hint in hints.items()]
        self._result: Any = result if is_dataclass(result) else None
        self._is_flat = self._result is None and all(
            parameter.make is _only for parameter in self._parameters
        )
        self.reference = reference
        # Called for tensors of which is_plain() is true.
        self.on_cpu = reference
        schema = ", ".join(
            f"{kind} {part}" for parameter in self._parameters for part, kind in parameter.parts
        )
        _library.define(f"{name}({schema}) -> {_returned(result)}")
        _library.impl(name, self._flattened(reference), "CompositeExplicitAutograd")
        self.overload: OpOverload[..., Any] = getattr(torch.ops.meshfold, name).default

    def __call__(self, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        if self._is_flat:
            if is_plain(*(arg for arg in args if type(arg) is not int)):
                return self.on_cpu(*args, **kwargs)
            return self.overload(*args, **kwargs)  # type: ignore[no-any-return]
        parts = [part for p, arg in zip(self._parameters, args, strict=True) for part in p.take(arg)]
        lists = (part if type(part) is list else (part,) for part in parts)
        if is_plain(*(part for each in lists for part in each if type(part) is not int and part is not None)):
            return self.on_cpu(*args, **kwargs)
        found = self.overload(*parts)
        return found if self._result is None else self._result(*found)  # type: ignore[no-any-return]

    def register_kernel(
        self, device: str
    ) -> Callable[[Callable[Arguments, Result]], Callable[Arguments, Result]]:
        """The implementation for tensors on a kind of device, `cpu` or `cuda`."""

        def register(kernel: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
            _library.impl(self._name, self._flattened(kernel), device.upper())
            if device == "cpu":
                self.on_cpu = kernel
            return kernel

        return register

    def register_native(self, kernel: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
        """The implementation for the CPU where the native kernels are available; else the reference runs."""

        def run(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
            return (kernel if library.is_available() else self.reference)(*args, **kwargs)

        self.register_kernel("cpu")(run)
        return kernel

    def register_import(self, device: str, module: str, name: str) -> None:
        """An implementation that is imported when it is first called."""

        def kernel(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
            found: Callable[Arguments, Result] = getattr(import_module(module), name)
            return found(*args, **kwargs)

        self.register_kernel(device)(kernel)

    def register_fake(self, shapes: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
        """Shapes and types of the results, for torch.export."""
        torch.library.register_fake(f"meshfold::{self._name}", self._flattened(shapes), lib=_library)
        return shapes

    def _flattened(self, run: Callable[Arguments, Result]) -> Callable[..., Any]:
        """The function as torch calls it."""
        if self._is_flat:
            return run

        call: Any = run

        def flat(*parts: Any) -> Any:
            arguments, at = [], 0
            for parameter in self._parameters:
                end = at + len(parameter.parts)
                arguments.append(parameter.make(parts[at:end]))
                at = end
            found = call(*arguments)
            return found if self._result is None else tuple(getattr(found, f.name) for f in fields(found))

        return flat


_SCHEMA: dict[Any, str] = {
    Tensor: "Tensor",
    Tensor | None: "Tensor?",
    list[Tensor]: "Tensor[]",
    list[Tensor | None]: "Tensor?[]",
    int: "SymInt",
    list[int]: "SymInt[]",
    list[bool]: "bool[]",
}


@dataclass(frozen=True)
class _Flat:
    """An argument as torch takes it. parts: (name, type of the schema) of each. take: from the argument to its parts.
    make: from the parts to the argument."""

    parts: list[tuple[str, str]]
    take: Callable[[Any], Sequence[Any]]
    make: Callable[[Sequence[Any]], Any]

    @classmethod
    def of(cls, name: str, hint: Any) -> _Flat:
        if hint in _SCHEMA:
            return cls([(name, _SCHEMA[hint])], lambda value: (value,), _only)
        if is_dataclass(hint):
            return _of_dataclass(name, hint)
        inner = get_args(hint)[0]
        if get_origin(hint) is not Sequence:
            # A dataclass of tensors, or None, which has no tensors.
            return cls(
                [(name, "Tensor[]")],
                lambda value: ([] if value is None else [getattr(value, f.name) for f in fields(value)],),
                lambda parts: inner(*parts[0]) if parts[0] else None,
            )
        if inner is Tensor:
            return cls([(name, "Tensor[]")], lambda value: (list(value),), _only)
        # A list for each field.
        names = [field.name for field in fields(inner)]
        hints = get_type_hints(inner)
        return cls(
            [(f"{name}_{own}", f"{_SCHEMA[hints[own]]}[]") for own in names],
            lambda value: [[getattr(one, own) for one in value] for own in names],
            lambda parts: [inner(*one) for one in zip(*parts, strict=True)],
        )


def _only(parts: Sequence[Any]) -> Any:
    return parts[0]


def _of_dataclass(name: str, kind: Any) -> _Flat:
    hints = get_type_hints(kind)
    own = [(field.name, _Flat.of(f"{name}_{field.name}", hints[field.name])) for field in fields(kind)]

    def take(value: Any) -> list[Any]:
        return [part for field, flat in own for part in flat.take(getattr(value, field))]

    def make(parts: Sequence[Any]) -> Any:
        values, at = [], 0
        for _, flat in own:
            values.append(flat.make(parts[at : at + len(flat.parts)]))
            at += len(flat.parts)
        return kind(*values)

    return _Flat([part for _, flat in own for part in flat.parts], take, make)


def _returned(hint: Any) -> str:
    """The result in the schema: a tensor, a tuple of tensors, or a dataclass of them."""
    if hint is Tensor:
        return "Tensor"
    count = len(fields(hint)) if is_dataclass(hint) else len(get_args(hint))
    return f"({', '.join(['Tensor'] * count)})"
