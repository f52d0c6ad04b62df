"""The time and size of the report of a sweep with many runs.

python -m studies.benchmarks.report

The runs are artificial: four hyperparameters and three seeds, six metrics in each of 20 epochs, every tenth run failed.
"""

import argparse
import csv
import json
import random
import tempfile
import time
from pathlib import Path
from typing import Any

METRICS = ("train/mse", "train/kl", "train/loss", "val/mse", "val/kl", "val/loss")
EPOCHS = 20


def write_runs(folder: Path, count: int) -> None:
    """Writes artificial runs of a random search, every tenth of which failed."""
    draw = random.Random(0)  # noqa: S311
    for number in range(count):
        config: dict[str, Any] = {
            "model.latent_dim": draw.choice([2, 5, 10, 20, 50]),
            "model.optimizer.lr": 10 ** draw.uniform(-4, -2),
            "model.optimizer": draw.choice(["torch.optim.Adam", "torch.optim.SGD", "torch.optim.AdamW"]),
            "model.depth": draw.choice([1, 2, 3]),
            "seed_everything": number % 3,
        }
        config |= {f"data.option_{i}": i for i in range(20)}
        error = 1 / config["model.latent_dim"] + 0.1 * config["model.depth"] + draw.gauss(0, 0.01)
        failed = number % 10 == 9
        run = folder / f"depth={config['model.depth']},number={number}"
        run.mkdir(parents=True)
        with open(run / "metrics.csv", "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["step", "epoch", *METRICS])
            for epoch in range(EPOCHS):
                values = [error * (1 + 1 / (epoch + 1)) + draw.gauss(0, 0.01) for _ in METRICS]
                writer.writerow([100 * epoch + 99, epoch + 1, *values])
        summary: dict[str, Any] = {"state": "failed" if failed else "finished", "config": config, "seconds": 60.0}
        summary |= {"error": "RuntimeError: out of memory"} if failed else {}
        summary["metrics"] = {} if failed else {"test/mse": error, "test/loss": 2 * error, "val/mse": error}
        (run / "summary.json").write_text(json.dumps(summary), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000, help="number of runs (default: 1000)")
    parser.add_argument("--keep", type=Path, help="folder for the runs and the report (default: a temporary one)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary) / "sweep"
        write_runs(folder, options.runs)
        began = time.perf_counter()
        from genlab.report.writer import write_report

        written = write_report(folder)
        taken = time.perf_counter() - began
        size = next(path for path in written if path.name == "index.html").stat().st_size / 1e6
        print(
            f"{options.runs} runs: {taken:.1f} s including all imports, index.html {size:.1f} MB, {len(written)} files"
        )


if __name__ == "__main__":
    main()
