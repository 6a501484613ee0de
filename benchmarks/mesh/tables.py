"""The tables of docs/mesh.md, from rows alone."""

from __future__ import annotations

from benchmarks.rows import newest_rows


def answers() -> str:
    """How equal mesh and model answer."""
    rows = newest_rows("mesh_answers")
    lines = [
        "| search of the mesh | same ids but for ties | same order too | ids in common "
        "| largest difference of a value | of a similarity |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        f = row.figures
        lines.append(
            f"| {row.case} | {f['equal_but_ties']:.2%} | {f['same_order']:.1%} | {f['same_ids']:.4%} "
            f"| {f['worst_value']:.1e} | {f['worst_similarity']:.1e} |"
        )
    config = rows[0].config
    told = (
        f"{config['requests']:,} requests made from {config['data']}, every item a candidate; a tie is a value within"
        f" {config['close']:g}; rerun with `make mesh-answers DATA={config['data']}`."
    )
    return "\n".join([*lines, "", told])


def skew() -> str:
    """What version skew costs."""
    rows = newest_rows("skew")
    figures = list(rows[0].figures)
    lines = [f"| mesh | {' | '.join(figures)} |", "|---" * (1 + len(figures)) + "|"]
    lines += [
        f"| {row.case} | {' | '.join(f'{row.figures[name]:.3f}' for name in figures)} |" for row in rows
    ]
    config = rows[0].config
    told = (
        f"{config['data']}, {config['users']} users, each one's latest {config['held_out']:.0%} held out; the first"
        f" version learned from the oldest {config['first_share']:.0%} of all interactions; overlap is with its"
        f" answers; rerun with `make skew DATA={config['data']}`."
    )
    return "\n".join([*lines, "", told])


def tuning_searches() -> str:
    """Ways to find candidates behind a filter."""
    rows = [row for row in newest_rows("mesh_tuning") if "pass_rate" in row.config]
    lines = [
        "| ms of one thread | one by one | IVF,SQ8 behind a selector | flat behind a selector "
        "| selector's bits, set | copied |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        f = row.figures
        cells = [f["one_by_one_ms"], f["ivf_ms"], f["flat_ms"], f["bits_set_ms"], f["bits_copied_ms"]]
        lines.append(f"| {row.case} | {' | '.join(f'{cell:.2f}' for cell in cells)} |")
    config = rows[0].config
    told = (
        f"{config['items']:,} generated items x {config['dimension']}, {config['candidates']:,} candidates,"
        f" {config['probed']:.0%} of the lists where all pass, on {rows[0].device}; rerun with `make mesh-tuning`."
    )
    return "\n".join([*lines, "", told])


def tuning_calls() -> str:
    """Ways to call services."""
    rows = [row for row in newest_rows("mesh_tuning") if "calls" in row.config]
    lines = ["| call of 20 kB | processor time of the caller |", "|---|---|"]
    lines += [f"| {row.case} | {row.figures['cpu_us']:.0f} us |" for row in rows]
    return "\n".join(lines)
