"""Lists that are written twice hold the same members."""

from __future__ import annotations

import re
from pathlib import Path

from meshfold.commands.mode import _MODES
from meshfold.compat.migration.migration_service import KINDS
from meshfold.compat.migration.modes import Kind
from meshfold.compat.shadow.attribution.chain import _PRECEDENCE
from meshfold.compat.shadow.comparison import Cause
from meshfold.compat.shadow.report.words import CAUSES
from meshfold.kernels.filter.steps import Op

ROOT = Path(__file__).resolve().parent.parent


def test_modes() -> None:
    assert set(_MODES) == {kind.value for kind in Kind} | {"default"}
    assert set(KINDS) == set(Kind)


def test_causes() -> None:
    assert len(_PRECEDENCE) == len(Cause)
    assert set(_PRECEDENCE) == set(Cause) == {Cause(cause) for cause in CAUSES}


def test_steps_of_filter_programs() -> None:
    native = (ROOT / "kernels" / "cpp" / "filter" / "terms.h").read_text()
    found = re.search(r"enum Op : int64_t \{([^}]*)\}", native)
    assert found
    names = [re.sub(r"(?<!^)(?=[A-Z])", "_", name.strip()[1:]).upper() for name in found[1].split(",")]
    assert names == [op.name for op in sorted(Op)]
    assert [op.value for op in sorted(Op)] == list(range(len(Op)))
