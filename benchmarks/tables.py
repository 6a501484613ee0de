"""Writes the measured tables of README.md and docs/performance.md from the newest rows.

python -m benchmarks.tables            # writes
python -m benchmarks.tables --check    # fails where a page is not what the rows say
"""

from __future__ import annotations

import argparse
import re
import sys
from functools import partial

from benchmarks.forward_plot import STAGES
from benchmarks.gpu import roofline
from benchmarks.gpu.table import table_of
from benchmarks.headline import tables as headline_tables
from benchmarks.kernels import tables as kernel_tables
from benchmarks.markdown import formatted, markdown
from benchmarks.mesh import tables as mesh_tables
from benchmarks.quality import spread
from benchmarks.rows import RESULTS, ROOT, newest_rows

PAGES = (
    ROOT / "README.md",
    *(
        ROOT / "docs" / name
        for name in ("mesh.md", "migration.md", "performance.md", "models.md", "refresh.md")
    ),
    ROOT / "benchmarks" / "kernels" / "cases.md",
)


def index_table() -> str:
    """Recall and time of the index at default settings, beside exact search."""
    rows = newest_rows("index")
    config = rows[0].config
    columns = (
        "queries, filter",
        "recall@1000",
        "items scored",
        "forward pass p50",
        "exact search in torch, p50",
    )
    shown = {
        "recall": "{:.4f}",
        "scored_share": "{:.1%}",
        "forward_p50_ms": "{:.1f} ms",
        "exact_p50_ms": "{:.1f} ms",
    }
    note = (
        f"{config['items']:,} generated items x {config['dimension']}, top {config['k']:,}, batch 1, "
        f"on {rows[0].device} (torch {rows[0].versions['torch']}); "
        "rerun with `make bench`."
    )
    return markdown(columns, [[row.case, *formatted(row, shown)] for row in rows], note)


def quality_table() -> str:
    """Quality of trained models, over seeds."""
    rows = newest_rows("quality")
    figures = [name for name in rows[0].figures if name != "train_s"]
    names = list(dict.fromkeys(row.case for row in rows))
    lines = [
        [name, *(spread([row.figures[figure] for row in rows if row.case == name]) for figure in figures)]
        for name in names
    ]
    seeds = sum(row.case == names[0] for row in rows)
    took = spread([row.figures["train_s"] for row in rows if row.case == names[0]])
    note = (
        f"MovieLens latest-small, each user's latest 20 % held out, {seeds} seeds, mean and standard deviation; "
        f"training took {took} s on {rows[0].device}; rerun with `make quality DATA=ml-latest-small`."
    )
    return markdown(["ranking", *figures], lines, note)


def refresh_table() -> str:
    """The worth of new items without interactions, and the cost of a daily refresh."""
    row = newest_rows("refresh")[-1]
    f, config = row.figures, row.config
    items = config["items"] - config["removed"]
    lines = [
        f"| interactions with {config['added']} new movies | among the first 100 | among the first 500 |",
        "|---|---|---|",
        f"| vectors from fields, of {items:,} movies | {f['found@100']:.1%} | {f['found@500']:.1%} |",
        f"| a random order | {f['chance@100']:.1%} | {f['chance@500']:.1%} |",
        "| the order of popularity | 0.0% | 0.0% |",
        "",
        "| new movies, a user | among the first 100 | among the first 500 |",
        "|---|---|---|",
        f"| of the user's genre | {f['of_genre@100']:.1%} | {f['of_genre@500']:.1%} |",
        f"| of other genres | {f['others@100']:.1%} | {f['others@500']:.1%} |",
        "",
        "| step | wall time |",
        "|---|---|",
        f"| `train`, anew | {f['train_s']:.0f} s |",
        f"| `build` of the same catalog | {f['build_s']:.1f} s |",
        f"| `build` of the catalog that changed, same model | {f['rebuild_s']:.1f} s |",
        f"| `train --from`, a tenth of the interactions new | {f['retrain_s']:.0f} s |",
    ]
    told = (
        "A user's genre is the one that the history has most above all movies."
        f" {f['removed_returned']:.0f} of {config['removed']} removed movies came back."
        f" NDCG@50 over the held-out last day: {f['started_ndcg@50']:.4f} by the model as it was,"
        f" {f['refreshed_ndcg@50']:.4f} after `train --from`. MovieLens latest-small on {row.device}; rerun with"
        " `make refresh DATA=ml-latest-small`."
    )
    return "\n".join([*lines, "", told])


def forward_table() -> str:
    """The stages of a forward pass."""
    rows = newest_rows("forward")
    stages = {"p50": ("**whole, p50**", ""), "p95": ("whole, p95", ""), **STAGES}
    lines = [
        [label, *(f"{row.figures.get(f'{name}_ms', 0.0):.2f}" for row in rows)]
        for name, (label, _) in stages.items()
    ]
    first = rows[0]
    note = (
        f"{first.config['items']:,} items x 128, recall@1000 of the search {first.figures['recall_item_like']:.3f} for"
        f" queries like items, {first.figures['recall_user_like']:.3f} like users, on {first.device} (torch"
        f" {first.versions['torch']}); rerun with `make bench-forward`."
    )
    return markdown(["ms, medians", *(row.case for row in rows)], lines, note)


def gpu_table() -> str:
    """The newest rows of a GPU."""
    if not (RESULTS / "gpu.jsonl").exists():
        return "No GPU was at hand yet, so that there are no rows: `make gpu` measures them."
    return table_of(newest_rows("gpu"))


def score_table() -> str:
    """Score inside the model beside vectors from Redis."""
    rows = newest_rows("score")
    columns = (
        "ids",
        "in the model",
        "float32 from Redis",
        "of it fetching",
        "float16 from Redis",
        "of it fetching",
    )
    shown = {
        f"{name}_p50_ms": "{:.2f} ms"
        for name in ("model", "float32", "float32_fetch", "float16", "float16_fetch")
    }
    lines = [[f"{row.config['ids']:,}", *formatted(row, {**shown, "ratio": "{:.2f}"})] for row in rows]
    config = rows[0].config
    note = (
        f"Medians of {config['queries']} requests; {config['items']:,} items x {config['dimension']}, Redis"
        f" {config['redis']} on the same machine by a unix socket, on {rows[0].device} (torch"
        f" {rows[0].versions['torch']}). The ratio is of the faster of the two formats; rerun with `make bench-score`."
    )
    return markdown([*columns, "ratio"], lines, note)


def proxy_table() -> str:
    """The cost of the proxy for calls of a mesh."""
    rows = newest_rows("proxy")
    config = rows[0].config
    columns = ("the mesh asked", "p50", "p95", "p99", "CPU of the mesh, a call", "CPU of the proxy, a call")
    shown = {
        "p50_ms": "{:.2f} ms",
        "p95_ms": "{:.1f} ms",
        "p99_ms": "{:.1f} ms",
        "mesh_cpu_ms": "{:.1f} ms",
        "proxy_cpu_ms": "{:.2f} ms",
    }
    calls = sum(int(row.figures["calls"]) for row in rows)
    note = (
        f"{calls:,} calls for {config['results']:,} results, in {config['windows']} windows of "
        f"{config['window_s']:g} s a row, alternating; open loop at {config['rate_hz']:.0f} a second, half of the "
        f"mesh's highest rate; all on {rows[0].device.rpartition(',')[0]}; rerun with `make bench-proxy`."
    )
    return markdown(columns, [[row.case, *formatted(row, shown)] for row in rows], note)


TABLES = {
    "headline": headline_tables.headline,
    "headline-variants": headline_tables.variants,
    "headline-steps": headline_tables.steps,
    "headline-stages": headline_tables.stages,
    "headline-plot": headline_tables.plot,
    "headline-mesh": headline_tables.mesh_settings,
    "index": index_table,
    "forward": forward_table,
    "gpu": gpu_table,
    "roofline": roofline.kernel_table,
    "gpu-memory": roofline.memory_table,
    "quality": quality_table,
    "proxy": proxy_table,
    "score": score_table,
    "mesh-answers": mesh_tables.answers,
    "refresh": refresh_table,
    "skew": mesh_tables.skew,
    "mesh-tuning-searches": mesh_tables.tuning_searches,
    "mesh-tuning-calls": mesh_tables.tuning_calls,
    "kernels": kernel_tables.headlines,
    "kernels-masks": kernel_tables.masks,
    "kernels-at-recall": kernel_tables.at_recall,
    "kernels-faster-peers": kernel_tables.faster_peers,
    "kernels-full": kernel_tables.full,
}


def render(text: str) -> str:
    """A page with the newest figures between its markers: <!-- table: NAME --> and <!-- end -->."""
    for name, make in TABLES.items():
        between = re.compile(rf"(<!-- table: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        if between.search(text):
            text = between.sub(partial(_filled, made=make()), text)
    return text


def _filled(markers: re.Match[str], made: str) -> str:
    return f"{markers[1]}{made}\n{markers[2]}"


def main() -> int:
    parser = argparse.ArgumentParser(description="Writes the measured tables.")
    parser.add_argument("--check", action="store_true")
    stale = []
    check = parser.parse_args().check
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        if render(text) != text:
            stale.append(page.name)
            if not check:
                page.write_text(render(text), encoding="utf-8")
    if check and stale:
        print(f"{', '.join(stale)}: run python -m benchmarks.tables", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
