"""Prints the tables of docs/results.md about adversarial models, and draws the norm of the generator's gradient.

python -m studies.adversarial --data-root data

One classifier scores the best and the last weights of every run, and the samples of two models that are no GANs.
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from datamodules import ImageDataModule, MNISTDataModule, StackedMNISTDataModule
from genlab.evaluation.classifier import EvaluationClassifier, image_sets_frechet
from genlab.evaluation.sample_scores import SampleScores, draw_samples
from genlab.media import render, write_file
from genlab.random_state import isolated_rng
from genlab.report.compare.runs import Run, read_folders
from genlab.report.records import FINISHED, load_runs
from genlab.runs.config import SEED
from genlab.runs.short_names import short_class
from genlab.sampling.sampler import CheckpointSampler
from studies.command import evaluation_classifier, load_measured, make_parser, run_command
from studies.page import DOCS, check_docs
from studies.tables import SCORES, compared

PICTURE = DOCS / "img" / "gan_saturation.png"
BASELINES = {
    "VAE, from its prior": ("vae_mnist", "prior"),
    "linear autoencoder, Gaussian": ("linearautoencoder_mnist", "gaussian"),
}
SAMPLES = 10_000
BATCH = 500
STUDIES = ("gan_mnist", "gan_objective", "gan_prior", "conditionalgan_mnist", "cgan", "acgan_mnist", "pacgan")
METRICS = (*SCORES.values(), "test/class_agreement", "train/loss_d_std", "train/loss_g_std")


def score(
    classifier: EvaluationClassifier, real: Tensor, samples: Iterator[tuple[Tensor, int | None]], labelled: bool
) -> dict[str, float]:
    """Scores batches of samples, each with its class, against real images, N x C x H x W."""
    scores = SampleScores(classifier, labelled)
    for images in real.split(BATCH):
        scores.add_real(images)
    for images, label in samples:
        scores.add_samples(images, label)
    return scores.compute()


@torch.no_grad()
def score_model(classifier: EvaluationClassifier, real: Tensor, checkpoint: Path, *, count: int) -> dict[str, float]:
    """Scores `count` samples of a model."""
    model = load_measured(checkpoint, classifier)
    labelled = getattr(model, "num_classes", None) == classifier.num_modes
    with isolated_rng(1):
        return score(classifier, real, draw_samples(model, count, BATCH), labelled)


@torch.no_grad()
def score_baseline(
    classifier: EvaluationClassifier, real: Tensor, checkpoint: Path, sample_from: str, data: ImageDataModule
) -> dict[str, float]:
    """Scores SAMPLES samples of a model, drawn from its prior or from a distribution fitted to its codes."""
    sampler = CheckpointSampler(load_measured(checkpoint, classifier), sample_from, lambda: data)  # type: ignore[arg-type]
    with isolated_rng(1):
        images = sampler.sample(SAMPLES)[0].float() / 255
    return score(classifier, real, ((batch, None) for batch in images.split(BATCH)), False)


def frechet_floor(classifier: EvaluationClassifier, data: ImageDataModule) -> float:
    """Returns the Frechet distance of SAMPLES training images from the test images."""
    return image_sets_frechet(classifier, data.examples("test", SAMPLES)[0], data.examples("train", SAMPLES)[0])


def scored_runs(folder: Path, measure: Callable[[Path], dict[str, float]]) -> list[Run]:
    """Returns each finished run twice: with the scores of its best and of its last weights."""
    scored = []
    for run in read_folders([folder]):
        for weights in ("best", "last") if run.state == FINISHED else ():
            scores = measure(folder / run.name / "checkpoints" / f"{weights}.ckpt")
            print(f"{run}, {weights} weights: {scores}", file=sys.stderr, flush=True)
            metrics = {**run.metrics, **{f"test/{name}": value for name, value in scores.items()}}
            scored.append(replace(run, config={**run.config, "weights": weights}, metrics=metrics))
    return scored


def gradient_chart(folder: Path) -> Figure:
    """Draws the norm of the generator's gradient over the steps, a line for each run."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    colours = {"Minimax": "#c8500a", "NonSaturating": "#1f6fb4"}
    runs = load_runs(folder)
    for run in runs[runs["state"] == "finished"].to_dict("records"):
        history = pd.read_csv(folder / run["run"] / "metrics.csv").dropna(subset=["train/grad_norm_g"])
        name = short_class(run["model.objective"])
        norm = history["train/grad_norm_g"]
        axes.plot(history["step"], norm, color=colours[name], alpha=0.25, lw=0.7)
        axes.plot(history["step"], norm.rolling(20, center=True).median(), color=colours[name], lw=1.6, label=name)
        early, late = norm[history["step"] < len(history)].median(), norm[-100:].median()
        print(f"{name} seed {run[SEED]}: median norm {early:.3g}, median of the last hundred {late:.3g}")
    axes.set_yscale("log")
    axes.set(
        xlabel="step", ylabel="norm of the generator's gradient", title="a discriminator that learns ten times as fast"
    )
    handles, names = axes.get_legend_handles_labels()
    axes.legend(*zip(*dict(zip(names, zip(handles, names, strict=True), strict=True)).values(), strict=True))
    axes.grid(alpha=0.3)
    return figure


def main() -> None:
    parser = make_parser(__doc__, data=True)
    parser.add_argument(
        "--only",
        nargs="+",
        default=list(STUDIES),
        choices=list(STUDIES),
        metavar="EXPERIMENT",
        help=f"experiments to score, of {', '.join(STUDIES)} (default: all)",
    )
    args = parser.parse_args()
    check_docs()
    mnist, stacked = (kind(str(args.data_root), seed=0) for kind in (MNISTDataModule, StackedMNISTDataModule))
    classifier = evaluation_classifier(mnist, args.root)
    stacked_classifier = evaluation_classifier(stacked, args.root)
    real = mnist.examples("test", SAMPLES)[0]
    print(f"floor, training images against test images: {frechet_floor(classifier, mnist):.4f}")
    for name, (experiment, sample_from) in BASELINES.items():
        checkpoint = args.root / experiment / "default" / "checkpoints" / "best.ckpt"
        if checkpoint.is_file():
            print(f"{name}: {score_baseline(classifier, real, checkpoint, sample_from, mnist)}")
        else:
            print(f"{name} is left out: there is no {checkpoint}", file=sys.stderr)
    for experiment in args.only:
        if not (args.root / experiment).is_dir():
            print(f"{experiment} is left out: there is no {args.root / experiment}", file=sys.stderr)
            continue
        if experiment == "pacgan":
            measure = partial(score_model, stacked_classifier, stacked.examples("test", SAMPLES)[0], count=26_000)
        else:
            measure = partial(score_model, classifier, real, count=SAMPLES)
        runs = scored_runs(args.root / experiment, measure)
        if runs:
            print(f"\n{experiment}\n\n{compared(runs, METRICS)}")
    if (args.root / "gan_saturation").is_dir():
        picture = render(gradient_chart(args.root / "gan_saturation"))
        write_file(PICTURE, lambda file: picture.save(file, format="PNG"))


if __name__ == "__main__":
    run_command(main)
