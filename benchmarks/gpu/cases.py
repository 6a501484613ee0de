"""The named rows of `run.py`."""

from __future__ import annotations

from dataclasses import dataclass

# Catalogs in the order in which they are made: what no longer fits into the time is the least missed.
SIZES = (1_000_000, 80_000_000, 10_000_000)
SMALL, LARGE, MIDDLE = range(3)


@dataclass(frozen=True)
class Case:
    """size: place in SIZES. probes: clusters that a usual query opens. k: candidates."""

    size: int
    batch: int
    probes: int = 24
    k: int = 1024
    filtered: bool = False
    over_arch: bool = False

    def name(self, items: int) -> str:
        size = f"{items // 1_000_000} M" if items % 1_000_000 == 0 else f"{items:,} items"
        parts = [size, f"batch {self.batch}", f"{self.probes} probes", f"top {self.k:,}"]
        parts += [name for name, on in (("filter", self.filtered), ("OverArch", self.over_arch)) if on]
        return ", ".join(parts)


CASES = (
    Case(SMALL, 1),
    Case(SMALL, 64, filtered=True),
    Case(LARGE, 16, filtered=True, over_arch=True),
    Case(LARGE, 64),
    Case(LARGE, 1),
    Case(LARGE, 16),
    Case(LARGE, 16, filtered=True),
    Case(LARGE, 64, probes=64),
    Case(LARGE, 16, probes=64, k=10_000, over_arch=True),
    Case(LARGE, 256),
    Case(MIDDLE, 16, filtered=True, over_arch=True),
    Case(MIDDLE, 64),
    Case(MIDDLE, 1),
)
