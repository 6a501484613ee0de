"""Causes and remedies, in Python's terms, for modules that cannot be exported as programs."""

from __future__ import annotations

import inspect
import re
import traceback
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    UnsupportedFakeTensorException,
)
from torch.fx import GraphModule
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter
from torch.utils._python_dispatch import TorchDispatchMode

from meshfold.model.errors import InvalidData
from meshfold.model.program_inline import higher_order_name
from meshfold.model.schema import nearest

_OURS, _TORCHS = Path(__file__).parent.resolve(), Path(torch.__file__).parent.resolve()
_MOST_TEXT = 240
# Python packages of quantised layers.
_QUANTISED = (
    "torch.ao.nn.quantized",
    "torch.ao.nn.intrinsic.quantized",
    "torch.nn.quantized",
    "bitsandbytes.",
)
_OF_A_GPU = ("torch.nn.parallel.", "torch.distributed.")
_VALUES = (GuardOnDataDependentSymNode, DataDependentOutputException)
_GIVEN = {1: "one dict of all inputs", 3: "user vectors, item vectors and similarities"}
_GIVEN[4] = "user vectors, item vectors, similarities and a mask of present candidates"


def check_parts(module: nn.Module, example: tuple[Any, ...]) -> None:
    """Raises InvalidData for a part that torch.export cannot trace, and for a forward with other arguments."""
    for name, part in module.named_modules():
        cause = _part_cause(part)
        if cause:
            where = f"its part {name!r}" if name else "it"
            raise InvalidData(f"{type(module).__name__} cannot be exported: {where} {cause}")
    for name in (*module._modules, *module._parameters, *module._buffers):
        if hasattr(GraphModule, name):
            raise InvalidData(
                f"{type(module).__name__} cannot be exported: torch's graphs have an attribute {name!r} of their own;"
                " rename the module's"
            )
    try:
        inspect.signature(module.forward).bind(*example)
    except TypeError as error:
        raise InvalidData(
            f"{type(module).__name__} cannot be exported: forward{_parameters(module)} is called with"
            f" {_GIVEN.get(len(example), f'{len(example)} arguments')} ({error}); see docs/models.md"
        ) from None


def _part_cause(part: nn.Module) -> str:
    path = f"{type(part).__module__}.{type(part).__qualname__}"
    if isinstance(part, torch.jit.ScriptModule):
        return "is TorchScript (torch.jit.script, trace or load); use the nn.Module that it was compiled from"
    if path.startswith(_QUANTISED):
        return f"is quantised ({path}); use the float module that it was made from"
    if path.startswith(_OF_A_GPU):
        return f"is wrapped for several devices ({path}); use the module inside, its attribute `module`"
    for name, value in vars(part).items():
        if isinstance(value, torch.jit.ScriptFunction):
            return f"holds TorchScript ({name}, of torch.jit.script or trace); use the Python function itself"
    for name, tensor in (*part._parameters.items(), *part._buffers.items()):
        if tensor is not None and (cause := _tensor_cause(tensor)):
            return f"holds {name!r}, which {cause}"
    return ""


def _tensor_cause(tensor: Tensor) -> str:
    if isinstance(tensor, UninitializedParameter | UninitializedBuffer):
        return "has no values yet (a lazy module); call the module once before it is exported"
    if type(tensor.data) is not Tensor:
        return (
            f"is a {type(tensor.data).__name__}, no plain tensor; use the float module that it was made from"
        )
    if tensor.is_quantized:
        return "is quantised; use the float module that it was made from"
    if tensor.is_meta:
        return "is on the meta device and has no values; load the weights before it is exported"
    if not tensor.is_cpu:
        return f"is on {tensor.device}; modules are exported on the CPU: give module.cpu()"
    if tensor.layout != torch.strided:
        return f"is sparse ({tensor.layout}); give tensor.to_dense()"
    return ""


def refusal(module: nn.Module, example: tuple[Any, ...], error: Exception) -> str:
    """The cause and the remedy of a failed export, as one line, from the error that torch raised.

    Unknown errors are quoted in torch's words.
    """
    errors = list(_chain(error))
    frames = [frame for one in errors for frame in traceback.extract_tb(one.__traceback__)]
    at, text = _user_line(frames), " ".join(str(one) for one in errors)
    inputs = example[0] if len(example) == 1 and isinstance(example[0], dict) else None
    if inputs is not None and (cause := _input_cause(module, inputs, errors, at)):
        return cause
    if any(Path(frame.filename).name == "rnn.py" and "pack" in frame.name for frame in frames) or (
        "FakeTensor" in text and "aten::_pack_padded_sequence" in _operators(module, example)
    ):
        return f"packs sequences (torch.nn.utils.rnn){at}; {PACKED}"
    if any(word in text for word in ("ScriptFunction", "TorchScript interpreter", "torch.jit")):
        return f"calls TorchScript (torch.jit.script or trace){at}; use the Python function that it was compiled from"
    own = re.search(r"no fake impl registered for \D*?(\w+)::(\w+)", text)
    if own:
        return f"calls torch.ops.{own[1]}.{own[2]}, an operator of its own{at}; {FOREIGN}"
    if "Expected more than 1 value per channel when training" in text:
        return f"normalises by statistics of the batch (batch norm in training mode){at}; {BATCH_NORM}"
    if any(word in text for word in ("numpy()", "to numpy", "NumPy")):
        return f"turns tensors into numpy arrays{at}; use torch's operators"
    if any(word in text for word in ("CUDA", "cuda", "NVIDIA", "XPU", "different devices")):
        return (
            f"needs a GPU{at} ({_first_line(error)}); modules are exported on the CPU: make tensors on the inputs'"
            " device (device=x.device)"
        )
    if any(isinstance(one, DynamicOutputShapeException) for one in errors):
        return f"makes a tensor whose size depends on values{at}; {SIZES}"
    if any(isinstance(one, _VALUES) for one in errors) or "data-dependent" in text:
        return f"branches on values, or turns a tensor into a Python number{at}; {VALUES}"
    if any(isinstance(one, UnsupportedFakeTensorException) for one in errors):
        return f"uses tensors that torch.export does not know{at} ({_first_line(error)}); use dense float tensors"
    given = re.search(r"Found <class '(?:[\w<>]+\.)*(\w+)'> in output", text)
    if given:
        return f"gives {given[1]}; give one tensor"
    if any(type(one).__name__ == "UncapturedHigherOrderOpError" for one in errors):
        return _uncaptured(text, at)
    if "fake tensor in the exported program constant" in text:
        return (
            "computes with a tensor that the export cannot follow, as where forward takes gradients"
            " (torch.autograd.grad), reads `.data` or a tensor of another call; compute it out of inputs and weights"
        )
    return f"forward raises {type(errors[-1]).__name__}{at}: {_first_line(errors[-1])}"


BATCH_NORM = "use the running statistics: a BatchNorm module in eval mode, or training=False"
FOREIGN = "programs hold torch's own operators (aten) alone: write it in them"
PACKED = "run the layer over the padded sequence and take the last real step with gather"
SIZES = (
    "keep the size and mask values with torch.where (indexing by masks, nonzero and unique give such sizes)"
)
VALUES = "programs have no control flow that depends on values: compute both and choose with torch.where"


def _input_cause(
    module: nn.Module, inputs: Mapping[str, Tensor], errors: list[BaseException], at: str
) -> str:
    """The cause where forward takes no dict of inputs, or reads a missing input; empty for other errors."""
    text = str(errors[-1])
    if "NoneType" in text or any(isinstance(one, KeyError) for one in errors):
        recorder = _MissingNames(inputs)
        with suppress(Exception), torch.no_grad():
            module(recorder)
        if recorder.missing:
            return _undeclared(recorder.missing[-1], inputs, at)
    one_by_one = any(name in inputs for name in inspect.signature(module.forward).parameters)
    if one_by_one or "not dict" in text or "'dict' object" in text:
        return (
            f"forward{_parameters(module)} is called with one dict of all inputs{at}; write forward(self, inputs) and"
            ' read inputs["history_vectors"] (docs/models.md)'
        )
    return ""


def _operators(module: nn.Module, example: tuple[Any, ...]) -> set[str]:
    """The names of the operators that the module calls in a plain run."""
    called: set[str] = set()

    class Noted(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            called.add(func._schema.name)
            return func(*args, **(kwargs or {}))

    with suppress(Exception), torch.no_grad(), Noted():  # type: ignore[no-untyped-call]
        module(*example)
    return called


def _uncaptured(text: str, at: str) -> str:
    """The cause where torch cannot trace the body of a branch or a loop."""
    name = re.search(r"torch\.ops\.higher_order\.(\w+)", text)
    operator = higher_order_name(name[1]) if name else "an operator that takes a function"
    why = re.search(r"Explanation: (.*)", text)
    hint = re.search(r"Hint: (.*)", text)
    reason = " ".join(part[1].strip().rstrip(".") for part in (why, hint) if part)
    return f"calls {operator}{at}, whose function torch cannot trace: {reason[:_MOST_TEXT]}"


class _MissingNames(dict[str, Any]):
    """A dict that records reads of missing names."""

    def __init__(self, inputs: Mapping[str, Tensor]) -> None:
        super().__init__(inputs)
        self.missing: list[str] = []

    def __missing__(self, name: str) -> Any:
        self.missing.append(name)
        raise KeyError(name)

    def get(self, name: str, default: Any = None) -> Any:
        if name not in self:
            self.missing.append(name)
        return super().get(name, default)


def _undeclared(name: str, inputs: Mapping[str, Tensor], at: str) -> str:
    kind = "fields" if "item_ids" in inputs else "inputs"
    return (
        f"reads the input {name!r}{at}, which it does not get{nearest(name, inputs)}; declare it in the schema,"
        f" [{kind}.{name}], or do not read it"
    )


def _parameters(module: nn.Module) -> str:
    return f"({', '.join(['self', *inspect.signature(module.forward).parameters])})"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yields the error and its causes, the first cause last."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _user_line(frames: list[traceback.FrameSummary]) -> str:
    """The last line of the module's own code among the frames, as text."""
    for frame in reversed(frames):
        if place := place_of(frame.filename, frame.lineno, frame.line or ""):
            return place
    return ""


def place_of(filename: str, number: object, line: str) -> str:
    """A line of user code as " at towers.py:12 `x = x + 1`"; empty for lines of torch and meshfold."""
    path = Path(filename)
    if filename.startswith("<") or any(place in path.parents for place in (_OURS, _TORCHS)):
        return ""
    shown = line.strip()
    return f" at {path.name}:{number}" + (
        f" `{shown[:77]}...`" if len(shown) > 80 else f" `{shown}`" if shown else ""
    )


def _first_line(error: BaseException) -> str:
    first = str(error).strip().partition("\n")[0].strip().rstrip(".;")
    return f"{first:.{_MOST_TEXT}}" or type(error).__name__
