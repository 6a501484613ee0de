from __future__ import annotations

import json
import math
from typing import Any

import pytest

from meshfold.compat.gate.verdict import Decision, Reason, Verdict, decision_of, ordered

REASONS = (
    Reason("errors", Decision.NO, "too many", 0.01, 0.005, math.inf, 0.001),
    Reason("p99", Decision.NOT_ENOUGH, "wait"),
    Reason("overlap@100", Decision.YES, "fine", -0.01, -0.02, 0.0, -0.05),
)
VERDICT = Verdict("shop", Decision.NO, REASONS, 10, 5, 3, 1, 2)


def test_json_gives_the_verdict_back() -> None:
    told = Verdict.from_json(json.loads(json.dumps(VERDICT.to_json(), allow_nan=False)))
    assert told.reasons[2] == REASONS[2]
    assert math.isnan(told.reasons[0].high)
    assert told.to_json() == VERDICT.to_json()


@pytest.mark.parametrize(
    "change",
    [
        {"pairs": -1},
        {"pairs": True},
        {"decision": "perhaps"},
        {"reasons": {}},
        {"reasons": [3]},
        {"more": 1},
        {"surface": 3},
    ],
)
def test_another_document_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must|expected|valid"):
        Verdict.from_json(VERDICT.to_json() | change)
    reason = REASONS[0].to_json() | {"value": "1"}
    with pytest.raises(ValueError, match="value must be a number"):
        Reason.from_json(reason)


def test_what_stops_comes_first() -> None:
    assert ordered(list(reversed(REASONS))) == REASONS
    assert decision_of(REASONS) is Decision.NO
    assert decision_of(REASONS[1:]) is Decision.NOT_ENOUGH
    assert decision_of(REASONS[2:]) is Decision.YES
    assert decision_of(()) is Decision.NOT_ENOUGH
