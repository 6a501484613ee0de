"""Rewriting of programs' graphs: for fast runs, and back for publication."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.fx import Graph, GraphModule, Node
from torch.fx.node import Argument, map_aggregate, map_arg

from meshfold.kernels.layers.layers import FEW_ROWS, LAYERS, fit
from meshfold.kernels.layers.layers_int8 import FINE_COLUMNS, LAYERS_INT8, MOST_COLUMNS
from meshfold.kernels.layers.weights_int8 import WEIGHTS_INT8

_aten = torch.ops.aten


def fastest(module: GraphModule) -> None:
    """Replaces linear layers by meshfold's kernel, and removes assertions about the program's own tensors."""
    _own_constants(module)
    graph = module.graph
    for node in list(graph.nodes):
        # Below FEW_ROWS the kernel would call torch anyway.
        if node.target is _aten.linear.default and node.meta["val"].shape[:-1].numel() >= FEW_ROWS:
            _as_layers(node)
        elif node.target is _aten._assert_tensor_metadata.default:
            graph.erase_node(node)
    # Operators must not be moved where a tensor may be changed in place.
    if not changes_tensors(graph):
        for node in list(graph.nodes):
            if node.target is LAYERS:
                _join(node)
    module.recompile()


def in_integers(module: GraphModule) -> int:
    """Switches the kernel's linear layers to integer multiplication. Returns their number.

    A step of its own converts weights to codes. It runs once for the program's own weights, and once a query for
    weights that depend on the user.
    """
    graph, count = module.graph, 0
    for node in list(graph.nodes):
        if node.target is not LAYERS:
            continue
        inputs, weights, biases, relus = _args(node)
        given = [x.meta["val"] for x in inputs]
        values = [weight.meta["val"] for weight in weights]
        columns = [x.shape[-1] for x in given]
        widths = [sum(columns), *(value.shape[0] for value in values)]
        fits = fit(given, values, [bias and bias.meta["val"] for bias in biases])
        if not fits or min(columns) < 1 or not 1 <= min(widths) <= max(widths) <= MOST_COLUMNS:
            continue
        with graph.inserting_before(node):
            codes = [
                _called(graph, WEIGHTS_INT8, (weight, columns if layer == 0 else [widths[layer]]))
                for layer, weight in enumerate(weights)
            ]
        node.target, node.args = LAYERS_INT8, (inputs, [None] * len(inputs), codes, biases, relus)
        count += len(weights)
    module.recompile()
    return count


def take_codes(module: GraphModule, place: int) -> bool:
    """Replaces the input at a place, [..., N] float32, by two inputs: codes [..., N] int8 and peaks [...] float32.

    Returns False and changes nothing where an operator other than an integer layer reads the input, or where N is at
    most FINE_COLUMNS, for which layers read more than the codes.
    """
    graph = module.graph
    given = [node for node in graph.nodes if node.op == "placeholder"][place]
    read = all(user.target is LAYERS_INT8 and given in _args(user)[0] for user in given.users)
    if not given.users or not read or given.meta["val"].shape[-1] <= FINE_COLUMNS:
        return False
    value = given.meta["val"]
    with graph.inserting_after(given):
        peaks = graph.placeholder(f"{given.name}_peaks")
    with value.fake_mode:
        given.meta["val"], peaks.meta["val"] = value.to(torch.int8), value.new_empty(value.shape[:-1])
    for user in list(given.users):
        inputs, own_peaks, *others = _args(user)
        user.args = (
            inputs,
            [peaks if x is given else peak for x, peak in zip(inputs, own_peaks, strict=True)],
            *others,
        )
    module.recompile()
    return True


def portable(graph: Graph) -> None:
    """Undoes fastest(), for an export that includes a loaded program."""
    for node in list(graph.nodes):
        if node.target is LAYERS:
            inputs, weights, biases, relus = _args(node)
            with graph.inserting_before(node):
                x = inputs[0] if len(inputs) == 1 else _called(graph, _aten.cat.default, (list(inputs), -1))
                steps: list[tuple[Any, tuple[Any, ...]]] = []
                for weight, bias, relu in zip(weights, biases, relus, strict=True):
                    steps.append((_aten.linear.default, (weight, bias)))
                    if relu:
                        steps.append((_aten.relu.default, ()))
                *before, (target, rest) = steps
                for inner, arguments in before:
                    x = _called(graph, inner, (x, *arguments))
            # The node itself stays the last one, because signatures refer to its name.
            node.target, node.args = target, (x, *rest)


def move(module: GraphModule, device: torch.device) -> None:
    """Rewrites the graph to create its tensors on a device."""

    def moved(argument: Argument) -> Argument:
        return device if isinstance(argument, torch.device) else argument

    for node in module.graph.nodes:
        node.args, node.kwargs = map_aggregate((node.args, node.kwargs), moved)
    module.recompile()


def halves(module: GraphModule) -> tuple[GraphModule, GraphModule]:
    """Splits off the part that depends on the first input alone: second(*first(a), b, c) is module(a, b, c).

    The module must take tensors and return one.
    """
    nodes = list(module.graph.nodes)
    given, *others = (node for node in nodes if node.op == "placeholder")
    whole = changes_tensors(module.graph)
    late = set(others)
    for node in nodes:
        computed = node.op not in ("placeholder", "get_attr")
        if computed and (whole or node.op == "output" or not late.isdisjoint(node.all_input_nodes)):
            late.add(node)
    # Own tensors of the program that both parts read are copied into both.
    early = [
        node
        for node in nodes
        if node not in late and (node.op != "get_attr" or not late.issuperset(node.users))
    ]
    passed = [node for node in early if node.op != "get_attr" and not late.isdisjoint(node.users)]

    first, second = Graph(), Graph()
    copies: dict[Node, Node] = {}
    for node in early:
        copies[node] = first.node_copy(node, copies.__getitem__)
    first.output(tuple(copies[node] for node in passed))

    copies = {node: second.placeholder(node.name) for node in (*passed, *others)}
    for node, copy in copies.items():
        copy.meta = dict(node.meta)
    for node in nodes:
        if node.op == "output":
            (result,) = _args(node)[0]
            second.output(copies[result])
        elif node not in copies and (
            node in late or (node.op == "get_attr" and not late.isdisjoint(node.users))
        ):
            copies[node] = second.node_copy(node, copies.__getitem__)
    return GraphModule(module, first), GraphModule(module, second)


def _as_layers(node: Node) -> None:
    """Joins a linear layer and the relu that follows it."""
    users = list(node.users)
    relu = len(users) == 1 and users[0].target is _aten.relu.default
    x, weight, *bias = _args(node)
    node.target, node.args = LAYERS, ([x], [weight], bias or [None], [relu])
    if relu:
        users[0].replace_all_uses_with(node)
        node.graph.erase_node(users[0])


def _join(node: Node) -> None:
    """Joins a node with nodes that only it reads: the layers before it, or the concatenation of its inputs."""
    (x,), *own = _args(node)
    if x.target is LAYERS and set(x.users) == {node}:
        inputs, *before = _args(x)
        node.args = (inputs, *([*a, *b] for a, b in zip(before, own, strict=True)))
    elif x.target is _aten.cat.default and set(x.users) == {node} and _last_dimension(x):
        node.args = (_args(x)[0], *own)
    else:
        return
    node.graph.erase_node(x)


def _last_dimension(cat: Node) -> bool:
    tensors, dimension = (*_args(cat), 0)[:2]
    # cat skips empty tensors with other numbers of dimensions.
    sizes = {tensor.meta["val"].dim() for tensor in tensors}
    return len(sizes) == 1 and dimension in (-1, sizes.pop() - 1)


def changes_tensors(graph: Graph) -> bool:
    """Whether a graph changes any tensor in place."""
    return any(isinstance(node.target, OpOverload) and node.target._schema.is_mutable for node in graph.nodes)


def random_operators(graph: Graph) -> list[str]:
    """The names of operators that draw random numbers; dropout counts where it is active."""
    found = []
    for node in graph.nodes:
        if isinstance(node.target, OpOverload) and torch.Tag.nondeterministic_seeded in node.target.tags:
            # Dropout in eval mode is in the graph but inactive.
            flags = {a.name: place for place, a in enumerate(node.target._schema.arguments)}
            place = flags.get("train", flags.get("training", len(node.args)))
            if place >= len(node.args) or node.args[place] is not False:
                found.append(node.target._schema.name.removeprefix("aten::"))
    return list(dict.fromkeys(found))


def is_half(graph: Graph) -> bool:
    """Whether a graph has any tensor of 16-bit floats."""
    halves = (torch.float16, torch.bfloat16)
    return any(getattr(node.meta.get("val"), "dtype", None) in halves for node in graph.nodes)


def _args(node: Node) -> Any:
    """The arguments of a node as Any, for the operator determines their types."""
    return node.args


def _called(graph: Graph, target: Any, arguments: tuple[Any, ...]) -> Node:
    """A new call node with the shape of its result, which archives need."""
    node = graph.call_function(target, arguments)
    values: Any = map_arg(arguments, lambda argument: argument.meta["val"])
    mode = node.all_input_nodes[0].meta["val"].fake_mode
    with mode:
        node.meta["val"] = target(*values)
    return node


def _own_constants(module: GraphModule) -> None:
    """Turns constants into buffers, which move with the module. torch.export leaves them as plain attributes."""
    for part in module.modules():
        for name, value in list(vars(part).items()):
            if isinstance(value, Tensor):
                delattr(part, name)
                part.register_buffer(name, value, persistent=False)
