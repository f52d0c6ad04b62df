"""Prints the tables of docs/results.md about sweeps and draws their pictures, from the runs of `make results`.

python -m studies.pictures
"""

import shutil
from pathlib import Path

import pandas as pd

from genlab.report.charts import save_figure, side_by_side
from genlab.report.importance import correlations
from genlab.report.records import SEED, load_runs
from genlab.report.writer import write_report
from studies.command import make_parser, run_command
from studies.page import DOCS, check_docs, markdown_table

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


def spread_table(runs: pd.DataFrame, metric: str, rows: str, columns: list[str]) -> str:
    """Returns a Markdown table of the mean and the standard deviation of a metric over seeds.

    For each seed, the metric is averaged over the parameters that are neither `rows` nor `columns`.
    """
    per_seed = runs.groupby([rows, *columns, SEED])[metric].mean().groupby(level=[rows, *columns])
    texts = per_seed.mean().map("{:.4f}".format) + " ± " + per_seed.std().map("{:.4f}".format)
    cells = texts.unstack(columns) if columns else texts.to_frame("mean")
    head = [rows, *(", ".join(map(str, c)) if isinstance(c, tuple) else str(c) for c in cells.columns)]
    return markdown_table(head, [[str(index), *row] for index, row in zip(cells.index, cells.to_numpy(), strict=True)])


def capacity(root: Path) -> None:
    runs = load_runs(root / "ae_capacity")
    runs = runs[runs["state"] == "finished"]
    metrics = ["test/mse", "test/abs_correlation", "test/abs_correlation_full"]
    for metric in metrics:
        print(f"\n{metric} by latent_dim and depth\n\n{spread_table(runs, metric, CAPACITY[0], CAPACITY[1:])}")
    for by in CAPACITY:
        print(f"\ntest/mse by {by}, mean over the other parameters\n\n{spread_table(runs, 'test/mse', by, [])}")
    print(f"\nPearson correlations\n\n{correlations(runs, metrics, CAPACITY).round(3).to_string()}")
    print(f"\ntotal seconds: {runs['seconds'].sum():.0f}")
    first = runs[(runs[SEED] == runs[SEED].min()) & (runs["model.depth"] == 3)].set_index("model.latent_dim")["run"]
    for name in ("interpolation", "latent", "reconstructions"):
        files = [root / "ae_capacity" / str(first[d]) / "media" / f"{name}.png" for d in (10, 20)]
        save_figure(side_by_side(files, ["latent_dim 10", "latent_dim 20"]), PICTURES / f"{name}.png")


def transfer(root: Path) -> None:
    runs = load_runs(root / "transfer")
    runs = runs[runs["state"] == "finished"]
    metric = "test/accuracy"
    print(f"\n{metric} by latent_dim and freeze_encoder\n\n{spread_table(runs, metric, TRANSFER[0], TRANSFER[2:])}")
    print(f"\n{metric} by mlp_width and freeze_encoder\n\n{spread_table(runs, metric, TRANSFER[1], TRANSFER[2:])}")
    print(f"\nPearson correlations\n\n{correlations(runs, [metric], TRANSFER).round(3).to_string()}")
    print(f"\ntotal seconds: {runs['seconds'].sum():.0f}")


def encoder_transfer(root: Path) -> None:
    runs = load_runs(root / "encoder_transfer")
    runs["encoder"] = runs["model.encoder_checkpoint"].str.split("/").str[1]
    print(f"\n{spread_table(runs, 'test/accuracy', 'encoder', ['model.freeze_encoder'])}")


def denoising(root: Path) -> None:
    runs = load_runs(root / "denoising")
    runs["corruption"] = runs["model.corruption"].str.rsplit(".").str[-1]
    columns = ["corruption", "model.corruption.strength", "test/psnr_corrupted", "test/psnr", "test/psnr_gain"]
    print(f"\n{runs[columns].sort_values(columns[:2]).round(2).to_string(index=False)}")


def vae_latent_dim(root: Path) -> None:
    runs = load_runs(root / "vae_latent_dim").sort_values("model.latent_dim")
    columns = ["model.latent_dim", "test/nll", "test/loss", "test/reconstruction", "test/kl", "test/active_units"]
    print(f"\n{runs[columns].round(2).to_string(index=False)}")


STUDIES = (capacity, transfer, encoder_transfer, denoising, vae_latent_dim)


def main() -> None:
    root = make_parser(__doc__).parse_args().root
    check_docs()
    PICTURES.mkdir(exist_ok=True)
    for sweep, summarize in zip(CHARTS, STUDIES, strict=True):
        print(f"\n## {sweep}")
        for path in write_report(root / sweep):
            if path.name in CHARTS[sweep]:
                shutil.copy(path, PICTURES / f"{sweep}_{path.name}")
        summarize(root)


if __name__ == "__main__":
    run_command(main)
