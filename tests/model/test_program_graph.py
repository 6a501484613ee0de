"""What the graph of a program may hold: anything else is refused before any of it runs."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from meshfold.model.errors import SnapshotRefused
from meshfold.model.program import export_program, load_program

GRAPH = "archive/models/model.json"
EXAMPLES = "archive/data/sample_inputs/model.pt"
WEIGHTS = "archive/data/weights/model_weights_config.json"
CONSTANTS = "archive/data/constants/model_constants_config.json"
X = torch.linspace(-1, 1, 4).unsqueeze(0)


class Layers(nn.Module):
    """A parameter and a constant, so that both kinds of tensor are in the archive."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(4, 3)
        self.constant = torch.tensor([2.0, 3.0, 4.0])

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x) * self.constant
        return out


@pytest.fixture(scope="module")
def program() -> bytes:
    return export_program(Layers(), (X,))


@pytest.fixture
def nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each way to unpickle fails the test."""

    def refuse(*_: object, **__: object) -> None:
        pytest.fail("something was unpickled")

    for module, name in (
        (pickle, "load"),
        (pickle, "loads"),
        (pickle, "Unpickler"),
        (torch, "load"),
        (torch._C, "_pickle_load_obj"),
    ):
        monkeypatch.setattr(module, name, refuse)


def entries(program: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(program)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(held: Mapping[str, bytes]) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        for name, data in held.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return written.getvalue()


def with_entry(program: bytes, name: str, data: bytes) -> bytes:
    return packed({**entries(program), name: data})


Change = Callable[[Any], object]


def with_json(program: bytes, name: str, change: Change) -> bytes:
    held = json.loads(entries(program)[name])
    change(held)
    return with_entry(program, name, json.dumps(held).encode())


def node(graph: Any) -> Any:
    return graph["graph_module"]["graph"]["nodes"][0]


def signature(graph: Any) -> Any:
    return graph["graph_module"]["module_call_graph"][0]["signature"]


def first_weight(config: Any) -> Any:
    return next(iter(config["config"].values()))


def renamed_input(graph: Any) -> None:
    """The name of an input as code: it would stand in the forward that is written for the graph."""
    name = "x=__import__('pytest').fail('a name was run')"
    text = json.dumps(graph["graph_module"])
    given = graph["graph_module"]["graph"]["inputs"][-1]["as_tensor"]["name"]
    graph["graph_module"] = json.loads(text.replace(f'"{given}"', json.dumps(name)))
    for n in graph["graph_module"]["graph"]["nodes"]:
        for i in n["inputs"]:
            i["name"] = "input" if i["name"] == name else i["name"]


TARGETS = [
    "torch.hub.load",
    "torch.load",
    "torch.ops.load_library",
    "torch.ops.aten",
    "torch.ops.aten.save.default",
    "torch.ops.aten.from_file.default",
    "torch.ops.aten.manual_seed.default",
    "torch.ops.aten.linear",
    "torch.ops.aten.linear.default.__class__",
    "torch.ops.aten.__getattr__.__globals__.get",
    "torch.ops.prim.Print.default",
    "torch.ops.higher_order.cond",
    "_operator.call",
    "_operator.methodcaller",
    "_operator.attrgetter",
    "math.sqrt",
    "builtins.eval",
    "os.system",
    "#extension",
]


@pytest.mark.usefixtures("nothing_runs")
@pytest.mark.parametrize("target", [*TARGETS, ""])
def test_what_is_no_operator_of_tensors_is_refused(program: bytes, target: str) -> None:
    evil = with_json(program, GRAPH, lambda graph: node(graph).update(target=target))
    with pytest.raises(SnapshotRefused, match="which is no tensor operator"):
        load_program(evil, "x")


def tree(context: str, kind: str | None = "builtins.dict") -> str:
    leaf: dict[str, object] = {"type": None, "context": None, "children_spec": []}
    return json.dumps([1, {"type": kind, "context": context, "children_spec": [leaf]}])


FACTORY = {"default_factory_module": "this", "default_factory_name": "d", "dict_context": ["a"]}
CHANGES: dict[str, tuple[str, Change, str]] = {
    "weights that are pickled": (
        WEIGHTS,
        lambda c: first_weight(c).update(use_pickle=True),
        "pickled; programs hold raw tensors",
    ),
    "constants that are pickled": (
        CONSTANTS,
        lambda c: first_weight(c).update(use_pickle=True),
        "pickled; programs hold raw tensors",
    ),
    "an object among the constants": (
        CONSTANTS,
        lambda c: first_weight(c).update(path_name="opaque_obj_0"),
        "pickled; programs hold raw tensors",
    ),
    "guards": (GRAPH, lambda g: g.update(guards_code=["print(1)"]), "guards or symbolic shapes"),
    "ranges": (GRAPH, lambda g: g.update(range_constraints={"s0": {}}), "guards or symbolic shapes"),
    "a symbolic size": (
        GRAPH,
        lambda g: g["graph_module"]["graph"]["tensor_values"]["x"]["sizes"].append(
            {"as_expr": {"expr_str": "__import__('pytest').fail('run')", "hint": None}}
        ),
        "holds expr_str; programs have fixed shapes",
    ),
    "a symbolic argument": (
        GRAPH,
        lambda g: node(g)["inputs"].append({"name": "n", "arg": {"as_sym_int": {"as_name": "s"}}, "kind": 1}),
        "holds as_sym_int; programs have fixed shapes",
    ),
    "an inner graph": (
        GRAPH,
        lambda g: node(g)["inputs"].append({"name": "n", "arg": {"as_graph": {}}, "kind": 1}),
        "holds as_graph",
    ),
    "metadata": (GRAPH, lambda g: node(g).update(metadata={"stack_trace": "x"}), "holds metadata"),
    "an enum that names a module": (
        GRAPH,
        lambda g: signature(g).update(
            out_spec=tree(json.dumps({"__enum__": 1, "fqn": "this:d", "name": "a"}))
        ),
        "more than tuples, lists and dicts",
    ),
    "a factory that names a module": (
        GRAPH,
        lambda g: signature(g).update(out_spec=tree(json.dumps(FACTORY), "collections.defaultdict")),
        "more than tuples, lists and dicts",
    ),
    "a name that is code": (GRAPH, renamed_input, "programs have plain names"),
    "an argument that is code": (
        GRAPH,
        lambda g: signature(g).update(forward_arg_names=["x=__import__('pytest').fail('run')"]),
        "programs have plain names",
    ),
    "another version of the format": (
        GRAPH,
        lambda g: g.update(schema_version={"major": 99, "minor": 0}),
        "",
    ),
    "a graph without nodes": (GRAPH, lambda g: g["graph_module"].pop("graph"), ""),
    "a tensor beyond its file": (
        WEIGHTS,
        lambda c: first_weight(c)["tensor_meta"].update(storage_offset={"as_int": 1 << 20}),
        "",
    ),
    "a tensor that is not there": (WEIGHTS, lambda c: c["config"].clear(), ""),
}


@pytest.mark.usefixtures("nothing_runs")
@pytest.mark.parametrize("what", CHANGES)
def test_a_graph_with_more_than_a_graph_is_refused(program: bytes, what: str) -> None:
    entry, change, message = CHANGES[what]
    with pytest.raises(SnapshotRefused, match=f"^where: .*{message}"):
        load_program(with_json(program, entry, change), "where")
