"""Fast calls of programs: values that depend on weights alone are computed once, and operators are called directly.

After the kernels of a forward pass, Python's look-ups of weights and operators by name miss the caches. Each costs some
microseconds, as much as a small operator.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.fx import Graph, GraphModule, Node, _pytree
from torch.fx.node import map_arg
from torch.utils._pytree import TreeSpec, tree_unflatten

from meshfold.kernels.layers.layers import LAYERS, layers
from meshfold.kernels.layers.layers_int8 import LAYERS_INT8, layers_int8
from meshfold.kernels.layers.weights_int8 import WEIGHTS_INT8, weights_int8
from meshfold.kernels.operation import Operation
from meshfold.model.program_graph import changes_tensors

# Limit in bytes of a computed tensor that is kept between calls.
_KEPT = 16 << 20
# Operations of meshfold, which are called without torch's dispatcher on a CPU.
_OWN: dict[Any, Operation[..., Tensor]] = {
    LAYERS: layers,
    LAYERS_INT8: layers_int8,
    WEIGHTS_INT8: weights_int8,
}


def direct(module: GraphModule) -> Callable[..., Any]:
    """A function that computes the same as the module with its current tensors, for inference without tracing."""
    graph, constants = straight(module)
    run = partial(graph.forward, *constants)
    pytree = getattr(module.graph._codegen, "pytree_info", None)
    return run if pytree is None else _of_trees(run, pytree.in_spec, pytree.out_spec)


def straight(module: GraphModule) -> tuple[GraphModule, list[Any]]:
    """(module of the operations that each call must run, its leading arguments, which are the same for each call)."""
    known = _known(module)
    constants = [node for node in known if any(user not in known for user in node.users)]
    graph = Graph()
    copies = {node: graph.placeholder(f"held_{node.name}") for node in constants}
    for node in module.graph.nodes:
        if node in known:
            continue
        copies[node] = copy = graph.node_copy(node, copies.__getitem__)
        if isinstance(node.target, OpOverload):
            copy.target = _called(node.target)
    return GraphModule({}, graph), [known[node] for node in constants]


def _known(module: GraphModule) -> dict[Node, Any]:
    """The nodes whose tensors are the same for each call, with these tensors."""
    known: dict[Node, Any] = {}
    fixed = not changes_tensors(module.graph)
    for node in module.graph.nodes:
        if node.op == "get_attr":
            tensor: Any = module
            for name in str(node.target).split("."):
                tensor = getattr(tensor, name)
            # detach() makes a plain tensor of an nn.Parameter.
            known[node] = tensor.detach()
        elif fixed and isinstance(node.target, OpOverload) and known.keys() >= set(node.all_input_nodes):
            if torch.Tag.nondeterministic_seeded in node.target.tags:
                continue
            args, kwargs = map_arg((node.args, node.kwargs), known.__getitem__)
            with torch.no_grad():
                made = node.target(*args, **kwargs)
            of_inputs = {known[given].untyped_storage()._cdata for given in node.all_input_nodes}
            if isinstance(made, Tensor) and (
                made.untyped_storage()._cdata in of_inputs or made.untyped_storage().nbytes() <= _KEPT
            ):
                known[node] = made
    return known


def _called(operator: OpOverload[..., Any]) -> Any:
    """An operator as one global name, which shortens the look-up of a call."""
    own = _OWN.get(operator)
    call: Any = partial(operator._op) if own is None else partial(_own, own)
    # The name by which the generated code calls it.
    call.__name__, call.__module__ = str(operator).replace(".", "_"), __name__
    return call


def _own(operation: Operation[..., Tensor], first: Any, *others: Any) -> Tensor:
    """Calls an operation of meshfold. first: a tensor or a list of tensors."""
    tensor = first if isinstance(first, Tensor) else first[0]
    run = operation.on_cpu if tensor.is_cpu else operation.overload
    return run(first, *others)


def _of_trees(run: Callable[..., Any], taken: TreeSpec, given: TreeSpec) -> Callable[..., Any]:
    """A function that converts containers of tensors to the graph's flat arguments, and outputs back."""

    def call(*inputs: Any) -> Any:
        return tree_unflatten(run(*flat(inputs)), given)

    flat: Callable[[Sequence[Any]], Sequence[Any]]
    of_inputs = taken.child(0).children() if taken.num_children else []
    if all(part.is_leaf() for part in of_inputs):
        flat = tuple
    elif (
        len(of_inputs) == 1
        and of_inputs[0].type is dict
        and all(p.is_leaf() for p in of_inputs[0].children())
    ):
        names = list(of_inputs[0].context)
        flat = lambda inputs: [inputs[0][name] for name in names]  # noqa: E731
    else:
        flat = lambda inputs: _pytree.tree_flatten_spec((inputs, {}), taken)  # noqa: E731
    return call
