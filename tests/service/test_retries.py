from pathlib import Path

import pytest

from meshfold.model.errors import SnapshotRefused
from meshfold.model.store import FolderState
from meshfold.service.retries import MOST_S, QUIET_S, REFUSED_S, TRANSIENT_S, Retries

FOLDER = Path("folder")


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def state(size_bytes: int) -> FolderState:
    return FolderState(size_bytes, ())


def refused(cause: Exception | None = None) -> SnapshotRefused:
    error = SnapshotRefused("index.safetensors: was changed after it was published")
    error.__cause__ = cause
    return error


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def retries(clock: Clock) -> Retries:
    return Retries(clock)


def waits(retries: Retries, clock: Clock, error: Exception, times: int) -> list[float]:
    """Seconds from each failure of an unchanged folder to when it is due again."""
    waited = []
    for _ in range(times):
        retries.failed(FOLDER, state(1), error)
        start_s = clock.now_s
        while not retries.due(FOLDER, state(1)):
            clock.now_s += 0.5
        waited.append(clock.now_s - start_s)
    return waited


def test_what_never_failed_is_due(retries: Retries) -> None:
    assert retries.due(FOLDER, state(1))
    assert retries.failures(FOLDER) == retries.failing == 0


def test_wrong_bytes_that_do_not_change_are_read_again_after_minutes(retries: Retries, clock: Clock) -> None:
    assert waits(retries, clock, refused(), 6) == [REFUSED_S * 2**i for i in range(4)] + [MOST_S] * 2
    assert retries.failures(FOLDER) == 6


@pytest.mark.parametrize(
    "error",
    [refused(OSError(24, "Too many open files")), MemoryError(), refused(MemoryError()), OSError(12, "")],
)
def test_what_passes_by_itself_is_tried_again_soon(retries: Retries, clock: Clock, error: Exception) -> None:
    assert waits(retries, clock, error, 4) == [TRANSIENT_S * 2**i for i in range(4)]
    assert waits(retries, clock, error, 20)[-1] == MOST_S


def test_a_folder_that_changes_is_tried_when_it_is_quiet_and_no_sooner(
    retries: Retries, clock: Clock
) -> None:
    retries.failed(FOLDER, state(1), refused())
    for size_bytes in range(2, 20):
        assert not retries.due(FOLDER, state(size_bytes))
        clock.now_s += QUIET_S / 2
    # Whole since the last step: due once it has been so for long enough.
    assert not retries.due(FOLDER, state(19))
    clock.now_s += QUIET_S / 2
    assert retries.due(FOLDER, state(19))


def test_a_changed_folder_starts_with_a_short_wait_again(retries: Retries, clock: Clock) -> None:
    waits(retries, clock, refused(), 5)
    retries.failed(FOLDER, state(2), refused())
    assert retries.failures(FOLDER) == 1
    clock.now_s += REFUSED_S
    assert retries.due(FOLDER, state(2))


def test_a_folder_that_changed_while_it_was_tried_is_not_taken_for_tried(
    retries: Retries, clock: Clock
) -> None:
    retries.failed(FOLDER, state(1), refused())
    assert not retries.due(FOLDER, state(2))
    clock.now_s += QUIET_S
    assert retries.due(FOLDER, state(2))


def test_a_failure_is_news_once_for_each_reason(retries: Retries) -> None:
    assert retries.failed(FOLDER, state(1), refused())
    assert not retries.failed(FOLDER, state(1), refused())
    assert not retries.failed(FOLDER, state(2), refused())
    assert retries.failed(FOLDER, state(2), SnapshotRefused("another"))


def test_folders_that_are_gone_or_served_are_forgotten(retries: Retries) -> None:
    retries.failed(FOLDER, state(1), refused())
    retries.failed(Path("other"), state(1), refused())
    retries.keep([FOLDER])
    assert retries.failing == 1
    retries.keep([])
    assert retries.failing == 0
    assert retries.due(FOLDER, state(1))
