"""Prints the tables of docs/results.md about sweeps and draws their pictures, from the runs of `make results`.

python -m studies.pictures
"""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from genlab.report.charts import save_figure, side_by_side
from genlab.report.compare.runs import Run, read_folders
from genlab.report.importance import correlations
from genlab.report.records import FINISHED, SEED, load_runs
from genlab.report.writer import write_report
from studies.command import make_parser, run_command
from studies.page import DOCS, check_docs
from studies.tables import averaged, compared

PICTURES = DOCS / "img"
CHARTS = {
    "ae_capacity": ("test_mse.png", "test_abs_correlation.png", "correlations.png"),
    "transfer": ("test_accuracy.png", "correlations.png"),
    "encoder_transfer": (),
    "denoising": ("test_psnr_gain.png",),
    "vae_latent_dim": ("test_nll.png",),
}
"""Sweeps, each with the charts of its report that are copied to docs/img."""
CAPACITY = ["model.latent_dim", "model.depth"]
TRANSFER = ["model.latent_dim", "model.mlp_width", "model.freeze_encoder"]


def spread(runs: Sequence[Run], metric: str, rows: str, columns: str | None = None) -> str:
    """Returns a table of the mean and the standard deviation of a metric over seeds, averaged over other parameters."""
    return compared(averaged(runs, rows, *filter(None, [columns])), [metric], rows, columns)


def sweep(root: Path, name: str, metrics: Sequence[str], parameters: Sequence[str]) -> list[Run]:
    """Prints the correlations of a sweep and its seconds, and returns its runs."""
    runs = load_runs(root / name)
    runs = runs[runs["state"] == FINISHED]
    print(f"\nPearson correlations\n\n{correlations(runs, list(metrics), list(parameters)).round(3).to_string()}")
    print(f"\ntotal seconds: {runs['seconds'].sum():.0f}")
    return read_folders([root / name])


def capacity(root: Path) -> None:
    metrics = ["test/mse", "test/abs_correlation", "test/abs_correlation_full"]
    runs = sweep(root, "ae_capacity", metrics, CAPACITY)
    for metric in metrics:
        print(f"\n{spread(runs, metric, *CAPACITY)}")
    for by in CAPACITY:
        print(f"\n{spread(runs, 'test/mse', by)}")
    seed = min(run.config[SEED] for run in runs)
    first = {r.config[CAPACITY[0]]: r for r in runs if r.config[SEED] == seed and r.config[CAPACITY[1]] == 3}
    for name in ("interpolation", "latent", "reconstructions"):
        files = [root / "ae_capacity" / first[d].name / "media" / f"{name}.png" for d in (10, 20)]
        save_figure(side_by_side(files, ["latent_dim 10", "latent_dim 20"]), PICTURES / f"{name}.png")


def transfer(root: Path) -> None:
    metric = "test/accuracy"
    runs = sweep(root, "transfer", [metric], TRANSFER)
    for by in TRANSFER[:2]:
        print(f"\n{spread(runs, metric, by, TRANSFER[2])}")


def encoder_transfer(root: Path) -> None:
    runs = read_folders([root / "encoder_transfer"])
    key = "model.encoder_checkpoint"
    named = [replace(run, config={**run.config, key: str(run.config[key]).split("/")[1]}) for run in runs]
    print(f"\n{spread(named, 'test/accuracy', key, 'model.freeze_encoder')}")


def denoising(root: Path) -> None:
    metrics = ["test/psnr_corrupted", "test/psnr", "test/psnr_gain"]
    print(f"\n{compared(read_folders([root / 'denoising']), metrics)}")


def vae_latent_dim(root: Path) -> None:
    metrics = ["test/nll", "test/loss", "test/reconstruction", "test/kl", "test/active_units"]
    print(f"\n{compared(read_folders([root / 'vae_latent_dim']), metrics)}")


STUDIES = (capacity, transfer, encoder_transfer, denoising, vae_latent_dim)


def main() -> None:
    root = make_parser(__doc__).parse_args().root
    check_docs()
    PICTURES.mkdir(exist_ok=True)
    for name, summarize in zip(CHARTS, STUDIES, strict=True):
        print(f"\n## {name}")
        for path in write_report(root / name):
            if path.name in CHARTS[name]:
                shutil.copy(path, PICTURES / f"{name}_{path.name}")
        summarize(root)


if __name__ == "__main__":
    run_command(main)
