"""Prints the tables of docs/results.md about adversarial models, and draws what becomes of the generator's gradient.

python -m studies.adversarial --data-root data

The distances of the best and of the last weights are measured here by one judge, those of models that are no GANs too.
"""

import argparse
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from datamodules import ImageDataModule, MNISTDataModule, StackedMNISTDataModule
from genlab.callbacks import EvaluationClassifier, find_evaluation_classifier, image_sets_frechet
from genlab.evaluation.sample_scores import Scores, draw
from genlab.media import own_randomness, render, write_file
from genlab.report.records import SEED, load_runs
from genlab.sampling.sampler import Sampler
from lit_models import GenerativeModule

PICTURES = Path("docs") / "img"
BASELINES = {
    "VAE, from its prior": ("vae_mnist", "prior"),
    "linear autoencoder, Gaussian": ("linearautoencoder_mnist", "gaussian"),
}
SAMPLES = 10_000
BATCH = 500
STUDIES = {
    "gan_mnist": [],
    "gan_objective": ["model.objective"],
    "gan_prior": ["model.prior", "model.generator_checkpoint"],
    "conditionalgan_mnist": [],
    "cgan": ["model.conditioning"],
    "acgan_mnist": [],
    "pacgan": ["model.pack"],
}
"""Experiments, and the options that their runs are grouped by."""
STEADINESS = ["train/loss_d_std", "train/loss_g_std"]


def judged(
    judge: EvaluationClassifier, real: Tensor, samples: Iterator[tuple[Tensor, int | None]], labelled: bool
) -> dict[str, float]:
    scores = Scores(judge, labelled)
    for images in real.split(BATCH):
        scores.add_real(images)
    for images, label in samples:
        scores.add_samples(images, label)
    return scores.compute()


@torch.no_grad()
def of_model(judge: EvaluationClassifier, real: Tensor, checkpoint: Path, *, count: int) -> dict[str, float]:
    model = GenerativeModule.load(checkpoint)
    labelled = getattr(model, "num_classes", None) == judge.num_modes
    with own_randomness(1):
        return judged(judge, real, draw(model, count, BATCH), labelled)


@torch.no_grad()
def of_law(
    judge: EvaluationClassifier, real: Tensor, checkpoint: Path, law: str, data: ImageDataModule
) -> dict[str, float]:
    sampler = Sampler(GenerativeModule.load(checkpoint), law, lambda: data)  # type: ignore[arg-type]
    with own_randomness(1):
        images = sampler.draw(SAMPLES)[0].float() / 255
    return judged(judge, real, ((batch, None) for batch in images.split(BATCH)), False)


def floor(judge: EvaluationClassifier, data: ImageDataModule) -> float:
    """The distance of 10,000 training images from the test images."""
    return image_sets_frechet(judge, data.examples("test", SAMPLES)[0], data.examples("train", SAMPLES)[0])


def table(folder: Path, by: list[str], measure: Callable[[Path], dict[str, float]]) -> pd.DataFrame:
    """The numbers of each finished run, of its best and of its last weights."""
    runs = load_runs(folder)
    rows = []
    for run in runs[runs["state"] == "finished"].to_dict("records"):
        options = {name: str(run.get(name)).rsplit(".", 1)[-1] for name in by}
        steady = {name: run[name] for name in STEADINESS if name in run}
        for which in ("best", "last"):
            found = measure(folder / run["run"] / "checkpoints" / f"{which}.ckpt")
            rows.append({**options, "weights": which, "seed": run[SEED], **found, **steady, "seconds": run["seconds"]})
    return pd.DataFrame(rows)


def gradient_chart(folder: Path) -> Figure:
    """The norm of the generator's gradient in each step of a run, one line a run."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    colours = {"Minimax": "#c8500a", "NonSaturating": "#1f6fb4"}
    runs = load_runs(folder)
    for run in runs[runs["state"] == "finished"].to_dict("records"):
        history = pd.read_csv(folder / run["run"] / "metrics.csv").dropna(subset=["train/grad_norm_g"])
        name = str(run["model.objective"]).rsplit(".", 1)[-1]
        norm = history["train/grad_norm_g"]
        axes.plot(history["step"], norm, color=colours[name], alpha=0.25, lw=0.7)
        axes.plot(history["step"], norm.rolling(20, center=True).median(), color=colours[name], lw=1.6, label=name)
        early = norm[history["step"] < len(history)]
        print(
            f"{name} seed {run[SEED]}: median norm {early.median():.3g}, of the last hundred {norm[-100:].median():.3g}"
        )
    axes.set_yscale("log")
    axes.set(
        xlabel="step", ylabel="norm of the generator's gradient", title="a discriminator that learns ten times as fast"
    )
    handles, names = axes.get_legend_handles_labels()
    axes.legend(*zip(*dict(zip(names, zip(handles, names, strict=True), strict=True)).values(), strict=True))
    axes.grid(alpha=0.3)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path("runs"), help="folder of all runs")
    parser.add_argument("--data-root", type=Path, default=Path("data"), help="folder of mnist.npz")
    parser.add_argument("--only", nargs="+", default=list(STUDIES), help="some of the experiments")
    args = parser.parse_args()
    mnist, stacked = (kind(str(args.data_root), seed=0) for kind in (MNISTDataModule, StackedMNISTDataModule))
    judge = find_evaluation_classifier(None, mnist, mnist.image_shape, args.root)
    thrice = find_evaluation_classifier(None, stacked, stacked.image_shape, args.root)
    assert judge is not None and thrice is not None, "train the classifier first: configs/classifier_mnist.yaml"
    real = mnist.examples("test", SAMPLES)[0]
    print(f"floor, training against test images: {floor(judge, mnist):.4f}")
    for name, (experiment, law) in BASELINES.items():
        checkpoint = args.root / experiment / "default" / "checkpoints" / "best.ckpt"
        if checkpoint.is_file():
            print(f"{name}: {of_law(judge, real, checkpoint, law, mnist)}")
    for experiment in args.only:
        if not (args.root / experiment).is_dir():
            continue
        if experiment == "pacgan":
            measure = partial(of_model, thrice, stacked.examples("test", SAMPLES)[0], count=26_000)
        else:
            measure = partial(of_model, judge, real, count=SAMPLES)
        found = table(args.root / experiment, STUDIES[experiment], measure)
        if found.empty:
            continue
        print(f"\n{experiment}\n\n{found.round(4).to_string(index=False)}")
        groups = [*STUDIES[experiment], "weights"]
        spread = found.groupby(groups).agg(["mean", "std"]).drop(columns="seed", level=0)
        print(f"\nmean and standard deviation over seeds\n\n{spread.round(4).to_string()}")
    if (args.root / "gan_saturation").is_dir():
        picture = render(gradient_chart(args.root / "gan_saturation"))
        write_file(PICTURES / "gan_saturation.png", lambda file: picture.save(file, format="PNG"))


if __name__ == "__main__":
    main()
