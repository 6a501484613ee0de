"""The tables of docs/mesh.md, from rows alone."""

from __future__ import annotations

from benchmarks.markdown import formatted, markdown
from benchmarks.rows import newest_rows


def answers() -> str:
    """How equal mesh and model answer."""
    rows = newest_rows("mesh_answers")
    columns = ["search of the mesh", "same ids but for ties", "same order too", "ids in common"]
    columns += ("largest difference of a value", "of a similarity")
    shown = {
        "equal_but_ties": "{:.2%}",
        "same_order": "{:.1%}",
        "same_ids": "{:.4%}",
        "worst_value": "{:.1e}",
        "worst_similarity": "{:.1e}",
    }
    config = rows[0].config
    note = (
        f"{config['requests']:,} requests made from {config['data']}, every item a candidate; a tie is a value within"
        f" {config['close']:g}; rerun with `make mesh-answers DATA={config['data']}`."
    )
    return markdown(columns, [[row.case, *formatted(row, shown)] for row in rows], note)


def skew() -> str:
    """The cost of version skew."""
    rows = newest_rows("skew")
    shown = dict.fromkeys(rows[0].figures, "{:.3f}")
    config = rows[0].config
    note = (
        f"{config['data']}, {config['users']} users, each one's latest {config['held_out']:.0%} held out; the first"
        f" version learned from the oldest {config['first_share']:.0%} of all interactions; overlap is with its"
        f" answers; rerun with `make skew DATA={config['data']}`."
    )
    return markdown(["mesh", *shown], [[row.case, *formatted(row, shown)] for row in rows], note)


def tuning_searches() -> str:
    """Ways to find candidates behind a filter."""
    rows = [row for row in newest_rows("mesh_tuning") if "pass_rate" in row.config]
    columns = ["ms of one thread", "one by one", "IVF,SQ8 behind a selector", "flat behind a selector"]
    columns += ("selector's bits, set", "copied")
    figures = ("one_by_one_ms", "ivf_ms", "flat_ms", "bits_set_ms", "bits_copied_ms")
    shown = dict.fromkeys(figures, "{:.2f}")
    config = rows[0].config
    note = (
        f"{config['items']:,} generated items x {config['dimension']}, {config['candidates']:,} candidates,"
        f" {config['probed']:.0%} of the lists where all pass, on {rows[0].device}; rerun with `make mesh-tuning`."
    )
    return markdown(columns, [[row.case, *formatted(row, shown)] for row in rows], note)


def tuning_calls() -> str:
    """Ways to call services."""
    rows = [row for row in newest_rows("mesh_tuning") if "calls" in row.config]
    lines = [[row.case, f"{row.figures['cpu_us']:.0f} us"] for row in rows]
    return markdown(("call of 20 kB", "processor time of the caller"), lines)
