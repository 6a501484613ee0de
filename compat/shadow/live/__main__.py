"""The comparing process: reads pairs from standard input and writes a report to standard output every second.

The first line of the input is the settings as JSON; then follow length-prefixed meshfold.v1.Recorded messages, in the
order of asked_pair.py. At the end of the input it writes its remaining pairs and ends.
"""

from __future__ import annotations

import json
import logging
import queue
import signal
import sys
import threading
import time
from contextlib import suppress
from typing import Any, BinaryIO

from meshfold.compat.low_priority import lowest_priority

_REPORT_S = 1.0
# Most pairs that are read and not yet measured.
_READ_AHEAD = 64


def main() -> int:
    # Ignored, since terminals and service managers signal the whole group; the server ends this process.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    lowest_priority()
    logging.basicConfig(handlers=[_LogSender()], level=logging.ERROR)
    try:
        _work(sys.stdin.buffer)
    except BrokenPipeError:  # the server is gone
        return 0
    except Exception as error:  # reported in one line; the server starts a new process
        logging.error("%s: %s", type(error).__qualname__, error)
        return 1
    return 0


class _LogSender(logging.Handler):
    """Sends log records to the server, which logs them."""

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(OSError):
            _send({"error": record.getMessage()})


_sending = threading.Lock()


def _send(report: dict[str, Any]) -> None:
    with _sending:
        sys.stdout.buffer.write(json.dumps(report).encode() + b"\n")
        sys.stdout.buffer.flush()


def _work(came: BinaryIO) -> None:
    # Imported after the niceness is set, since the imports take the most time.
    from meshfold.compat.shadow.live.worker import Worker
    from meshfold.compat.shadow.live.worker_settings import WorkerSettings

    first = came.readline()
    if not first:
        return
    worker = Worker(WorkerSettings.read(json.loads(first)))
    pairs: queue.Queue[list[Any] | None] = queue.Queue(_READ_AHEAD)
    threading.Thread(target=_read, args=(came, pairs), daemon=True).start()
    told_s = time.monotonic()
    while True:
        try:
            records = pairs.get(timeout=max(0.0, told_s + _REPORT_S - time.monotonic()))
            if records is None:
                break
            worker.take(records)
        except queue.Empty:
            pass
        if time.monotonic() - told_s >= _REPORT_S:
            _send(worker.report())
            told_s = time.monotonic()
    worker.close()
    _send(worker.report())


def _read(came: BinaryIO, pairs: queue.Queue[list[Any] | None]) -> None:
    """Puts each pair's records into the queue; None at the end, even in the middle of a pair."""
    from google.protobuf.message import DecodeError
    from google.protobuf.proto import parse_length_prefixed

    from meshfold.protos.meshfold.v1 import recording_pb2 as pb

    records: list[Any] = []
    try:
        while (record := parse_length_prefixed(pb.Recorded, came)) is not None:
            records.append(record)
            # The shadow is the last record of a pair.
            if record.shadow and not record.again:
                pairs.put(records)
                records = []
    except (DecodeError, ValueError, OSError):
        pass
    pairs.put(None)


if __name__ == "__main__":
    sys.exit(main())
