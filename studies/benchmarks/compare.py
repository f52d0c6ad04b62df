"""The time and size of a comparison of many runs of ten experiments, and the time in which Chromium opens its page.

python -m studies.benchmarks.compare

The runs are artificial: five models on two data sets, five seeds of each setting, every tenth run failed.
"""

import argparse
import importlib.util
import itertools
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from genlab.runs.clock import SECONDS
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
        rows: list[list[Any]] = [
            [step, step / 10, *(f"{draw.gauss(setting, 0.1):.6f}" for _ in METRICS)] for step in range(10, 310, 10)
        ]
        head: list[Any] = ["step", "epoch", *(f"val/{name}" for name in METRICS)]
        (run / "metrics.csv").write_text("".join(",".join(map(str, row)) + "\n" for row in [head, *rows]))
        (run / SECONDS).write_text("".join(f"{step * draw.uniform(0.1, 0.11):.2f}\n" for step in range(30)))
        (run / "media").mkdir()
        (run / "media" / "samples.png").write_bytes(b"")


def write_experiments(root: Path, count: int) -> list[Path]:
    """Writes ten experiments with `count` runs in all."""
    folders = {root / f"{model}_{data}".lower(): (model, data) for model, data in itertools.product(MODELS, DATA)}
    for folder, (model, data) in folders.items():
        write_experiment(folder, model, data, count // len(folders))
    return sorted(folders)


def opening(page: Path) -> float:
    """Returns the seconds until Chromium has drawn the page."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        tab = browser.new_page()
        began = time.perf_counter()
        tab.goto(page.as_uri())
        tab.evaluate("new Promise(done => requestAnimationFrame(() => setTimeout(done)))")
        taken = time.perf_counter() - began
        browser.close()
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000, help="number of runs (default: 1000)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        folders = write_experiments(root, options.runs)
        page = root / "table.html"
        began = time.perf_counter()
        command: list[Any] = [sys.executable, PROGRAM, "compare", *folders, "--output", page]
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
        taken = time.perf_counter() - began
        print(f"{options.runs} runs of {len(folders)} experiments: {taken:.1f} s, {page.stat().st_size / 1e6:.2f} MB")
        if shutil.which("chromium") and importlib.util.find_spec("playwright"):
            print(f"opened in Chromium: {opening(page):.1f} s")


if __name__ == "__main__":
    main()
