"""Processor time, memory and traffic of processes, measured from outside. Sources: proc(5), ss(8)."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

_TICKS_HZ = os.sysconf("SC_CLK_TCK")


@dataclass
class Spent:
    """The cost of a server's processes over a time. machine_s: processor time of everything on the machine.
    between_bytes: bytes that the processes sent one another; None without ss(8)."""

    cpu_s: float = 0.0
    wall_s: float = 0.0
    machine_s: float = 0.0
    between_bytes: float | None = None


class ProcessTree:
    """Processes and their descendants."""

    def __init__(self, *pids: int) -> None:
        self._pids = pids

    def pids(self) -> list[int]:
        children = children_by_parent()
        tree = [*self._pids]
        for pid in tree:
            tree += children[pid]
        return tree

    def cpu_s(self) -> float:
        """Processor time of the processes and of their children that ended and were waited for."""
        return sum(cpu_s(pid, with_ended_children=True) for pid in self.pids())

    def peak_mb(self) -> float:
        """The sum of peak resident memory; shared pages count for each process."""
        return sum(megabytes(pid, "status", "VmHWM") for pid in self.pids())

    def proportional_mb(self) -> float:
        """Resident memory; shared pages count once."""
        return sum(megabytes(pid, "smaps_rollup", "Pss") for pid in self.pids())

    def stop(self) -> None:
        """Stops all processes (SIGSTOP), so that they take no processor time from other measurements."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._signal(signal.SIGCONT)

    @contextmanager
    def watched(self, spent: Spent) -> Iterator[None]:
        """Fills `spent` with what the block cost."""
        sent, cpu_s, machine_s, start_s = self._sent(), self.cpu_s(), _machine_s(), time.monotonic()
        yield
        spent.cpu_s, spent.wall_s = self.cpu_s() - cpu_s, time.monotonic() - start_s
        spent.machine_s = _machine_s() - machine_s
        after = self._sent()
        if sent is not None and after is not None:
            spent.between_bytes = float(sum(after[key] - sent[key] for key in sent.keys() & after.keys()))

    def _sent(self) -> dict[str, int] | None:
        """Bytes sent on each connection between two of the processes, by its two ends."""
        if shutil.which("ss") is None:
            return None
        said = subprocess.run(
            ["ss", "--tcp", "--info", "--numeric", "--processes", "--oneline", "--no-header"],
            capture_output=True,
            text=True,
            check=False,
        )
        ours = {f"pid={pid}," for pid in self.pids()}
        sent = {}
        for line in said.stdout.splitlines():
            words = line.split()
            told = re.search(r"bytes_sent:(\d+)", line)
            if len(words) > 4 and any(pid in line for pid in ours):
                sent[f"{words[3]} {words[4]}"] = int(told[1]) if told else 0
        there = {key.partition(" ")[0] for key in sent}
        return {key: count for key, count in sent.items() if key.partition(" ")[2] in there}

    def _signal(self, number: int) -> None:
        for pid in self.pids():
            with suppress(ProcessLookupError):
                os.kill(pid, number)


def children_by_parent() -> dict[int, list[int]]:
    """The direct children of every process of the machine."""
    children: dict[int, list[int]] = defaultdict(list)
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            children[int(_stat(folder.name)[1])].append(int(folder.name))
    return children


def forked(pid: int) -> list[int]:
    """The process, and its descendants with the same command line: forks of it."""
    words = command_line(pid)
    return [each for each in ProcessTree(pid).pids() if command_line(each) == words]


def command_line(pid: int) -> list[bytes]:
    """The words; empty for a process that ended."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return []


def cpu_s(pid: int, with_ended_children: bool = False) -> float:
    """Processor time so far; 0 for a process that ended."""
    with suppress(OSError):
        return sum(map(int, _stat(pid)[11 : 15 if with_ended_children else 13])) / _TICKS_HZ
    return 0.0


def megabytes(pid: int | str, file: str, name: str) -> float:
    """A size in a file of /proc/PID; 0 where it is absent."""
    with suppress(OSError):
        found = re.search(rf"^{name}:\s+(\d+) kB", Path(f"/proc/{pid}/{file}").read_text(), re.MULTILINE)
        return int(found[1]) / 1024 if found else 0.0
    return 0.0


def _stat(pid: int | str) -> list[str]:
    """Fields of /proc/PID/stat from the third on."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _machine_s() -> float:
    """Processor time of user, nice, system, irq and softirq since the machine started."""
    numbers = Path("/proc/stat").read_text().split("\n", 1)[0].split()
    return sum(int(numbers[place]) for place in (1, 2, 3, 6, 7)) / _TICKS_HZ
