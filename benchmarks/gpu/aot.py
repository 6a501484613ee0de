"""Every Triton kernel at its serving shapes, compiled ahead of time for GPUs that need not be here.

Registers and spilled bytes are those that ptxas reports. Exit 1 where a kernel spills or does not compile.

    python -m benchmarks.gpu.aot --json build/aot.json
"""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

from benchmarks.arguments import arguments
from benchmarks.report import bench
from meshfold.commands import console

# Compute capabilities of A100 and H100.
TARGETS = (80, 90)
_PACKAGE = "meshfold.kernels.gpu"


@dataclass(frozen=True)
class Compiled:
    """shared_bytes: dynamic ones included. spill_bytes: stores and loads. error: "" where it compiled."""

    kernel: str
    target: str
    registers: int = 0
    spill_bytes: int = 0
    shared_bytes: int = 0
    seconds: float = 0.0
    error: str = ""


def main(argv: Sequence[str] | None = None) -> int:
    parser = arguments(__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there")
    parser.add_argument("--only", default="", metavar="TEXT", help="kernels whose name holds it")
    parser.add_argument("--processes", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--package", default=_PACKAGE, help="whose modules offer compilations()")
    args = parser.parse_args(argv)
    rows = compile_all(args.package, args.only, args.processes)
    if not rows:
        print(f"no kernel of {args.package} has {args.only!r} in its name", file=sys.stderr)
        return 1
    console.table(
        ["kernel", "target", "registers", "spilled bytes", "shared bytes", "seconds"],
        [list(asdict(row).values())[:-1] for row in rows],
    )
    failed = [row for row in rows if row.error]
    spilled = [row for row in rows if row.spill_bytes]
    for row in failed:
        print(f"{row.kernel} does not compile for {row.target}: {row.error}", file=sys.stderr)
    for row in spilled:
        print(f"{row.kernel} spills {row.spill_bytes} bytes on {row.target}", file=sys.stderr)
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", "utf-8")
    kernels = len(rows) // len(TARGETS)
    told = {"name": "aot", "kernels": kernels, "targets": len(TARGETS), "spills": len(spilled)}
    bench(told)
    return int(bool(failed or spilled))


def compile_all(package: str, only: str, processes: int) -> list[Compiled]:
    """A row for each kernel and target, in the order of their names."""
    # A kernel that is imported while kernels are interpreted cannot be compiled; and what an earlier run has kept
    # has no figures.
    os.environ.pop("TRITON_INTERPRET", None)
    os.environ["TRITON_DUMP_PTXAS_LOG"] = "1"
    rows = []
    with tempfile.TemporaryDirectory() as cache, console.progress() as progress:
        os.environ["TRITON_CACHE_DIR"] = cache
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(processes, mp_context=context) as pool:
            tasks = pool.submit(_tasks, package, only).result()
            running = [pool.submit(_compiled, *task, target) for task in tasks for target in TARGETS]
            for done, future in enumerate(running):
                progress("compiling", done, len(running))
                rows.append(future.result())
            progress("compiling", len(running), len(running))
    return rows


def _tasks(package: str, only: str) -> list[tuple[str, int]]:
    """(module, place in its compilations()) of each kernel. Its own process: this one imports no kernel."""
    names = sorted(module.name for module in iter_modules(import_module(package).__path__))
    modules = [import_module(f"{package}.{name}") for name in names]
    return [
        (module.__name__, i)
        for module in modules
        if hasattr(module, "compilations")
        for i, compilation in enumerate(module.compilations())
        if only in compilation.name
    ]


def _compiled(module: str, place: int, capability: int) -> Compiled:
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    wanted = import_module(module).compilations()[place]
    name, target = wanted.name, f"sm_{capability}"
    start_s = time.perf_counter()
    log = io.StringIO()
    try:
        names = wanted.kernel.arg_names
        # In the order of the kernel, which is what tells arguments apart.
        signature = {argument: wanted.signature[argument] for argument in names}
        # Alignment of torch's allocations.
        aligned = {
            (i,): [["tt.divisibility", 16]]
            for i, argument in enumerate(names)
            if signature[argument].startswith("*")
        }
        source = ASTSource(wanted.kernel, signature, wanted.constexprs, aligned)
        options = {
            "num_warps": wanted.num_warps,
            "num_stages": wanted.num_stages,
            "enable_fp_fusion": wanted.fusion,
        }
        with redirect_stdout(log):
            made: Any = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
        registers, spilled = resources(log.getvalue())
    # The compiler raises errors of any class; each concerns this kernel alone.
    except Exception as error:
        return Compiled(name, target, error=f"{type(error).__name__}: {error}")
    seconds = round(time.perf_counter() - start_s, 2)
    return Compiled(name, target, registers, spilled, made.metadata.shared, seconds)


def resources(log: str) -> tuple[int, int]:
    """(registers of a thread, spilled bytes) as `ptxas -v` reports them. Raises ValueError where it does not."""
    registers = re.findall(r"Used (\d+) registers", log)
    spills = re.findall(r"(\d+) bytes spill (?:stores|loads)", log)
    if not registers or not spills:
        raise ValueError(f"ptxas reported neither registers nor spills: {log[:500]!r}")
    return max(map(int, registers)), sum(map(int, spills))


if __name__ == "__main__":
    sys.exit(main())
