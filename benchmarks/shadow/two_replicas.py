"""A mesh with two retrieval replicas whose k-means have other seeds, so that it differs from itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.processes import running

SEEDS = (0, 1)
# A busy machine makes answers late, and no service refuses a call for it.
PATIENCE_S = 30


@contextmanager
def two_replicas_up(store: Path, work: Path) -> Iterator[str]:
    """The orchestrator's address, until the block ends. work: where the mesh's indices and logs lie."""
    with ExitStack() as stack:

        def run(service: str, *flags: str, name: str = "") -> str:
            """The address of a service of the mesh."""
            shared: list[str | Path] = ["--store", store, "--indices", work / "indices", "--json"]
            shared += ["--address", "127.0.0.1:0", f"--queue-s={PATIENCE_S}", f"--timeout={PATIENCE_S}"]
            said = stack.enter_context(
                running(["mesh", "run", service, *shared, *flags], "{", work / f"{name or service}.log")
            )
            address: str = json.loads(said.splitlines()[-1])["address"]
            return address

        tower, scoring = run("tower"), run("scoring")
        replicas = [run("retrieval", f"--seed={seed}", name=f"retrieval-{seed}") for seed in SEEDS]
        # gRPC's own words for several addresses, in turn.
        behind = (f"--tower={tower}", f"--retrieval=ipv4:{','.join(replicas)}", f"--scoring={scoring}")
        yield run("orchestrator", *behind)
