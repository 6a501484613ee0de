"""How many pairs a second a comparison takes in: K items of either side, a tenth of the pairs asked again.

Kendall's tau is left out unless --tau says otherwise. Exposure and violations are counted with a catalog that answers
from memory, so that its own search is not timed.

    python -m benchmarks.shadow.pairs --pairs 10000
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.arguments import arguments
from benchmarks.report import bench
from meshfold.compat.shadow.compare import compare
from meshfold.compat.shadow.compare_settings import CompareSettings, MeasureSettings
from meshfold.compat.shadow.comparison import Catalog, ItemText
from meshfold.compat.shadow.pairs import Pair, SideAnswer

ITEMS, GENRES = 100_000, 18


class MemoryCatalog:
    """Every item has two of 18 genres; nothing is a violation."""

    fields: Sequence[str] = ("genre",)

    def violations(self, pair: Pair, item_ids: Sequence[int | str]) -> int:
        return 0

    def known(self, item_ids: Sequence[int | str]) -> int:
        return len(item_ids)

    def values(self, item_id: int | str, field: str) -> tuple[str, ...]:
        number = int(item_id)
        return (f"genre {number % GENRES}", f"genre {number // GENRES % GENRES}")

    def text(self, item_id: int | str) -> ItemText:
        return ItemText(str(item_id))


def drawn_pairs(count: int, items: int, users: int, seed: int = 0) -> Iterator[Pair]:
    """Lists that share 95 of 100 items with the mesh's, and nearly its order."""
    generator = np.random.default_rng(seed)
    for number in range(count):
        pool = np.unique(generator.integers(ITEMS, size=3 * items))
        pool = generator.permutation(pool)[: items + items // 10]
        value = np.sort(generator.random(len(pool)))[::-1]

        def answer(
            noise: float, pool: NDArray[np.int64] = pool, value: NDArray[np.float64] = value
        ) -> SideAnswer:
            told = value + noise * generator.standard_normal(len(pool))
            best = np.argsort(-told)[:items]
            return SideAnswer(
                tuple(pool[best].tolist()), tuple(told[best].tolist()), latency_ms=float(generator.gamma(9.0))
            )

        user = min(int(generator.zipf(1.5)), users)
        yield Pair(
            request_id=f"request {number}",
            surface="home",
            user_key=f"user {user * 7919 % users}",
            unix_ms=1_700_000_000_000 + number * 10_000,
            mesh=answer(0.0),
            model=answer(0.02),
            again=answer(0.01) if number % 10 == 0 else None,
            served_by="mesh",
            max_results=items,
            slices={"history": str(number % 5), "user": "known"},
        )


def everywhere(catalog: Catalog | None) -> Callable[[str], Catalog | None]:
    """The same for every surface."""
    return lambda _: catalog


def main() -> None:
    parser = arguments(__doc__, items=100)
    parser.add_argument("--pairs", type=int, default=10_000)
    parser.add_argument("--users", type=int, default=2_000)
    parser.add_argument("--tau", type=float, default=0.0, help="the share of pairs with Kendall's tau")
    args = parser.parse_args()
    settings = CompareSettings(MeasureSettings(tau_share=args.tau))
    told: dict[str, float] = {}
    for name, catalog in (("", None), ("_with_catalog", MemoryCatalog())):
        pairs = list(drawn_pairs(args.pairs, args.items, args.users))
        start_s, start_cpu_s = time.perf_counter(), time.process_time()
        comparison = compare(pairs, everywhere(catalog), {}, settings)
        wall_s, cpu_s = time.perf_counter() - start_s, time.process_time() - start_cpu_s
        told[f"pairs_per_s{name}"] = round(args.pairs / wall_s, 1)
        told[f"cpu_us_a_pair{name}"] = round(cpu_s / args.pairs * 1e6, 1)
        assert comparison.surfaces[0].pairs == args.pairs
    told["peak_mb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)
    line = {"name": "shadow_pairs", "pairs": args.pairs, "items": args.items, **told}
    bench(line)


if __name__ == "__main__":
    main()
