"""The tables of the headline, from rows alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from benchmarks.headline.plot import LABELS, PLOT
from benchmarks.markdown import formatted, markdown
from benchmarks.rows import RESULTS, ROOT, Row, all_rows, newest_rows

_NO_STEPS = "No rows yet: `make bench-steps` measures them."
_NONE = "No rows yet: `make bench-headline` measures them."

Figures = Mapping[str, float]


def headline() -> str:
    """Mesh and model side by side, with the OverArch."""
    return _of_case("headline")


def variants() -> str:
    """The same of what else was measured: a line a case."""
    by_case = _by_case()
    others = [case for case in by_case if case != "headline"]
    if not others:
        return "No rows yet: `make bench-headline VARIANTS=--all` measures them."
    columns = ("case", "mesh, a second", "model, a second", "ratio", "saturated", "processor time")
    lines = []
    for case in others:
        a, b = by_case[case]["mesh"].figures, by_case[case]["model"].figures
        ratios = [_times(b[key], a[key]) for key in ("rate_hz", "saturated_hz")]
        cells = [
            case,
            f"{a['rate_hz']:.1f}",
            f"{b['rate_hz']:.1f}",
            *ratios,
            _times(a["cpu_ms"], b["cpu_ms"]),
        ]
        lines.append([*cells, f"{a['recall']:.4f}, {b['recall']:.4f}"])
    note = "Ratios are of the model to the mesh, of processor time the other way round."
    return markdown([*columns, "recall of mesh, model"], lines, note)


def steps() -> str:
    """The gain of each step."""
    if not (RESULTS / "headline_steps.jsonl").exists():
        return _NO_STEPS
    rows = newest_rows("headline_steps")
    lines = [
        "| way | processor time a request | bought | p50 with one caller | bought | saturated |",
        "|---" * 6 + "|",
    ]
    before: Row | None = None
    for row in rows:
        f = row.figures
        cells = [f"{f['cpu_ms']:.1f} ms", _bought(before, f, "cpu_ms"), f"{f['one_p50_ms']:.1f} ms"]
        cells += [_bought(before, f, "one_p50_ms"), f"{f['saturated_hz']:.0f} a second"]
        lines.append(f"| {row.case} | {' | '.join(cells)} |")
        before = row
    first, last = rows[0].figures, rows[-1].figures
    cpu_ms, p50_ms = (first[key] - last[key] for key in ("cpu_ms", "one_p50_ms"))
    lines.append(f"| in all | | {cpu_ms:.1f} ms | | {p50_ms:.1f} ms | |")
    return "\n".join([*lines, "", _items(rows)])


def stages() -> str:
    """Where the processor time of a request goes."""
    if not (RESULTS / "headline_stages.jsonl").exists():
        return _NO_STEPS
    rows = newest_rows("headline_stages")
    parts = {**{stage: label for stage, (label, _) in LABELS.items()}, "whole": "**whole**"}
    lines = [[label, *(f"{row.figures[f'{part}_ms']:.2f}" for row in rows)] for part, label in parts.items()]
    return markdown(["ms of the processor a request", *(row.case for row in rows)], lines, _items(rows))


def plot() -> str:
    """The same as a picture, for a page in the root."""
    if not PLOT.exists():
        return _NO_STEPS
    return f"![where the processor time of a request goes]({PLOT.relative_to(ROOT)})"


def mesh_settings() -> str:
    """The sweep that chose the mesh's settings."""
    if not (RESULTS / "headline_mesh.jsonl").exists():
        return "No rows yet: `make mesh-tuning` measures them."
    rows = newest_rows("headline_mesh")
    settings = ("threads", "workers", "replicas")
    shown = {
        "rate_hz": "{:.1f} a second",
        "saturated_hz": "{:.1f} a second",
        "cpu_ms": "{:.1f} ms",
        "one_p50_ms": "{:.1f} ms",
    }
    lines = [[*(row.config[name] for name in settings), *formatted(row, shown)] for row in rows]
    columns = (*settings, "99 % within 100 ms", "saturated", "processor time", "p50, one caller")
    return markdown(columns, lines, _items(rows))


def _items(rows: Sequence[Row]) -> str:
    return f"{rows[0].config['items']:,} generated items on {rows[0].device}."


def _of_case(case: str) -> str:
    by_case = _by_case()
    if case not in by_case:
        return _NONE
    of_mesh, of_model = by_case[case]["mesh"], by_case[case]["model"]
    a, b, config = of_mesh.figures, of_model.figures, of_mesh.config
    limit = f"{config['p99_ms']:g} ms"

    def line(name: str, key: str, shown: Callable[[float], str], more_is_better: bool = True) -> str:
        ratio = _times(b[key], a[key]) if more_is_better else _times(a[key], b[key])
        return f"| {name} | {shown(a[key])} | {shown(b[key])} | {ratio} |"

    lines = [
        "| | mesh | model | ratio |",
        "|---|---|---|---|",
        f"| **requests a second, 99 % within {limit}** | {_rate(a)} | {_rate(b)}"
        f" | {_times(b['rate_hz'], a['rate_hz'])} |",
        line("requests a second, saturated", "saturated_hz", "{:.0f}".format),
        line("processor time a request", "cpu_ms", "{:.1f} ms".format, more_is_better=False),
        line("p50 at the mesh's highest rate", "equal_p50_ms", "{:.0f} ms".format, more_is_better=False),
        line("p99 at the mesh's highest rate", "equal_p99_ms", "{:.0f} ms".format, more_is_better=False),
        line("p50 with one caller", "callers_1_p50_ms", "{:.1f} ms".format, more_is_better=False),
        line("memory, shared pages once", "memory_mb", "{:,.0f} MB".format, more_is_better=False),
        f"| bytes to and from a caller, a request | {_wire(a)} | {_wire(b)} | |",
        f"| bytes between services, a request | {a['between_bytes'] / 1000:.0f} kB | none | |",
        f"| recall of the exact answer | {a['recall']:.4f} | {b['recall']:.4f} | |",
    ]
    told = (
        f"{config['items']:,} generated items x {config['dimension']}, two tasks, an OverArch over 4,096 candidates"
        f" that changes {config['over_arch_changes']:.0%} of the best results, {config['results']:,} results, every"
        f" second request with a filter over six fields; mesh and server in turn on the same cores, {of_mesh.device};"
        f" everything else on the machine took {max(a['others_cores'], b['others_cores']):.2f} cores meanwhile, a call"
        f" {max(a['generator_cpu_ms'], b['generator_cpu_ms']):.2f} ms of the generator; in brackets 95 % intervals;"
        " rerun with `make bench-headline`."
    )
    return "\n".join([*lines, "", told])


def _by_case() -> dict[str, dict[str, Row]]:
    """Newest rows by case and side. A run measures both sides of its cases, and not every case."""
    if not (RESULTS / "headline.jsonl").exists():
        return {}
    by_case: dict[str, dict[str, Row]] = {}
    for row in all_rows("headline"):
        case, _, side = row.case.rpartition(", ")
        by_case.setdefault(case, {})[side] = row
    return by_case


def _rate(f: Figures) -> str:
    return f"**{f['rate_hz']:.1f}** ({f['rate_low_hz']:.1f} to {f['rate_high_hz']:.1f})"


def _wire(f: Figures) -> str:
    return f"{(f['request_bytes'] + f['answer_bytes']) / 1000:.0f} kB"


def _times(above: float, below: float) -> str:
    return f"{above / below:.1f}x" if below else ""


def _bought(before: Row | None, f: Figures, key: str) -> str:
    return "" if before is None else f"{before.figures[key] - f[key]:.1f} ms"
