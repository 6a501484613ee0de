"""The table of `run.py`, for its own end and for docs/performance.md."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.markdown import markdown
from benchmarks.rows import Row


def table_of(rows: Sequence[Row]) -> str:
    columns = (
        "row",
        "p50",
        "p99",
        "queries/s",
        "search p50",
        "bytes/s, of a copy's",
        "peak memory",
        "recall",
    )
    lines = []
    for row in rows:
        f = row.figures
        brute = f"{f['brute_force_p50_ms']:.2f} ms" if "brute_force_p50_ms" in f else "-"
        peak = f"{f['peak_bytes'] / 1e9:.1f} GB" if f["peak_bytes"] else "-"
        cells = [row.case, f"{f['p50_ms']:.2f} ms", f"{f['p99_ms']:.2f} ms", f"{f['queries_per_s']:,.0f}"]
        cells += [f"{f['search_p50_ms']:.2f} ms"]
        cells += [f"{f['search_bytes_per_s'] / 1e9:.0f} GB/s, {f['search_share_of_copy']:.0%}"]
        lines.append([*cells, peak, f"{f['recall']:.3f}", brute])
    first = rows[0]
    same = [row.figures["different_from_cpu"] for row in rows if "different_from_cpu" in row.figures]
    compared = (
        "" if not same else "; equal to the CPU's answers" if not any(same) else "; NOT the CPU's answers"
    )
    told = (
        f"x {first.config['dimension']}, on {first.device} (torch {first.versions['torch']}, triton"
        f" {first.versions['triton']}), a copy runs at {first.figures['copy_bytes_per_s'] / 1e9:.0f} GB/s"
        f"{compared}; rerun with `make gpu`."
    )
    return markdown([*columns, "brute force p50"], lines, told)
