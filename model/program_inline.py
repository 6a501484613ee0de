"""Inlines higher-order operators of torch.export, which have graphs of their own, into one graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from operator import getitem
from typing import Any

import torch
from torch import Tensor, nn
from torch._higher_order_ops.flex_attention import sdpa_dense
from torch._ops import HigherOrderOperator, OpOverload
from torch.export import ExportedProgram
from torch.fx import GraphModule, Interpreter, Node

from meshfold.model.errors import InvalidData

# Limit of operators of an unrolled loop.
_MOST_OPERATORS = 4096

# Names of higher-order operators in Python, by torch's name.
_NAMES = {
    "cond": "torch.cond",
    "flex_attention": "torch.nn.attention.flex_attention",
    "wrap_with_autocast": "torch.autocast",
    "wrap_with_set_grad_enabled": "torch.set_grad_enabled",
    "map_impl": "torch map (torch._higher_order_ops.map)",
    "scan": "torch scan (torch._higher_order_ops.scan)",
    "associative_scan": "torch associative_scan (torch._higher_order_ops.associative_scan)",
    "while_loop": "torch.while_loop",
    "while_loop_stack_output": "torch.while_loop",
    "triton_kernel_wrapper_functional": "a Triton kernel",
    "triton_kernel_wrapper_mutation": "a Triton kernel",
    "call_torchbind": "a TorchScript object",
    "auto_functionalized": "an operator of its own that changes tensors",
    "auto_functionalized_v2": "an operator of its own that changes tensors",
    "print": "torch print (torch._higher_order_ops.print)",
}
_REMEDIES = {
    "while_loop": "run a fixed number of steps in a Python loop, and keep what is done with torch.where",
    "while_loop_stack_output": "run a fixed number of steps in a Python loop, and keep what is done with torch.where",
    "triton_kernel_wrapper_functional": "write it in torch's operators",
    "triton_kernel_wrapper_mutation": "write it in torch's operators",
    "call_torchbind": "keep its numbers in buffers and write it in torch's operators",
    "print": "take it out of forward",
}


def inlined(exported: ExportedProgram, example: tuple[Any, ...]) -> ExportedProgram:
    """The same program without higher-order operators; the program itself where it has none.

    Switches of gradients, checkpoints and a disabled autocast have no effect at inference and are dropped. An enabled
    autocast becomes its casts, and torch.vmap its operators. torch.cond computes both branches and selects one. Loops
    of a fixed number of steps are unrolled. flex_attention becomes matrix products. Raises InvalidData that names the
    operator for all others.
    """
    for operator in _higher_order(exported.graph_module):
        if str(operator) not in _WAYS:
            raise InvalidData(_refusal(str(operator)))
    if all(map(_is_plain, exported.graph.nodes)):
        return exported
    _drop_assertions(exported.graph_module)
    if any(_higher_order(exported.graph_module)):
        exported = torch.export.export(_Flat(exported.module(check_guards=False)), example)
    if not all(map(_is_plain, exported.graph.nodes)):
        # This makes the effects of autocast and vmap explicit; torch.export's graph does not contain them.
        _drop_assertions(exported.graph_module)
        exported = exported.run_decompositions({})
    return exported


def _drop_assertions(module: GraphModule) -> None:
    """Removes torch's assertions of dtypes, which may not hold within an autocast."""
    for part in module.modules():
        if isinstance(part, GraphModule):
            for node in list(part.graph.nodes):
                if node.target is torch.ops.aten._assert_tensor_metadata.default:
                    part.graph.erase_node(node)
            part.recompile()


def _is_plain(node: Node) -> bool:
    """Whether the node is no call, calls an operator, or takes one of an operator's outputs."""
    return node.op != "call_function" or isinstance(node.target, OpOverload) or node.target is getitem


def _higher_order(module: GraphModule) -> Iterator[HigherOrderOperator]:
    """Yields the higher-order operators of the graph and of the graphs inside it."""
    for part in module.modules():
        if isinstance(part, GraphModule):
            for node in part.graph.nodes:
                if isinstance(node.target, HigherOrderOperator):
                    yield node.target


def higher_order_name(name: str) -> str:
    """Python's name of an operator, by torch's name."""
    return _NAMES.get(name, f"torch's {name}")


def _refusal(name: str) -> str:
    remedy = _REMEDIES.get(name, "take it out of forward")
    return f"calls {higher_order_name(name)}, which programs do not hold; {remedy}"


class _Flat(nn.Module):
    """Runs a graph with the inner graphs of higher-order operators inlined."""

    def __init__(self, graph: GraphModule) -> None:
        super().__init__()
        self.inner = graph

    def forward(self, *inputs: Any) -> Any:
        return _Inliner(self.inner).run(*inputs)


class _Inliner(Interpreter):
    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if isinstance(target, HigherOrderOperator):
            return _WAYS[str(target)](*args, **kwargs)
        return super().call_function(target, args, kwargs)


def _run(body: GraphModule, *operands: Any) -> Any:
    return _Inliner(body).run(*operands)


def _autocast(
    device: str,
    dtype: torch.dtype | None,
    enabled: bool,
    cached: bool | None,
    body: GraphModule,
    *operands: Any,
) -> Any:
    # Modules are exported on a CPU, where casts for other devices have no effect.
    if device != "cpu" or not (enabled or torch.is_autocast_enabled("cpu")):
        return _run(body, *operands)
    with torch.autocast("cpu", dtype, enabled, cached):
        return _run(body, *operands)


def _cond(chosen: Tensor | bool, yes: GraphModule, no: GraphModule, operands: Sequence[Any]) -> Any:
    if not isinstance(chosen, Tensor):
        return _run(yes if chosen else no, *operands)
    pairs = zip(_run(yes, *operands), _run(no, *operands), strict=True)
    return tuple(torch.where(chosen.reshape(()), a, b) for a, b in pairs)


def _map(body: GraphModule, given: Sequence[Tensor], others: Sequence[Any]) -> Any:
    steps = _steps(given[0].shape[0], body)
    made = [_run(body, *(x[i] for x in given), *others) for i in steps]
    return tuple(torch.stack(parts) for parts in zip(*made, strict=True))


def _scan(body: GraphModule, start: Sequence[Any], given: Sequence[Tensor], others: Sequence[Any]) -> Any:
    carried, made = list(start), []
    for i in _steps(given[0].shape[0], body):
        out = list(_run(body, *carried, *(x[i] for x in given), *others))
        carried = out[: len(start)]
        made.append(out[len(start) :])
    return (*carried, *(torch.stack(parts) for parts in zip(*made, strict=True)))


def _associative_scan(body: GraphModule, given: Sequence[Tensor], others: Sequence[Any]) -> Any:
    made = [[x[0] for x in given]]
    for i in _steps(given[0].shape[0], body)[1:]:
        made.append(list(_run(body, *made[-1], *(x[i] for x in given), *others)))
    return tuple(torch.stack(parts) for parts in zip(*made, strict=True))


def _flex_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    score: GraphModule,
    block_mask: tuple[Any, ...],
    scale: float,
    options: dict[str, Any],
    score_buffers: tuple[Any, ...] = (),
    mask_buffers: tuple[Any, ...] = (),
) -> Any:
    *blocks, mask = block_mask
    bodies = [lambda *given, body=body: _run(body, *given) for body in (score, mask)]
    return sdpa_dense(
        *(query, key, value, bodies[0], (*blocks, bodies[1]), scale, options, score_buffers, mask_buffers)
    )


def _steps(count: int, body: GraphModule) -> range:
    operators = count * sum(node.op == "call_function" for node in body.graph.nodes)
    if operators > _MOST_OPERATORS:
        raise InvalidData(
            f"loops over {count} steps, {operators} operators when unrolled; programs hold at most"
            f" {_MOST_OPERATORS} of a loop: compute the steps as tensors"
        )
    return range(count)


# Implementations of higher-order operators, by torch's name.
_WAYS: dict[str, Callable[..., Any]] = {
    "wrap_with_autocast": _autocast,
    "wrap_with_set_grad_enabled": lambda enabled, body, *operands: _run(body, *operands),
    "tag_activation_checkpoint": lambda body, *operands, **options: _run(body, *operands),
    "wrap_activation_checkpoint": lambda body, *operands, **options: _run(body, *operands),
    "wrap": _run,
    "invoke_subgraph": lambda body, name, *operands: _run(body, *operands),
    "strict_mode": lambda body, operands: _run(body, *operands),
    "hints_wrapper": lambda body, operands, named, hints: _run(body, *operands, *named.values()),
    "cond": _cond,
    "map_impl": _map,
    "scan": _scan,
    "associative_scan": _associative_scan,
    "flex_attention": _flex_attention,
}
