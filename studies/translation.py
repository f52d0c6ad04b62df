"""Prints the tables of docs/results.md about image-to-image translation, from the records of the runs.

python -m studies.translation --root runs
"""

import sys
from pathlib import Path

import pandas as pd

from genlab.report.records import SEED, load_runs
from studies.command import make_parser, run_command

DISTORTION = ["psnr", "psnr_input", "ssim", "ssim_input", "digit_agreement", "frechet_classifier"]
STUDIES = {
    "cyclegan": (
        ["model.cycle_weight", "model.identity_weight", "model.objective", "model.step_order"],
        ["color_agreement", "digit_agreement", "cycle_l1", "psnr", "ssim", "frechet_classifier"],
    ),
    "pix2pix": (
        ["data.source", "model.l1_weight", "model.adversarial_weight"],
        ["color_agreement", "digit_agreement", "l1", "psnr", "ssim", "frechet_classifier"],
    ),
    "srgan": (
        ["data.factor", "model.adversarial_weight", "model.perceptual_weight", "model.noise_channels"],
        [*DISTORTION, "spectrum_distance", "spectrum_distance_input"],
    ),
    "restoration": (
        ["data.noise", "model.residual_weight", "model.spectrum_weight"],
        [*DISTORTION, "spectrum_distance", "spectrum_distance_input"],
    ),
}
"""Experiments, each with the options that group its runs and its test metrics."""


def table(folder: Path, options: list[str], metrics: list[str]) -> pd.DataFrame:
    """Returns the mean over the finished runs of each setting, and the standard deviation over several seeds."""
    runs = load_runs(folder)
    runs = runs[runs["state"] == "finished"].copy()
    columns = {f"test/{name}": name for name in metrics if f"test/{name}" in runs}
    runs[options] = runs[options].map(lambda value: value.rsplit(".", 1)[-1] if isinstance(value, str) else value)
    renamed = runs[[*options, SEED, *columns, "seconds"]].rename(columns=columns)
    grouped = renamed.groupby(options, dropna=False, sort=False)
    means = grouped[[*columns.values(), "seconds"]].mean().round(4)
    means.insert(0, "seeds", grouped[SEED].nunique())
    spread = grouped[list(columns.values())].std().round(4).dropna(how="all").add_suffix("_std")
    return means.join(spread)


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument(
        "--only",
        nargs="+",
        default=list(STUDIES),
        choices=list(STUDIES),
        metavar="EXPERIMENT",
        help=f"experiments to print, of {', '.join(STUDIES)} (default: all)",
    )
    args = parser.parse_args()
    for experiment in args.only:
        folder = args.root / experiment
        if folder.is_dir():
            print(f"\n{experiment}\n\n{table(folder, *STUDIES[experiment]).reset_index().to_string(index=False)}")
        else:
            print(f"{experiment} is left out: there is no {folder}; `make results` makes its runs", file=sys.stderr)


if __name__ == "__main__":
    run_command(main)
