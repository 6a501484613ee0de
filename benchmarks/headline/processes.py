"""What all processes of a server cost, from outside. Sources: proc(5), ss(8)."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

_TICKS_HZ = os.sysconf("SC_CLK_TCK")


@dataclass
class Spent:
    """Of the processes of a server over some time. machine_s: processor time of everything on the machine.
    between_bytes: that the processes sent one another; None where ss(8) is not there to tell."""

    cpu_s: float = 0.0
    wall_s: float = 0.0
    machine_s: float = 0.0
    between_bytes: float | None = None


class ProcessTree:
    """Processes and their descendants."""

    def __init__(self, *pids: int) -> None:
        self._pids = pids

    def pids(self) -> list[int]:
        parents = {}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):
                parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        tree = [*self._pids]
        for pid in tree:
            tree += [child for child, parent in parents.items() if parent == pid]
        return tree

    def cpu_s(self) -> float:
        """That the processes spent, and what those spent that have ended and were waited for."""
        spent = 0
        for pid in self.pids():
            with suppress(OSError):
                numbers = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                spent += sum(map(int, numbers[11:15]))
        return spent / _TICKS_HZ

    def peak_mb(self) -> float:
        """The most that each has held in memory, added; what several share counts for each."""
        return sum(self._kilobytes(pid, "status", "VmHWM") for pid in self.pids()) / 1024

    def proportional_mb(self) -> float:
        """Resident memory; what several share counts once."""
        return sum(self._kilobytes(pid, "smaps_rollup", "Pss") for pid in self.pids()) / 1024

    def stop(self) -> None:
        """Holds all, so that they take nothing from what else is measured."""
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

    def _kilobytes(self, pid: int, file: str, name: str) -> int:
        with suppress(OSError):
            found = re.search(rf"^{name}:\s+(\d+) kB", Path(f"/proc/{pid}/{file}").read_text(), re.MULTILINE)
            return int(found[1]) if found else 0
        return 0


def _machine_s() -> float:
    """Processor time of user, nice, system, irq and softirq since the machine started."""
    numbers = Path("/proc/stat").read_text().split("\n", 1)[0].split()
    return sum(int(numbers[place]) for place in (1, 2, 3, 6, 7)) / _TICKS_HZ
