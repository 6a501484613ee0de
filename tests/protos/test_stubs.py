"""protos/ as every protoc reads it, and stubs that a caller made of it beside those of the installed package."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

PROTOS = Path(__file__).parent.parent.parent / "protos"
FILES = sorted(path.relative_to(PROTOS).as_posix() for path in PROTOS.rglob("*.proto"))

# A caller with its own stubs, and with the client and the adapters of the package, in one process.
CALLER = """
import sys

def own():
    from mesh.v1 import orchestrator_pb2, orchestrator_pb2_grpc, types_pb2, user_tower_pb2
    from meshfold.v1 import migration_pb2, recording_pb2, retrieval_pb2, retrieval_pb2_grpc
    return orchestrator_pb2.RetrieveRequest, orchestrator_pb2.RetrieveResponse

def package():
    from meshfold.compat import client, meshfold_v1
    from meshfold.compat.mesh_v1 import retrieve
    from meshfold.protos.mesh.v1 import scoring_pb2
    return retrieve

if sys.argv[1] == "own first":
    (Request, Response), retrieve = own(), package()
else:
    retrieve, (Request, Response) = package(), own()
import numpy as np
from meshfold.model.types import Candidates
assert sys.modules["mesh.v1.types_pb2"].__file__ != sys.modules["meshfold.protos.mesh.v1.types_pb2"].__file__
request = Request(surface="shop", user={"user_key": "AE22", "history_keys": ["a"]}, max_results=3)
query = retrieve.decode(request.SerializeToString())
assert (query.surface, query.user_id, query.history) == ("shop", "AE22", ("a",)), query
one = np.ones(1, np.float32)
answer = Response.FromString(retrieve.encode(query, Candidates(("like",), "v", ("b",), one, one, one[None])))
print(answer.candidates[0].item_key, answer.versions.index)
"""


def test_imports_begin_at_the_root_of_the_protos() -> None:
    assert len(FILES) >= 8
    for file in FILES:
        for imported in re.findall(r'^import "(.*)";', (PROTOS / file).read_text(), re.MULTILINE):
            assert (PROTOS / imported).is_file(), f"{file} imports {imported}"


@pytest.mark.parametrize("file", FILES)
def test_the_packages_stubs_name_files_as_every_protoc_does(file: str) -> None:
    name = file.removesuffix(".proto").replace("/", ".")
    module = importlib.import_module(f"meshfold.protos.{name}_pb2")
    assert file == module.DESCRIPTOR.name
    for message in module.DESCRIPTOR.message_types_by_name:
        assert getattr(module, message).__module__ == module.__name__


@pytest.mark.parametrize("order", ["own first", "package first"])
def test_a_callers_own_stubs_work_beside_the_package(order: str, tmp_path: Path) -> None:
    for path in PROTOS.rglob("*_pb2*.py"):
        # What protoc makes before `make protos` renames modules into the package; `make check` compares the two.
        made = path.read_text().replace("meshfold.protos.", "")
        out = tmp_path / path.relative_to(PROTOS)
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(made)
    told = subprocess.run(
        [sys.executable, "-c", CALLER, order],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (told.returncode, told.stdout) == (0, "b v\n"), told.stderr
