"""Data that tests share."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

# As service/fork_server.py sets it, before any test imports gRPC.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
# Triton asks for this when it is imported, and other packages import it too. Without a GPU its kernels are interpreted.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

_REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """Threads that wait for one another spin; on a machine with other work that takes ten times as long."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def movielens() -> Path:
    """The folder of MovieLens latest-small; tests of its facts are skipped where it is not there."""
    named = os.environ.get("MESHFOLD_MOVIELENS")
    path = Path(named) if named else _REPOSITORY.parent / "shared" / "data" / "ml-latest-small"
    if not (path / "ratings.csv").is_file():
        pytest.skip(f"MovieLens latest-small is not at {path}; set MESHFOLD_MOVIELENS to its folder")
    return path


@pytest.fixture(scope="session")
def tiny_movielens() -> Path:
    """Five invented movies in the shape of a MovieLens folder."""
    return _REPOSITORY / "tests" / "data" / "tiny" / "movielens"


@pytest.fixture(scope="session")
def tiny_shop() -> Path:
    """Four invented items of a shop with every kind of field, as CSV and a schema file."""
    return _REPOSITORY / "tests" / "data" / "tiny" / "shop"
