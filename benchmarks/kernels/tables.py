"""Tables of the newest rows of `compare.py`, for pages."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.kernels.points import (
    DEFAULT,
    IN_LISTS,
    OURS,
    REFERENCE,
    SQ8,
    TARGET,
    best_of,
    ms_at,
    points_of,
)
from benchmarks.markdown import formatted, markdown
from benchmarks.rows import Row, newest_rows

# Where every case is looked at for a peer that is faster.
RECALLS = (0.9, 0.95, TARGET)


def headlines() -> str:
    """Figures of the last line and beside it, one row for each set of queries."""
    rows = newest_rows("kernels")
    config = rows[0].config
    lines = ["| one query, one thread | ours | the peer | ratio |", "|---|---|---|---|"]
    of_part = [row for row in rows if row.config["part"] == "headline"]
    for row in sorted(of_part, key=lambda r: -_pass_rate(r)):
        f, case = row.figures, f"{row.config['filter']}, top {row.config['k']:,}, {row.config['queries']}"
        eighth = f"{config['lists'] // 8} of {config['lists']:,} lists"
        compared = {
            "same_lists": eighth,
            "at_target": f"at recall {TARGET}, each in its best lists and codes",
            "fast_scan": f"at the recall of a fast scan of {eighth}",
            "best": f"recall of at least {TARGET}, the best peer",
            "best_faiss": f"recall of at least {TARGET}, the best of Faiss",
        }
        for what, told in compared.items():
            if f"{what}_ratio" in f:
                lines.append(_line(f"{case}: {told}", row, what))
    for row in rows:
        f = row.figures
        if row.config["part"] == "batch":
            lines.append(
                f"| 16 at a time, {row.config['queries']}, a query | {f['batch16_ms']:.2f} ms "
                f"| one by one {f['batch1_ms']:.2f} ms | {f['gain']:.2f} |"
            )
        if row.config["part"] == "scan" and row.config["threads"] == 1:
            most = max(
                value for name, value in f.items() if name not in ("scan_gb_per_s", "share_of_bandwidth")
            )
            lines.append(
                f"| scan of all {config['items']:,} items | {f['scan_gb_per_s']:.1f} GB/s "
                f"| reads of memory {most:.1f} GB/s | {f['share_of_bandwidth']:.2f} |"
            )
    return "\n".join([*lines, "", _told(rows)])


def masks() -> str:
    """Filters over all items."""
    rows = [row for row in newest_rows("kernels") if row.config["part"] == "mask"]
    shown = {"warm_ms": "{:.3f} ms", "cold_ms": "{:.3f} ms"}
    lines = [[row.config["mask"], row.config["threads"], *formatted(row, shown)] for row in rows]
    return markdown(("filter over all items", "threads", "warm", "cold"), lines)


def at_recall(k: int = 1000) -> str:
    """Time at TARGET by set of queries and filter, one query at a time on one thread; the fastest in bold."""
    rows = [row for row in newest_rows("kernels") if row.config["part"] == "curve" and row.config["k"] == k]
    alone = [row for row in rows if row.config["batch"] == row.config["threads"] == 1]
    systems = [s for s in _systems(alone) if s != REFERENCE]
    lines = []
    for row in alone:
        points = points_of(row)
        times = {s: ms_at([p for p in points if p.system == s], TARGET) for s in systems}
        fastest = min(times.values())
        cells = []
        for system, ms in times.items():
            own = [p for p in points if p.system == system]
            text = (
                f"{ms:.2f}" if ms < float("inf") else f"- ({max(p.recall for p in own):.2f})" if own else ""
            )
            cells.append(f"**{text}**" if ms == fastest else text)
        lines.append([f"{row.config['queries']}, {row.config['filter']}", *cells])
    return markdown([f"top {k:,}, ms at recall {TARGET}", *systems], lines)


def batches() -> str:
    """Time of a query in batches and on two threads, of every system's best setting; the fastest in bold."""
    rows = [row for row in newest_rows("kernels") if row.config["part"] == "curve"]
    rows = [row for row in rows if row.config["batch"] * row.config["threads"] > 1]
    systems = _systems(rows)
    lines = []
    for row in rows:
        best = {s: best_of(points_of(row), s) for s in systems if any(p.system == s for p in points_of(row))}
        able = [p.p50_ms for p in best.values() if p.recall >= TARGET]
        cells = []
        for system in systems:
            p = best.get(system)
            text = (
                "" if p is None else f"{p.p50_ms:.2f}" + ("" if p.recall >= TARGET else f" ({p.recall:.2f})")
            )
            cells.append(f"**{text}**" if p and able and p.p50_ms == min(able) else text)
        c = row.config
        lines.append([f"{c['queries']}, {c['filter']}, {c['batch']}, {c['threads']}", *cells])
    return markdown(["top 1,000, ms a query, batch, threads", *systems], lines)


def faster_peers() -> str:
    """Where a peer is faster than ours at equal recall: by peer and recall, in how many cases and where most."""
    curves = [row for row in newest_rows("kernels") if row.config["part"] == "curve"]
    lost: dict[tuple[str, float], list[tuple[float, str]]] = {}
    for row in curves:
        points = points_of(row)
        for recall in RECALLS:
            own = ms_at([p for p in points if p.system in OURS], recall)
            for system in dict.fromkeys(p.system for p in points if p.system not in OURS):
                ms = ms_at([p for p in points if p.system == system], recall)
                if ms < own:
                    lost.setdefault((system, recall), []).append((own / ms, row.case))
    lines = []
    for (system, recall), of_system in sorted(lost.items()):
        most, case = max(of_system)
        times = f"{most:.1f} x" if most < float("inf") else "ours is not there"
        lines.append([system, recall, len(of_system), times, case])
    return markdown(("faster than ours", "at recall", f"of {len(curves)} cases", "most", "there"), lines)


def full() -> str:
    """Everything, for benchmarks/kernels.md."""
    depths = sorted({row.config["k"] for row in newest_rows("kernels") if row.config["part"] == "curve"})
    parts = [headlines(), masks(), *(at_recall(k) for k in depths), batches(), faster_peers()]
    return "\n\n".join(parts)


def _line(case: str, row: Row, what: str) -> str:
    f = row.figures

    def side(name: str) -> str:
        recall = f.get(f"{what}_{name}recall")
        return f"{f[f'{what}_{name}ms']:.2f} ms" + ("" if recall is None else f", recall {recall:.3f}")

    peer = row.config.get(f"{what}_peer", f"{SQ8}, the best of its kinds")
    return f"| {case} | {side('')} | {side('peer_')}: {peer} | {f[f'{what}_ratio']:.2f} |"


def _systems(rows: Sequence[Row]) -> list[str]:
    """Ours first."""
    named = dict.fromkeys(p.system for row in rows for p in points_of(row))
    return [*(s for s in (DEFAULT, IN_LISTS) if s in named), *(s for s in named if s not in OURS)]


def _pass_rate(row: Row) -> float:
    return float(str(row.config["filter"]).split()[0])


def _told(rows: Sequence[Row]) -> str:
    config, versions = rows[0].config, rows[0].versions
    return (
        f"{config['items']:,} generated items x {config['dimension']}, {config['kernels']} kernels, on"
        f" {rows[0].device.partition(',')[0]} (torch {versions['torch']}, Faiss {versions['faiss']}, pyroaring"
        f" {versions['pyroaring']}); rerun with `make bench-kernels`."
    )
