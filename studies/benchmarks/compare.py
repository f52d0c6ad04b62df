"""The time and size of a comparison of many runs of ten experiments.

python -m studies.benchmarks.compare

The runs are artificial: five models on two data sets, five seeds of each setting, every tenth run failed.
"""

import argparse
import itertools
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from genlab.runs.folder import write_summary

MODELS = ("VAE", "WAE", "GAN", "Glow", "DDPM")
DATA = ("MNIST", "CIFAR10")
SEEDS = 5
METRICS = ("mse", "loss", "frechet_classifier", "precision", "recall", "modes", "modes_kl", "bits_per_dim")
PROGRAM = Path(__file__).parents[2] / "sweep.py"


def write_experiment(folder: Path, model: str, data: str, count: int) -> None:
    """Writes artificial runs of a search, five seeds of each setting."""
    draw = random.Random(f"{model} {data}")  # noqa: S311
    for number in range(count):
        setting, seed = divmod(number, SEEDS)
        config: dict[str, Any] = {"model": f"lit_models.{model}", "data": f"datamodules.{data}DataModule"}
        config |= {"model.latent_dim": 2 + setting, "model.optimizer.lr": 1e-4 * (1 + setting % 3)}
        config |= {f"model.option_{i}": i for i in range(60)} | {"seed_everything": seed}
        metrics = {f"{split}/{name}": draw.gauss(setting, 0.1) for split in ("val", "test") for name in METRICS}
        summary: dict[str, Any] = {
            "state": "failed" if number % 10 == 9 else "finished",
            "config": config,
            "metrics": metrics,
        }
        summary |= {"seconds": 60.0 * draw.uniform(0.5, 2), "images_seen": 60000, "hardware": "CPU, 2 threads"}
        summary["parameters"] = 10**4 * (1 + setting) ** 2
        summary |= {"data_fingerprint": data, "classifier": f"classifier of {data}"}
        run = folder / f"latent_dim={2 + setting},seed={seed}"
        run.mkdir(parents=True)
        write_summary(run, summary)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000, help="number of runs (default: 1000)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        for model, data in itertools.product(MODELS, DATA):
            write_experiment(root / f"{model}_{data}".lower(), model, data, options.runs // 10)
        folders = sorted(map(str, root.iterdir()))
        page = root / "table.html"
        began = time.perf_counter()
        command: list[Any] = [sys.executable, PROGRAM, "compare", *folders, "--output", page]
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
        taken = time.perf_counter() - began
        print(f"{options.runs} runs of {len(folders)} experiments: {taken:.1f} s, {page.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
