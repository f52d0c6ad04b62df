"""Measures how well the models of sweeps/vae_color.yaml are steered to a colour, at several numbers of clusters.

python -m studies.steering --data-root data
"""

from pathlib import Path

import pandas as pd

from datamodules import ColoredMNISTDataModule
from genlab.callbacks import ColorControl
from genlab.report.records import SEED, load_runs
from lit_models import GenerativeModule
from studies.command import make_parser, run_command

CLUSTERS = (50, 200, 400)
OPTIONS = ["latent_distribution", "latent_dim", "beta"]


def measure(folder: Path, data_root: Path) -> pd.DataFrame:
    """Returns agreement and purity of each finished run at each number of clusters."""
    rows = []
    runs = load_runs(folder)
    for finished in runs[runs["state"] == "finished"].to_dict("records"):
        model = GenerativeModule.load(folder / finished["run"] / "checkpoints" / "best.ckpt")
        data = ColoredMNISTDataModule(str(data_root), seed=int(finished[SEED]))
        options = {name: finished[f"model.{name}"] for name in OPTIONS}
        options["latent_distribution"] = str(options["latent_distribution"]).rsplit(".", 1)[-1]
        for clusters in CLUSTERS:
            result = ColorControl(clusters=clusters).measure(model, data)
            scores = {"agreement": float(result.count.agreement), "purity": float(result.purity)}
            row = {**options, "seed": finished[SEED], "clusters": clusters, "loss": finished["test/loss"], **scores}
            rows.append(row)
    return pd.DataFrame(rows)


def main() -> None:
    args = make_parser(__doc__, data=True).parse_args()
    table = measure(args.root / "vae_color", args.data_root)
    print(table.to_string(index=False))
    spread = table.groupby([*OPTIONS, "clusters"])[["agreement", "purity", "loss"]].agg(["mean", "std"])
    print(f"\nmean and standard deviation over seeds\n\n{spread.round(3).to_string()}")


if __name__ == "__main__":
    run_command(main)
