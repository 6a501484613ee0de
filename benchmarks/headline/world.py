"""The world of the headline: one catalog with trained weights, with OverArch and without, and requests for it.

    python -m benchmarks.headline.world --home build/headline --items 1000000

Made once and kept. The share of best results that the OverArch changes is printed and kept beside the snapshots.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.arguments import arguments
from benchmarks.headline.catalog import SURFACE, catalog_of, filter_of
from meshfold.commands import console
from meshfold.model.data.catalog import Catalog
from meshfold.model.progress import Progress

if TYPE_CHECKING:
    from meshfold.model.store import Store

# Target of the model's index; see IndexConfig.
TARGET_RECALL = 0.98
# Target of the mesh's index: recall of whole answers is then the model's or a little less (recall.py).
MESH_RECALL = 0.96
RESULTS = 1000
REQUESTS = 1000
# Least share of best results that the OverArch must change.
LEAST_CHANGED = 0.2
_HELD_OUT_USERS = 100
# Fewer items are a try, for which little is learned.
_SMALL_ITEMS = 100_000
RANKED, PLAIN = "ranked", "plain"


@dataclass(frozen=True)
class HeadlineWorld:
    """work: the folder below which worlds are kept. items, dimension: of the catalog."""

    work: Path
    items: int = 1_000_000
    dimension: int = 128

    @property
    def home(self) -> Path:
        return self.work / f"{self.items}x{self.dimension}"

    def store(self, kind: str) -> Path:
        """kind: RANKED, with an OverArch, or PLAIN, the same catalog without."""
        return self.home / kind

    @property
    def facts(self) -> dict[str, Any]:
        """Facts measured while it was made."""
        told: dict[str, Any] = json.loads((self.home / "made.json").read_text("utf-8"))
        return told

    def messages(self, results: int = RESULTS) -> Path:
        """Requests with histories, every second with a filter. results: maximum of each request."""
        path = self.home / f"requests-{results}.messages"
        if not path.exists():
            _write_requests(path, self.home / "histories.npy", results)
        return path

    def make(self) -> None:
        """Builds, in a process of its own, unless that was done for this recall. One that was killed is done again."""
        if (self.home / "made.json").exists() and self.facts.get("target_recall") == TARGET_RECALL:
            return
        words = [f"--{name}={value}" for name, value in asdict(self).items()]
        subprocess.run([sys.executable, "-m", "benchmarks.headline.world", *words], check=True)

    def build(self, progress: Progress) -> None:
        """Trains and publishes both snapshots. What was trained before a kill is kept."""
        from meshfold.model.build import publish
        from meshfold.model.config import IndexConfig, PrecisionChoice
        from meshfold.model.snapshot import OVER_ARCH, USER_TOWER
        from meshfold.model.store import Store

        self.home.mkdir(parents=True, exist_ok=True)
        catalog = catalog_of(self.items, self.dimension)
        (self.home / "made.json").unlink(missing_ok=True)
        learned = self.home / "learned.json"
        if not learned.exists():
            self._learn(catalog, learned, progress)
        for kind in (RANKED, PLAIN):
            shutil.rmtree(self.store(kind), ignore_errors=True)
        programs = {name: (self.home / name).read_bytes() for name in (USER_TOWER, OVER_ARCH)}
        config = IndexConfig(target_recall=TARGET_RECALL)
        # The choice of `meshfold build` for these weights with interactions (docs/models.md); this catalog has none.
        integers = PrecisionChoice.INT8
        store = Store(self.store(RANKED))
        ranked = publish(catalog, store, config, progress, programs=programs, precision=integers)
        _publish_without_over_arch(ranked, Store(self.store(PLAIN)))
        facts = {**json.loads(learned.read_text("utf-8")), "target_recall": TARGET_RECALL}
        _write(self.home / "made.json", facts)

    def _learn(self, catalog: Catalog, learned: Path, progress: Progress) -> None:
        """Writes programs, histories of users that nothing was learned from, and facts."""
        from benchmarks.headline import learning
        from meshfold.model.exports import export_over_arch, export_user_tower
        from meshfold.model.snapshot import OVER_ARCH, USER_TOWER

        lengths = learning.SMALL if self.items < _SMALL_ITEMS else learning.Lengths()
        vectors = np.concatenate(list(catalog.vectors()))
        preferences = learning.Preferences(vectors)
        users = learning.Users.draw(lengths.users, vectors, preferences, seed=1)
        tower = learning.learn_tower(users, vectors, lengths.tower_steps, progress)
        asked = learning.asked_vectors(tower, users, vectors)
        found = learning.candidates_of(asked, vectors, lengths.candidates, progress)
        over_arch = learning.learn_over_arch(
            users, asked, found, vectors, preferences, lengths.over_arch_steps, progress
        )
        others = learning.Users.draw(REQUESTS, vectors, preferences, seed=2)
        asked = learning.asked_vectors(tower, others, vectors)[:_HELD_OUT_USERS]
        found = learning.candidates_of(asked, vectors, lengths.candidates, progress)
        share = learning.changed(over_arch, asked, found, vectors, min(RESULTS, found.shape[1] // 2))
        console.print(
            f"the OverArch changes {share:.1%} of the best results; at least {LEAST_CHANGED:.0%} are wanted"
        )
        if share < LEAST_CHANGED:
            raise SystemExit("the OverArch changes too little to be what is measured")
        np.save(self.home / "histories.npy", others.histories)
        schema, dimension = catalog.schema, self.dimension
        (self.home / USER_TOWER).write_bytes(export_user_tower(tower, schema, dimension))
        (self.home / OVER_ARCH).write_bytes(export_over_arch(over_arch, schema, dimension))
        _write(learned, {"over_arch_changes": share, **asdict(lengths)})


def _publish_without_over_arch(ranked: Path, store: Store) -> None:
    """The same index, without the OverArch and with the formulas that go without one: no second build."""
    from meshfold.model.snapshot import MANIFEST, OVER_ARCH, Snapshot, write_manifest
    from meshfold.model.value.config import ValueConfig
    from meshfold.model.value.program import compile_formulas

    snapshot = Snapshot.open(ranked)
    formulas = compile_formulas(snapshot.schema, ValueConfig(), ranked=False)
    content = replace(snapshot.content.without_over_arch(), value=formulas)
    with store.partial(SURFACE) as partial:
        for file in ranked.iterdir():
            if file.name not in (MANIFEST, OVER_ARCH):
                shutil.copyfile(file, partial / file.name)
        write_manifest(partial, content, snapshot.built)
        store.publish(SURFACE, partial, content.version)


def _write(path: Path, facts: Mapping[str, Any]) -> None:
    path.with_suffix(".partial").write_text(json.dumps(facts), "utf-8")
    path.with_suffix(".partial").rename(path)


def _write_requests(path: Path, histories: Path, results: int) -> None:
    from meshfold.compat.filters import encode_filter
    from meshfold.protos.mesh.v1 import orchestrator_pb2 as pb
    from meshfold.tools.bench_calls import write_messages

    random = np.random.default_rng(4)
    messages, conditions = [], []
    for number, history in enumerate(np.load(histories).tolist()):
        request = pb.RetrieveRequest(
            surface=SURFACE, max_results=results, user={"user_id": number + 1, "history": history}
        )
        if number % 2:
            expression, count = filter_of(random)
            conditions.append(count)
            encode_filter(expression, request.filter)
        messages.append(request.SerializeToString())
    write_messages(path, messages)
    console.print(f"{len(messages)} requests, {np.mean(conditions):.2f} conditions in a filter: {path}")


def main() -> None:
    parser = arguments(__doc__, work="build/headline", items=1_000_000, dimension=128)
    args = parser.parse_args()
    with console.progress() as progress:
        HeadlineWorld(args.work, args.items, args.dimension).build(progress)


if __name__ == "__main__":
    main()
