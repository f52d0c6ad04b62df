"""All families of models on MNIST: one table, and a picture of what each makes.

python -m studies.families --write

Numbers of samples are those of a run's own test, by the classifier of the same images. Where a run has none (a plain
autoencoder does not sample, and older runs did not measure it), they are measured here in the same way and kept in
families.json in the folder of all runs until the checkpoint changes. How fast images are made is measured anew each
time, in this process, on one thread.
"""

import argparse
import hashlib
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from datamodules import ImageDataModule, MNISTDataModule
from genlab.callbacks import EvaluationClassifier, find_evaluation_classifier
from genlab.callbacks.sample_quality import TEST_SEED
from genlab.evaluation.classifier import default_classifier
from genlab.evaluation.sample_scores import Scores, draw
from genlab.media import framed, image_grid, own_randomness, tile_centres, write_file
from genlab.runs.folder import read_summary, write_whole
from genlab.sampling.sampler import Sampler
from lit_models import GLO, GenerativeModule
from studies.benchmarks import machine
from studies.page import put, table, wrapped

DOCS = Path("docs")
PICTURE = "img/families.png"
SAMPLES = 10_000
BATCH = 500
NEIGHBOURS = 3
COLUMNS = 12
MEASURES = ("frechet_classifier", "precision", "recall", "modes", "modes_kl")
OTHER_WAYS = ("quality.classifier", "quality.neighbours", "trainer.limit_test_batches")
"""Options by which a run's test measures otherwise."""
REAL = "real images"


def fit(config: str, *options: str) -> str:
    return " ".join([f"python train.py fit --config configs/{config}.yaml", *options])


HALF = "--trainer.precision bf16-mixed"


@dataclass(frozen=True)
class Family:
    """A row of the table.

    Args:
        family: the kind of model.
        name: of this one.
        source: where it is described.
        run: folder below that of all runs.
        sampled: what its images are made from, and how.
        command: what makes the run.
        mixture: its codes are drawn of a mixture of Gaussians fitted to those of training images.
        bound: its bits per dimension are a bound of them.
    """

    family: str
    name: str
    source: str
    run: str
    sampled: str
    command: str
    mixture: bool = False
    bound: bool = False

    def checkpoint(self, root: Path) -> Path:
        return root / self.run / "checkpoints" / "best.ckpt"


ARXIV = "https://arxiv.org/abs"
FAMILIES = [
    Family(
        "autoencoder",
        "Autoencoder",
        "https://doi.org/10.1126/science.1127647",
        "ae_capacity/depth=2,latent_dim=20,seed=0",
        "10 Gaussians fitted to its codes",
        "python sweep.py run sweeps/ae_capacity.yaml",
        mixture=True,
    ),
    Family("autoencoder", "VAE", f"{ARXIV}/1312.6114", "vae_mnist/default", "its prior", fit("vae_mnist")),
    Family("autoencoder", "WAE", f"{ARXIV}/1711.01558", "wae_mnist/default", "its prior", fit("wae_mnist")),
    Family(
        "adversarial",
        "GAN",
        f"{ARXIV}/1511.06434",
        "gan_mnist/seed=0",
        "its prior",
        fit("gan_mnist", HALF, "--run.name seed=0"),
    ),
    Family(
        "adversarial",
        "ConditionalGAN",
        f"{ARXIV}/1802.05637",
        "conditionalgan_mnist/default",
        "each class in turn",
        fit("conditionalgan_mnist", HALF, "--run.name default"),
    ),
    Family(
        "adversarial",
        "ACGAN",
        f"{ARXIV}/1610.09585",
        "acgan_mnist/default",
        "each class in turn",
        fit("acgan_mnist", HALF, "--run.name default"),
    ),
    Family(
        "latent optimisation",
        "GLO",
        f"{ARXIV}/1707.05776",
        "glo_mnist/default",
        "a Gaussian fitted to its codes",
        fit("glo_mnist", HALF, "--run.name default"),
    ),
    Family(
        "flow",
        "Glow",
        f"{ARXIV}/1807.03039",
        "glow_mnist/default",
        "its prior",
        fit("glow_mnist", HALF, "--run.name default"),
    ),
    Family(
        "score",
        "ScoreModel",
        f"{ARXIV}/1907.05600",
        "scoremodel_mnist/default",
        "annealed Langevin",
        fit("scoremodel_mnist", HALF, "--run.name default"),
    ),
    Family(
        "diffusion",
        "DDPM",
        f"{ARXIV}/2006.11239",
        "ddpm_mnist/default",
        "DDIM of 50 steps",
        fit("ddpm_mnist", HALF, "--run.name default"),
        bound=True,
    ),
]
HEAD = [
    "family",
    "model",
    "images from",
    "parameters: for images, in all",
    "training",
    "images/s",
    "frechet_classifier",
    "precision",
    "recall",
    "modes (KL)",
    "bits/dim",
]
ALT = "Twelve digits of each family of models"
CAPTION = (
    "*Every family on MNIST, one run each: what it costs, how fast it draws, how good its digits are"
    " ([what is counted](docs/results.md#all-families-on-mnist)). `python -m studies.families --write`*"
)
NOTES = (
    "- **Parameters**: of the network that makes images, and all numbers that training changes: encoders,"
    " discriminators, the codes of GLO's training images too. A moving average of weights is not counted again.\n"
    "- **Training**: seconds of the whole run, with its validations and its test, beside other processes on the same"
    " two cores: an order of magnitude, no race. In float32 where nothing is said.\n"
    "- **images/s**: on one thread, in float32, {batch} at a time: the median of {rounds} rounds, in each of which all"
    " models take their turn ({machine}).\n"
    "- **Samples**: {count:,} of them against all test images, by the classifier of the first table, with the best"
    " weights of one run. For real images, training images take the samples' place: no model can be better, but for"
    " luck.\n"
    "- ConditionalGAN and ACGAN have learned from labels, and are asked for each class equally often.\n"
    "- **bits/dim**: -log2 p of an 8-bit test image, per pixel. Glow's is exact for images with uniform noise of one"
    " grey level, DDPM's is a bound. The VAE's likelihood is none of 8-bit images;"
    " [that of binarised images](#a-likelihood) is in nats."
)


class FromMixture:
    """Images of codes that a mixture has drawn, which is fitted to those of training images: some at a time, in turn.

    Args:
        model: with codes.
        data: the training images.
        count: codes that are drawn.
    """

    def __init__(self, model: GenerativeModule, data: ImageDataModule, count: int) -> None:
        self.model: Any = model
        self.codes = Sampler(model, "mixture", lambda: data).codes(count)
        self.next = 0

    def sample(self, n: int, label: int | None = None) -> Tensor:
        rows = torch.arange(self.next, self.next + n) % len(self.codes)
        self.next += n
        return self.model.decode(self.codes[rows])


@dataclass
class Known:
    """What the table says of a family.

    Args:
        makes: has `sample`.
        parameters: of what makes images, and all that are trained.
        quality: the measures by their names.
        count: samples that they were measured on.
        speed: images a second.
    """

    family: Family
    summary: Mapping[str, Any]
    makes: Any
    parameters: tuple[int, int]
    quality: Mapping[str, float]
    count: int
    speed: float = float("nan")

    def cells(self) -> list[str]:
        bits = self.summary["metrics"].get("test/bits_per_dim")
        distance, *shares = quality_cells(self.quality)
        return [
            self.family.family,
            f"[{self.family.name}]({self.family.source})",
            self.family.sampled,
            ", ".join(map(short, self.parameters)),
            training(self.summary),
            f"{self.speed:,.0f}" if self.speed >= 10 else f"{self.speed:.1f}",
            distance if self.count == SAMPLES else f"{distance} (of {self.count:,})",
            *shares,
            "" if bits is None else f"{'<= ' if self.family.bound else ''}{float(bits):.2f}",
        ]


def known(family: Family, root: Path, data: ImageDataModule, judge: EvaluationClassifier, count: int) -> Known | None:
    """All but the speed; None, and a line on stderr, where there is no finished run."""
    folder, checkpoint = root / family.run, family.checkpoint(root)
    summary = read_summary(folder)
    if summary is None or summary.get("state") != "finished" or not checkpoint.is_file():
        print(f"{family.name} is left out, as {folder} is no finished run; `{family.command}`", file=sys.stderr)
        return None
    model = GenerativeModule.load(checkpoint)
    makes = FromMixture(model, data, count) if family.mixture else model
    quality = None if family.mixture else of_test(summary)
    if quality is not None:
        count = int(summary["config"].get("quality.num_images", SAMPLES))
    else:
        key = f"{family.run} {fingerprint(checkpoint)}, {count} by {fingerprint(default_classifier(data, root))}"
        quality = kept(root / "families.json", key, lambda: measured(judge, data, draw(makes, count, BATCH)))
    return Known(family, summary, makes, parameters(model), quality, count)


def of_test(summary: Mapping[str, Any]) -> dict[str, float] | None:
    """What a run's test has measured, if it is all that is asked for, and in the common way."""
    config, metrics = summary["config"], summary["metrics"]
    if any(name in config for name in OTHER_WAYS) or not all(f"test/{name}" in metrics for name in MEASURES):
        return None
    return {name: float(metrics[f"test/{name}"]) for name in MEASURES}


@torch.no_grad()
def measured(
    judge: EvaluationClassifier, data: ImageDataModule, samples: Iterable[tuple[Tensor, int | None]]
) -> dict[str, float]:
    """The same, of samples or of images in their place, as a run's test does it."""
    scores = Scores(judge, neighbours=NEIGHBOURS)
    for images in data.examples("test", SAMPLES)[0].split(BATCH):
        scores.add_real(images)
    with own_randomness(TEST_SEED):
        for images, label in samples:
            scores.add_samples(images, label)
    return scores.compute()


def kept(path: Path, key: str, measure: Callable[[], dict[str, float]]) -> dict[str, float]:
    """What a file of JSON has under a key; where it has not, what is measured, which it has from then on."""
    found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if key not in found:
        found[key] = measure()
        write_whole(path, json.dumps(found, indent=2) + "\n")
    return found[key]


def fingerprint(path: Path) -> str:
    """Of a file's contents."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]


def parameters(model: GenerativeModule) -> tuple[int, int]:
    """Those of what makes images, and all numbers that training changes; a moving average adds none."""
    parts = (getattr(model, name, None) for name in ("maker", "generator", "decoder"))
    maker = next((part for part in parts if isinstance(part, nn.Module)), model)
    codes = model.table.codes.numel() if isinstance(model, GLO) else 0
    return sum(p.numel() for p in maker.parameters()), codes + sum(
        p.numel() for p in model.parameters() if p.requires_grad
    )


@torch.no_grad()
def speeds(models: Sequence[Any], batch: int, rounds: int, least: float = 0.5) -> list[float]:
    """Images a second of each, its median over rounds.

    In a round each model in turn draws a batch, and more of them until `least` seconds are over, so that a slow spell
    of the machine falls on all.
    """
    found: list[list[float]] = [[] for _ in models]
    for model in models:
        model.sample(2)
    for _ in range(rounds):
        for model, rates in zip(models, found, strict=True):
            began, drawn, taken = time.perf_counter(), 0, 0.0
            while not drawn or taken < least:
                drawn += len(model.sample(batch))
                taken = time.perf_counter() - began
            rates.append(drawn / taken)
    return [statistics.median(rates) for rates in found]


def short(count: int) -> str:
    """A number in three digits."""
    unit, letter = (1e6, " M") if count >= 1e6 else (1e3, " k")
    return f"{count / unit:.3g}{letter}" if count >= 1e3 else str(count)


def training(summary: Mapping[str, Any]) -> str:
    config = summary["config"]
    precision = config.get("trainer.precision", "").removesuffix("-mixed")
    half = f" in {precision}" if precision else ""
    return f"{config.get('trainer.max_epochs', '?')} epochs{half}, {summary['seconds']:,.0f} s"


def quality_cells(quality: Mapping[str, float]) -> list[str]:
    """The distance, precision, recall, and modes with their divergence."""
    distance, kl = quality["frechet_classifier"], quality["modes_kl"]
    return [
        f"{distance:.{1 if distance >= 10 else 2 if distance >= 0.1 else 3}f}",
        f"{quality['precision']:.2f}",
        f"{quality['recall']:.2f}",
        f"{quality['modes']:.0f} ({f'{kl:.4f}' if kl >= 1e-4 else '< 0.0001'})",
    ]


@torch.no_grad()
def picture(rows: Mapping[str, Tensor]) -> Image.Image:
    """One row of images, COLUMNS x C x H x W, beside each name."""
    grid = image_grid(torch.cat(list(rows.values())), COLUMNS)
    ticks = list(zip(tile_centres(grid.height, len(rows)), rows, strict=True))
    return framed(grid, "The first draws of each, none chosen", yticks=ticks).convert("L")


@torch.no_grad()
def first_images(makes: Any) -> Tensor:
    with own_randomness():
        return torch.cat([images for images, _ in draw(makes, COLUMNS, COLUMNS)])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path("runs"), help="folder of all runs")
    parser.add_argument("--data-root", type=Path, default=Path("data"), help="folder of mnist.npz")
    parser.add_argument("--batch", type=int, default=100, help="images at a time where speed is measured")
    parser.add_argument("--rounds", type=int, default=5, help="of a batch of each model, or half a second")
    parser.add_argument("--write", action="store_true", help="write README.md, docs/results.md and the picture")
    args = parser.parse_args()
    torch.set_num_threads(1)
    data = MNISTDataModule(str(args.data_root), seed=0)
    judge = find_evaluation_classifier(None, data, data.image_shape, args.root)
    if judge is None:
        print(f"error: there is no classifier in {args.root}; `{fit('classifier_mnist')}`", file=sys.stderr)
        return 2
    found = [row for family in FAMILIES if (row := known(family, args.root, data, judge, SAMPLES)) is not None]
    for row, speed in zip(found, speeds([row.makes for row in found], args.batch, args.rounds), strict=True):
        row.speed = speed
    train = data.examples("train", SAMPLES)[0]
    floor = measured(judge, data, ((images, None) for images in train.split(BATCH)))
    rows = [
        ["", REAL, "the training set", "", "", "", *quality_cells(floor), ""],
        *(row.cells() for row in found),
    ]
    text = table(HEAD, rows)
    notes = wrapped(NOTES.format(batch=args.batch, rounds=args.rounds, machine=machine(), count=SAMPLES))
    print(f"{text}\n\n{notes}")
    if args.write:
        images = picture({REAL: train[:COLUMNS]} | {row.family.name: first_images(row.makes) for row in found})
        write_file(DOCS / PICTURE, lambda file: images.save(file, format="PNG", optimize=True))
        put(DOCS.parent / "README.md", "families", f"{text}\n\n{wrapped(CAPTION)}\n\n![{ALT}](docs/{PICTURE})")
        put(DOCS / "results.md", "families", f"{text}\n\n![{ALT}]({PICTURE})\n\n{notes}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
