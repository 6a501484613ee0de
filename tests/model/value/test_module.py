import subprocess
import sys

import torch

from meshfold.model.schema import Field, FieldKind, Schema
from meshfold.model.value.config import ValueConfig, Weight
from meshfold.model.value.formulas import padded
from meshfold.model.value.module import ValueModel
from meshfold.model.value.program import compile_formulas

SCHEMA = Schema(
    "movies", (Field("year", FieldKind.INTEGER), Field("price", FieldKind.NUMBER)), ("watch", "like")
)
SURFACE = compile_formulas(
    SCHEMA,
    ValueConfig(
        {
            "recent": "year >= 1990 ? weights.like * like + 0.3 * watch : 0.2 * watch",
            "fresh": "similarity * exp(-(2024 - year) / 30) + log(price) / sqrt(price - 5)",
        },
        weights={"like": Weight(0.7, 0.0, 2.0)},
    ),
)


def test_the_formula_of_the_pages() -> None:
    steps, constants = map(torch.from_numpy, padded([SURFACE.prepare("recent", {"like": 0.5}, {})]))
    assert SURFACE.fields == ("year", "price")
    values = ValueModel()(
        steps,
        constants,
        torch.tensor([[[1.0, 2.0, 3.0], [4.0, 8.0, 16.0]]]),
        torch.zeros((1, 3)),
        torch.tensor([[[1989.0, 1990.0, 2000.0], [0.0, 0.0, 0.0]]], dtype=torch.float64),
        torch.tensor([[[True, True, False], [False, False, False]]]),
    )
    assert values.tolist() == torch.tensor([[0.2, 0.3 * 2 + 0.5 * 8, 0.2 * 3]]).tolist()


def test_a_query_gets_the_same_bytes_in_any_batch_and_place() -> None:
    torch.manual_seed(0)
    names = ["recent", "fresh", "similarity", "recent", "fresh"]
    m = 1023
    queries = [SURFACE.prepare(name, {}, {}) for name in names]
    scores, similarities = torch.randn(5, 2, m), torch.randn(5, m)
    fields = torch.stack([torch.randint(1900, 2030, (5, m)).double(), torch.rand(5, m).double() * 20], 1)
    present = torch.rand(5, 2, m) < 0.9
    inputs = [scores, similarities, fields, present]
    model = ValueModel()
    together = model(*map(torch.from_numpy, padded(queries)), *inputs)
    assert together.isfinite().all()
    assert together.unique().numel() > 3 * m
    order = torch.randperm(m)
    for i, query in enumerate(queries):
        program = [*map(torch.from_numpy, padded([query]))]
        own = [each[i : i + 1] for each in inputs]
        assert torch.equal(model(*program, *own)[0], together[i])
        shuffled = model(*program, *(each[..., order] for each in own))
        assert torch.equal(shuffled[0], together[i, order])
        short = model(*program, *(each[..., :7] for each in own))
        assert torch.equal(short[0], together[i, :7])


def test_similarity_is_the_similarity() -> None:
    queries = padded([SURFACE.prepare("similarity", {}, {})])
    similarities = torch.tensor([[0.1, -0.0, float("nan"), float("inf"), 1e-45]])
    none = torch.zeros((1, 2, 5))
    values = ValueModel()(*map(torch.from_numpy, queries), none, similarities, none.double(), none.bool())
    largest = torch.finfo(torch.float32).max
    assert torch.equal(values, torch.tensor([[0.1, 0.0, 0.0, largest, 1e-45]]))


_SERVING = """
import sys
from meshfold.model.value.formulas import ValueFormulas
from meshfold.model.value.module import ValueModel
assert "celpy" not in sys.modules and "lark" not in sys.modules
assert "meshfold.model.value.text" not in sys.modules
"""


def test_serving_needs_no_parser() -> None:
    subprocess.run([sys.executable, "-c", _SERVING], check=True, timeout=120)
