"""Plans as operators write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from meshfold.compat.ramp.plan import EXAMPLE, read_plan
from meshfold.model.errors import InvalidConfig

NEEDED = 'servers = ["127.0.0.1:50052"]\nsurfaces = ["feed"]\npairs = ["pairs"]\nstore = "store"\n'


def plan(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "plan.toml"
    path.write_text(text)
    return path


def test_the_example_is_a_plan(tmp_path: Path) -> None:
    found = read_plan(plan(tmp_path, EXAMPLE))
    assert found.servers == ("127.0.0.1:50052",)
    assert [str(step) for step in found.steps] == [
        *("mirror", "canary 1 %", "canary 5 %", "canary 25 %", "canary 50 %", "serve"),
    ]
    assert found.hold_s == (3600.0,) * 6
    assert found.pairs == (tmp_path / ".meshfold" / "pairs",)
    assert found.log == tmp_path / ".meshfold" / "ramp-log.jsonl"


def test_what_is_left_out_is_as_in_the_example(tmp_path: Path) -> None:
    short, whole = read_plan(plan(tmp_path, NEEDED)), read_plan(plan(tmp_path, EXAMPLE))
    assert (short.steps, short.hold_s, short.state, short.log, short.gate) == (
        *(whole.steps, whole.hold_s, whole.state, whole.log, whole.gate),
    )


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("servers = []", ":1: servers: is empty"),
        ('servers = ["here"]', 'servers."0": must be such as 127.0.0.1:50052'),
        ('servers = ["127.0.0.1:99999"]', 'servers."0": must be such as 127.0.0.1:50052'),
        ('mesh = { tower = "tower" }', ":1: mesh.tower: must be such as tower:50061"),
        ('servers = "127.0.0.1:50052"', ":1: servers: must be a list"),
        ('surfaces = ["feed", "feed"]', ":1: surfaces: has an entry twice"),
        ('steps = ["canary 1", "serve"]', ":1: steps: must begin with mirror"),
        ('steps = ["mirror", "canary 5", "canary 1"]', ":1: steps: must rise from step to step"),
        ('steps = ["mirror", "only"]', "only is the operator's own step"),
        ('steps = ["mirror", "canary 100"]', "serve is for all users"),
        ('steps = ["mirror", "canary 0.00001"]', "at least 0.0001 %"),
        ('steps = ["mirror", "canary 99.9999999"]', "in six digits at most"),
        ('steps = ["mirror", "canery 5"]', "expected mirror, `canary N` with a percentage, or serve"),
        ('steps = ["mesh", "mirror"]', "begin with mirror"),
        ("hold_s = -1", ":1: hold_s: must be from 0"),
        ("hold_s = [1, 2]", ":1: hold_s: must be one number, or one for each of the 6 steps; got 2"),
        ("poll_s = true", ":1: poll_s: must be a number"),
        ("hold = 5", ":1: hold: is not known here; did you mean"),
        ("gate = 5", ":1: gate: must be a table"),
        ("store", "is not a TOML file"),
    ],
)
def test_a_plan_that_does_not_fit_is_told_with_its_line(tmp_path: Path, line: str, told: str) -> None:
    name = line.partition(" ")[0]
    rest = "".join(other for other in NEEDED.splitlines(True) if not other.startswith(name))
    with pytest.raises(InvalidConfig) as error:
        read_plan(plan(tmp_path, f"{line}\n{rest}"))
    assert told in str(error.value)
    assert str(tmp_path / "plan.toml") in str(error.value)


def test_settings_of_the_gate_are_told_with_their_line(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match=r"plan\.toml:5: unknown setting gate\.margn; did you mean"):
        read_plan(plan(tmp_path, f"{NEEDED}[gate]\nmargn = 0.1\n"))
    with pytest.raises(InvalidConfig, match="gate.margin must be over 0"):
        read_plan(plan(tmp_path, f"{NEEDED}[gate]\nmargin = 2.0\n"))


def test_a_plan_that_is_not_there_is_told_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match="meshfold migrate --example"):
        read_plan(tmp_path / "none.toml")
