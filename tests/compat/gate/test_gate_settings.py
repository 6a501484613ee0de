from __future__ import annotations

import math
import tomllib
from typing import Any

import pytest

from meshfold.compat.gate.settings import MARGINED, GateSettings, PrometheusQuery, flags, settings_of
from meshfold.compat.shadow.comparison import Cause
from meshfold.compat.shadow.pair_measures import MEASURES
from meshfold.model.errors import InvalidConfig

WHOLE = """
margin = 0.03
depth = 0
min_users = 50
p99_stop_ms = inf
accepted_causes = ["scores", "cap"]
[measures]
rbo = 0.02
[exposure_margins]
"genres=Drama" = 0.1
[[queries]]
name = "cpu"
url = "http://prometheus:9090"
query = "sum(up)"
at_least = 3
"""


def test_a_table_is_read() -> None:
    settings = settings_of(tomllib.loads(WHOLE), "plan.toml")
    assert settings == GateSettings(
        margin=0.03,
        depth=0,
        min_users=50,
        p99_stop_ms=math.inf,
        measures={"rbo": 0.02},
        exposure_margins={"genres=Drama": 0.1},
        queries=(PrometheusQuery("cpu", "http://prometheus:9090", "sum(up)", at_least=3.0),),
        accepted_causes=(Cause.SCORES, Cause.CAP),
    )
    assert settings.overlap == "overlap@K"
    assert not settings.asks_p99


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ({"marginn": 0.1}, "unknown setting gate.marginn; did you mean 'margin'?"),
        ({"accepted_causes": "scores"}, "gate.accepted_causes must be a list of user_vector, scores,"),
        ({"accepted_causes": ["score"]}, "'score' cannot be accepted; did you mean 'scores'?; possible are"),
        ({"accepted_causes": ["model_filter"]}, "'model_filter' cannot be accepted"),
        ({"accepted_causes": [["scores"]]}, "cannot be accepted"),
        ({"margin": "a"}, "gate.margin must be a number, got 'a'"),
        ({"margin": True}, "gate.margin must be a number, got True"),
        ({"margin": math.nan}, "gate.margin must be over 0 and under 1, got nan"),
        ({"margin": 0.0}, "gate.margin must be over 0 and under 1"),
        ({"depth": 20}, "gate.depth must be 10, 50, 100, or 0"),
        ({"depth": 10.0}, "gate.depth must be a whole number"),
        ({"min_users": 1}, "gate.min_users must be at least 20"),
        ({"errors_stop": 0.01}, "gate.errors_pass must be over errors_stop (0.01)"),
        ({"measures": {"tau": 0.1}}, "unknown measure 'tau'"),
        ({"measures": {"overlap@100": 0.1}}, "set gate.margin"),
        ({"measures": 3}, "gate.measures must be a table"),
        ({"exposure_margins": {"a": 2}}, "gate.exposure_margins.'a' must be over 0"),
        ({"queries": {}}, "[[gate.queries]]"),
        ({"queries": [{"name": "a"}]}, "url is missing"),
        ({"queries": [{"name": "a", "url": "http://x", "query": "up"}]}, "expected at_least, at_most"),
        (
            {"queries": [{"name": "a", "url": "file:///etc", "query": "up", "at_most": 1}]},
            "http://prometheus",
        ),
        (
            {"queries": [{"name": "a", "url": "http://[::1", "query": "up", "at_most": 1}]},
            "http://prometheus",
        ),
        (
            {"queries": [{"name": "a", "url": "http://x:99999", "query": "up", "at_most": 1}]},
            "http://prometheus",
        ),
        ({"queries": [{"name": "a", "url": "http://x", "qery": "up"}]}, "did you mean 'query'?"),
    ],
)
def test_what_does_not_fit_is_told(table: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidConfig) as error:
        settings_of(table, "plan.toml")
    assert told in str(error.value)
    assert str(error.value).startswith("plan.toml: ")


def test_every_number_has_a_flag() -> None:
    numbers = {each.name for each in flags()}
    others = {"measures", "exposure_margins", "queries", "accepted_causes"}
    assert numbers | others == set(GateSettings.__dataclass_fields__)
    assert {each.default for each in flags()} >= {0.02, 100, 0.01}


def test_measures_with_margins_are_measured() -> None:
    assert set(MARGINED) < set(MEASURES)
    assert set(MEASURES) - set(MARGINED) == {
        "tau",
        "first_difference",
        "length_difference",
        "latency_difference_ms",
    }
