"""The lists in pyproject.toml, which are kept by hand."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
ROOMS = ("api", "commands", "compat", "kernels", "model", "protos", "service", "tools")


def test_every_package_is_listed_for_installation() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    there = {
        f"meshfold.{'.'.join(path.parent.relative_to(ROOT).parts)}"
        for room in ROOMS
        for path in (ROOT / room).rglob("__init__.py")
    }
    # The package that `import meshfold` finds lies beside what it offers.
    there = there - {"meshfold.api.meshfold"} | {"meshfold"}
    assert set(project["tool"]["setuptools"]["packages"]) == there


def test_every_dependency_is_pinned_by_the_constraints() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["dev"], *extras["gpu"]]
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {line.partition("==")[0] for line in lines if "==" in line}
    # CUDA builds of torch pin a triton of their own, so that it is held within a range.
    held = pinned | {line.partition(">=")[0] for line in lines if line.startswith("triton>=") and "<" in line}
    # An extra's own packages are constraints of their names.
    assert {name.partition(">=")[0].partition("[")[0] for name in wanted} <= held


def test_every_source_of_the_native_kernels_is_listed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (extension,) = project["tool"]["setuptools"]["ext-modules"]
    for listed, kind in (("sources", "cpp"), ("depends", "h")):
        there = sorted(
            path.relative_to(ROOT).as_posix() for path in (ROOT / "kernels" / "cpp").rglob(f"*.{kind}")
        )
        assert extension[listed] == there


def test_one_wheel_serves_every_python_from_the_oldest_on() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (extension,) = project["tool"]["setuptools"]["ext-modules"]
    oldest = project["project"]["requires-python"].removeprefix(">=").replace(".", "")
    assert extension["py-limited-api"]
    assert project["tool"]["distutils"]["bdist_wheel"]["py_limited_api"] == f"cp{oldest}"
