from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import pytest

from meshfold.model.build import publish
from meshfold.model.data.catalog import Catalog
from meshfold.model.retrieval import RetrievalModel
from meshfold.model.snapshot import Snapshot
from meshfold.model.stages import Abandoned, abandoned_when, stage
from meshfold.model.store import Store
from tests.model.test_retrieval import Asked, D, ask, vector


@pytest.fixture(scope="module")
def model(catalog_of: Callable[..., Catalog], tmp_path_factory: pytest.TempPathFactory) -> RetrievalModel:
    vectors = np.random.default_rng(3).standard_normal((300, D)).astype(np.float32)
    folder = publish(catalog_of(vectors), Store(tmp_path_factory.mktemp("stages")))
    return RetrievalModel.of(Snapshot.open(folder))


def test_nothing_abandons_a_pass_by_itself(model: RetrievalModel) -> None:
    stage()
    with abandoned_when(lambda: False):
        stage()
        assert len(ask(model, Asked(vector(0), depth=300, max_results=5)).positions)


def test_a_pass_ends_at_the_next_stage_once_nobody_waits(model: RetrievalModel) -> None:
    begun = 0

    def after(stages: int) -> Callable[[], bool]:
        def is_abandoned() -> bool:
            nonlocal begun
            begun += 1
            return begun > stages

        return is_abandoned

    asked = Asked(vector(0), depth=300, max_results=5)
    with abandoned_when(after(1000)):
        whole = ask(model, asked)
    stages = begun
    assert stages >= 3
    for ended in range(stages):
        begun = 0
        with pytest.raises(Abandoned), abandoned_when(after(ended)):
            ask(model, asked)
        assert begun == ended + 1
    # What follows is a pass as any other.
    assert ask(model, asked).positions.tolist() == whole.positions.tolist()


def test_a_pass_is_abandoned_by_its_own_thread_alone(model: RetrievalModel) -> None:
    ended: list[BaseException] = []

    def other() -> None:
        try:
            stage()
            ask(model, Asked(vector(1), depth=300, max_results=5))
        except BaseException as error:
            ended.append(error)

    with abandoned_when(lambda: True):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        with pytest.raises(Abandoned):
            stage()
    stage()
    assert not ended


def test_a_pass_that_fails_leaves_nothing_behind() -> None:
    with pytest.raises(ValueError, match="broken"), abandoned_when(lambda: True):
        raise ValueError("broken")
    stage()
