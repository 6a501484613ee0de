from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from meshfold.compat.migration.bounded_queue import BoundedQueue


def test_it_hands_out_in_order() -> None:
    queue: BoundedQueue[int] = BoundedQueue(3, 100)
    assert [queue.offer(i, 1) for i in range(3)] == [True] * 3
    assert [queue.take() for _ in range(3)] == [0, 1, 2]


def test_what_finds_no_room_is_dropped_and_counted() -> None:
    queue: BoundedQueue[int] = BoundedQueue(2, 10)
    assert [queue.offer(i, 4) for i in range(3)] == [True, True, False]
    assert queue.dropped == 1
    queue.take()
    assert not queue.offer(3, 7)
    assert queue.offer(4, 6)
    assert (len(queue), queue.dropped) == (2, 2)
    assert [queue.take(), queue.take()] == [1, 4]
    assert queue.offer(5, 10)


def test_what_is_cleared_counts_as_dropped_and_makes_room() -> None:
    queue: BoundedQueue[int] = BoundedQueue(2, 10)
    queue.offer(1, 10)
    queue.clear()
    assert (len(queue), queue.dropped) == (0, 1)
    assert queue.offer(2, 10)


def test_a_closed_queue_hands_out_what_waits_and_then_none() -> None:
    queue: BoundedQueue[int] = BoundedQueue(2, 10)
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(queue.take) for _ in range(2)]
        queue.offer(1, 1)
        queue.close()
        assert {w.result(10) for w in waiting} == {1, None}
    assert not queue.offer(2, 1)
    assert queue.take() is None


def test_many_threads_lose_nothing() -> None:
    queue: BoundedQueue[int] = BoundedQueue(10_000, 10_000)

    def offer(entries: range) -> list[bool]:
        return [queue.offer(entry, 1) for entry in entries]

    with ThreadPoolExecutor(8) as pool:
        takers = [pool.submit(lambda: [queue.take() for _ in range(500)]) for _ in range(4)]
        for part in range(4):
            pool.submit(offer, range(part * 500, part * 500 + 500))
        taken = [entry for taker in takers for entry in taker.result(30)]
    assert sorted(entry for entry in taken if entry is not None) == list(range(2000))
