"""Prints the tables of docs/results.md about images made of images, from what the runs left.

python -m studies.translation --root runs
"""

import argparse
from pathlib import Path

import pandas as pd

from genlab.report.records import SEED, load_runs

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
"""Experiments, the options that their runs are grouped by, and what is measured in the test."""


def table(folder: Path, options: list[str], measures: list[str]) -> pd.DataFrame:
    """Mean, and standard deviation where there are several seeds, of the finished runs of each setting."""
    runs = load_runs(folder)
    runs = runs[runs["state"] == "finished"].copy()
    columns = {f"test/{name}": name for name in measures if f"test/{name}" in runs}
    runs[options] = runs[options].map(lambda value: value.rsplit(".", 1)[-1] if isinstance(value, str) else value)
    found = runs[[*options, SEED, *columns, "seconds"]].rename(columns=columns)
    grouped = found.groupby(options, dropna=False, sort=False)
    means = grouped[[*columns.values(), "seconds"]].mean().round(4)
    means.insert(0, "seeds", grouped[SEED].nunique())
    spread = grouped[list(columns.values())].std().round(4).dropna(how="all").add_suffix("_std")
    return means.join(spread)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path("runs"), help="folder of all runs")
    parser.add_argument("--only", nargs="+", default=list(STUDIES), choices=list(STUDIES), help="some of the studies")
    args = parser.parse_args()
    for experiment in args.only:
        if (args.root / experiment).is_dir():
            found = table(args.root / experiment, *STUDIES[experiment])
            print(f"\n{experiment}\n\n{found.reset_index().to_string(index=False)}")


if __name__ == "__main__":
    main()
