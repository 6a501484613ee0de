"""Quality of `meshfold train` on MovieLens latest-small, over seeds, beside popularity and EASE.

Every user's latest 20 % of interactions are held out, out of training and of every choice; items that a user has met
are left out of the rankings.

    python -m benchmarks.quality --data ml-latest-small --seeds 0 1 2
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.arguments import arguments
from benchmarks.report import written
from benchmarks.rows import Row
from meshfold.commands import console
from meshfold.model.data.source import open_source
from meshfold.model.train.config import TrainConfig
from meshfold.model.train.training import train

SHOWN = {"watch": ("recall@50", "ndcg@50"), "like": ("recall@50", "ndcg@50")}


def main() -> None:
    parser = arguments(__doc__, keep=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    args = parser.parse_args()
    rows = [row for seed in args.seeds for row in measure(args.data, seed)]
    names = list(dict.fromkeys(row.case for row in rows))
    figures = [name for name in rows[0].figures if name != "train_s"]
    console.table(
        ["ranking", *figures],
        [
            [name, *(spread([r.figures[f] for r in rows if r.case == name]) for f in figures)]
            for name in names
        ],
        f"{len(args.seeds)} seeds, mean and standard deviation; training took "
        f"{spread([r.figures['train_s'] for r in rows if r.case == names[0]])} s",
    )
    written(rows, args.keep)


def measure(data: Path, seed: int) -> list[Row]:
    """A row for each ranking of one seed."""
    config = TrainConfig(seed=seed)
    with tempfile.TemporaryDirectory() as folder, console.progress() as progress:
        start_s = time.perf_counter()
        metrics = train(open_source(data), Path(folder) / "model", config, progress)
        train_s = time.perf_counter() - start_s
    rows = []
    for name, by_task in metrics.rankings.items():
        figures = {
            f"{task} {figure}": quality.to_json()[figure]
            for task, of_task in SHOWN.items()
            if (quality := by_task.get(task)) is not None
            for figure in of_task
        }
        rows.append(Row("quality", name, config.to_json(), figures | {"train_s": round(train_s, 1)}))
    return rows


def spread(values: list[float]) -> str:
    """Mean and standard deviation."""
    digits = 4 if max(map(abs, values)) < 10 else 1
    if len(values) == 1:
        return f"{values[0]:.{digits}f}"
    return f"{statistics.mean(values):.{digits}f} ± {statistics.stdev(values):.{digits}f}"


if __name__ == "__main__":
    main()
