"""How well the models of sweeps/vae_color.yaml are steered to a colour, at several finenesses of the measurement.

python -m studies.steering --data-root data
"""

import argparse
from pathlib import Path

import pandas as pd

from datamodules import ColoredMNISTDataModule
from genlab.callbacks import ColorControl
from genlab.report.records import SEED, load_runs
from lit_models import GenerativeModule

CLUSTERS = (50, 200, 400)


def measured(folder: Path, data_root: Path) -> pd.DataFrame:
    """Agreement and purity of each finished run at each number of clusters."""
    rows = []
    runs = load_runs(folder)
    for run in runs[runs["state"] == "finished"].to_dict("records"):
        model = GenerativeModule.load(folder / run["run"] / "checkpoints" / "best.ckpt")
        data = ColoredMNISTDataModule(str(data_root), seed=int(run[SEED]))
        for clusters in CLUSTERS:
            steered = ColorControl(clusters=clusters).measure(model, data)
            found = {"agreement": float(steered.count.agreement), "purity": float(steered.purity)}
            law = str(run["model.latent_distribution"]).rsplit(".", 1)[-1]
            options = {"law": law, "latent_dim": run["model.latent_dim"], "beta": run["model.beta"]}
            rows.append({**options, "seed": run[SEED], "clusters": clusters, "loss": run["test/loss"], **found})
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path("runs"), help="folder of all runs")
    parser.add_argument("--data-root", type=Path, default=Path("data"), help="folder of mnist.npz")
    args = parser.parse_args()
    table = measured(args.root / "vae_color", args.data_root)
    print(table.to_string(index=False))
    spread = table.groupby(["law", "latent_dim", "beta", "clusters"])[["agreement", "purity", "loss"]].agg(
        ["mean", "std"]
    )
    print(f"\nmean and standard deviation over seeds\n\n{spread.round(3).to_string()}")


if __name__ == "__main__":
    main()
