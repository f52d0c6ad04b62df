"""Prints the tables of docs/results.md about image-to-image translation, from the records of the runs.

python -m studies.translation --root runs
"""

import sys

from genlab.report.compare.runs import read_folders
from studies.command import make_parser, run_command
from studies.tables import compared

DISTORTION = ["psnr", "psnr_input", "ssim", "ssim_input", "digit_agreement", "frechet_classifier"]
STUDIES = {
    "cyclegan": ["color_agreement", "digit_agreement", "cycle_l1", "psnr", "ssim", "frechet_classifier"],
    "pix2pix": ["color_agreement", "digit_agreement", "l1", "psnr", "ssim", "frechet_classifier"],
    "srgan": [*DISTORTION, "spectrum_distance", "spectrum_distance_input"],
    "restoration": [*DISTORTION, "spectrum_distance", "spectrum_distance_input"],
}
"""Experiments, each with its test metrics."""


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
            metrics = [f"test/{name}" for name in STUDIES[experiment]]
            print(f"\n{experiment}\n\n{compared(read_folders([folder]), metrics)}")
        else:
            print(f"{experiment} is left out: there is no {folder}; `make results` makes its runs", file=sys.stderr)


if __name__ == "__main__":
    run_command(main)
