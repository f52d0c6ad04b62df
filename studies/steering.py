"""Measures how well the models of sweeps/vae_color.yaml are steered to a colour, at several numbers of clusters.

python -m studies.steering --data-root data
"""

from dataclasses import replace
from pathlib import Path

from datamodules import ColoredMNISTDataModule
from genlab.callbacks import ColorControl
from genlab.report.compare.runs import Run, read_folders
from genlab.report.records import FINISHED, SEED
from lit_models import GenerativeModule
from studies.command import make_parser, run_command
from studies.tables import compared

CLUSTERS = (50, 200, 400)
METRICS = ("test/color_agreement", "test/color_purity", "test/loss")


def measure(folder: Path, data_root: Path) -> list[Run]:
    """Returns each finished run once for each number of clusters, with its agreement and purity."""
    measured = []
    for run in read_folders([folder]):
        if run.state != FINISHED:
            continue
        model = GenerativeModule.load(folder / run.name / "checkpoints" / "best.ckpt")
        data = ColoredMNISTDataModule(str(data_root), seed=int(run.config[SEED]))
        for clusters in CLUSTERS:
            result = ColorControl(clusters=clusters).measure(model, data)
            scores = {METRICS[0]: float(result.count.agreement), METRICS[1]: float(result.purity)}
            config = {**run.config, "color_control.clusters": clusters}
            measured.append(replace(run, config=config, metrics={**run.metrics, **scores}))
    return measured


def main() -> None:
    args = make_parser(__doc__, data=True).parse_args()
    print(compared(measure(args.root / "vae_color", args.data_root), METRICS))


if __name__ == "__main__":
    run_command(main)
