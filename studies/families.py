"""Compares all families of models on MNIST: writes a table of their costs and scores, and a picture of their samples.

python -m studies.families --write

The scores of a run are those of its own test, with the classifier of MNIST. A run without such scores (a plain
autoencoder has no prior to sample from) is scored here in the same way; the scores are kept in families.json in the
folder of all runs until the checkpoint changes. The sampling speed is measured anew each time, on one thread.
"""

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
from genlab.evaluation.classifier import EvaluationClassifier, default_classifier
from genlab.evaluation.sample_scores import TEST_SEED, SampleScores, draw_samples
from genlab.media import framed, image_grid, tile_centres, write_file
from genlab.random_state import isolated_rng
from genlab.runs.folder import read_summary, write_atomically
from genlab.sampling.sampler import CheckpointSampler
from lit_models import GLO, GenerativeModule
from studies.benchmarks import machine
from studies.command import (
    BF16,
    evaluation_classifier,
    fit_command,
    load_measured,
    make_parser,
    run_command,
    sweep_command,
)
from studies.page import DOCS, README, RESULTS, check_docs, markdown_table, replace_section, wrap_text

PICTURE = "img/families.png"
SAMPLES = 10_000
BATCH = 500
NEIGHBOURS = 3
COLUMNS = 12
METRICS = ("frechet_classifier", "precision", "recall", "modes", "modes_kl")
CHANGED_TEST = ("quality.classifier", "quality.neighbours", "trainer.limit_test_batches")
"""Options with which the test of a run gives scores that do not compare with those of other runs."""
REAL = "real images"


@dataclass(frozen=True)
class Family:
    """A row of the table.

    Args:
        family: Kind of model.
        name: Class of the model.
        source: Address of the paper.
        run: Folder of the run below the folder of all runs.
        sampled: What the samples are drawn from, as the table says it.
        command: Command that makes the run.
        mixture: Draw codes from a mixture of Gaussians that is fitted to the codes of training images.
        bound: The bits per dimension are an upper bound.
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
        sweep_command("ae_capacity"),
        mixture=True,
    ),
    Family("autoencoder", "VAE", f"{ARXIV}/1312.6114", "vae_mnist/default", "its prior", fit_command("vae_mnist")),
    Family("autoencoder", "WAE", f"{ARXIV}/1711.01558", "wae_mnist/default", "its prior", fit_command("wae_mnist")),
    Family(
        "adversarial",
        "GAN",
        f"{ARXIV}/1511.06434",
        "gan_mnist/seed=0",
        "its prior",
        fit_command("gan_mnist", BF16, "--run.name seed=0"),
    ),
    Family(
        "adversarial",
        "ConditionalGAN",
        f"{ARXIV}/1802.05637",
        "conditionalgan_mnist/default",
        "each class in turn",
        fit_command("conditionalgan_mnist", BF16, "--run.name default"),
    ),
    Family(
        "adversarial",
        "ACGAN",
        f"{ARXIV}/1610.09585",
        "acgan_mnist/default",
        "each class in turn",
        fit_command("acgan_mnist", BF16, "--run.name default"),
    ),
    Family(
        "latent optimisation",
        "GLO",
        f"{ARXIV}/1707.05776",
        "glo_mnist/default",
        "a Gaussian fitted to its codes",
        fit_command("glo_mnist", BF16, "--run.name default"),
    ),
    Family(
        "flow",
        "Glow",
        f"{ARXIV}/1807.03039",
        "glow_mnist/default",
        "its prior",
        fit_command("glow_mnist", BF16, "--run.name default"),
    ),
    Family(
        "score",
        "ScoreModel",
        f"{ARXIV}/1907.05600",
        "scoremodel_mnist/default",
        "annealed Langevin",
        fit_command("scoremodel_mnist", BF16, "--run.name default"),
    ),
    Family(
        "diffusion",
        "DDPM",
        f"{ARXIV}/2006.11239",
        "ddpm_mnist/default",
        "DDIM of 50 steps",
        fit_command("ddpm_mnist", BF16, "--run.name default"),
        bound=True,
    ),
]
HEAD = [
    "family",
    "model",
    "samples drawn from",
    "parameters: image network, all",
    "training",
    "images/s",
    "frechet_classifier",
    "precision",
    "recall",
    "modes (KL)",
    "bits/dim",
]
SHORT_HEAD = ["model", "Frechet distance", "training", "parameters"]
ALT = "Twelve digits from each family of models"
CAPTION = (
    "*One run of each family on MNIST. Frechet distance: between {count:,} samples and the test images, in the features"
    " of a classifier of digits; lower is better. Training: epochs and time on two CPU cores, with validation and test."
    " Parameters: all that are trained. [Full table and definitions](docs/results.md#all-families-on-mnist).*"
)
NOTES = (
    "- **Parameters**: the first number counts the network that makes images. The second number counts every value that"
    " training changes; this includes encoders, discriminators, and the learned codes of GLO's training images. An EMA"
    " copy of the weights is not counted again.\n"
    "- **Training**: the seconds of the whole run, with its validations and its test. Other processes ran on the same"
    " two cores, so that the seconds give an order of magnitude and do not rank the models. Runs are in float32 where"
    " nothing else is said.\n"
    "- **images/s**: samples drawn per second on one thread, in float32, {batch} at a time: the median of {rounds}"
    " rounds. In each round every model takes its turn ({machine}).\n"
    "- **Samples**: {count:,} samples against all test images, by the classifier of the"
    " [first table](#main-figures), with the best weights of one run. In the row of real images, training images take"
    " the place of the samples: only by luck can a model be better.\n"
    "- ConditionalGAN and ACGAN are trained with labels, and draw equally many samples of each class.\n"
    "- **bits/dim**: -log2 p(x) of an 8-bit test image, per pixel. Glow's value is exact for images with uniform noise"
    " of one grey level; DDPM's value is an upper bound. The VAE has no likelihood of 8-bit images;"
    " [that of binarised images](#likelihood) is in nats."
)


class MixtureSamples:
    """Samples of a model whose codes come from a mixture of Gaussians fitted to the codes of training images.

    The codes are drawn once, and used one after the other.

    Args:
        model: Model with an encoder and a decoder.
        data: Data module that gives the training images.
        count: Number of codes to draw.
    """

    def __init__(self, model: GenerativeModule, data: ImageDataModule, count: int) -> None:
        self.model: Any = model
        self.codes = CheckpointSampler(model, "mixture", lambda: data).sample_codes(count)
        self.next = 0

    def sample(self, n: int, label: int | None = None) -> Tensor:
        rows = torch.arange(self.next, self.next + n) % len(self.codes)
        self.next += n
        return self.model.decode(self.codes[rows])


@dataclass
class Result:
    """What is measured of one family.

    Args:
        family: Family that the run belongs to.
        summary: Record of the run, as summary.json holds it.
        source: Object with `sample(n, label)`: the model, or `MixtureSamples`.
        parameters: Number of parameters of the network that makes images, and of all that are trained.
        scores: Metrics of the samples, by name.
        count: Number of samples behind the scores.
        speed: Samples drawn per second.
    """

    family: Family
    summary: Mapping[str, Any]
    source: Any
    parameters: tuple[int, int]
    scores: Mapping[str, float]
    count: int
    speed: float = float("nan")

    def cells(self) -> list[str]:
        """Returns the row of the full table."""
        bits = self.summary["metrics"].get("test/bits_per_dim")
        return [
            self.family.family,
            f"[{self.family.name}]({self.family.source})",
            self.family.sampled,
            ", ".join(map(format_count, self.parameters)),
            format_training(self.summary),
            f"{self.speed:,.0f}" if self.speed >= 10 else f"{self.speed:.1f}",
            self._distance(),
            *format_scores(self.scores)[1:],
            "" if bits is None else f"{'<= ' if self.family.bound else ''}{float(bits):.2f}",
        ]

    def short_cells(self) -> list[str]:
        """Returns the row of the short table."""
        return [
            f"[{self.family.name}]({self.family.source})",
            self._distance(),
            format_training(self.summary),
            format_count(self.parameters[1]),
        ]

    def _distance(self) -> str:
        distance = format_scores(self.scores)[0]
        return distance if self.count == SAMPLES else f"{distance} (of {self.count:,})"


def load_result(
    family: Family, root: Path, data: ImageDataModule, classifier: EvaluationClassifier, count: int
) -> Result | None:
    """Loads a run and scores its samples where its test has not; returns None, with a line on stderr, without a run.

    The speed is left open.
    """
    folder, checkpoint = root / family.run, family.checkpoint(root)
    summary = read_summary(folder)
    if summary is None or summary.get("state") != "finished" or not checkpoint.is_file():
        print(f"{family.name} is left out: {folder} is no finished run; make it: `{family.command}`", file=sys.stderr)
        return None
    model = load_measured(checkpoint, classifier)
    source = MixtureSamples(model, data, count) if family.mixture else model
    scores = None if family.mixture else scores_of_test(summary)
    if scores is not None:
        count = int(summary["config"].get("quality.num_images", SAMPLES))
    else:
        key = f"{family.run} {fingerprint(checkpoint)}, {count} by {fingerprint(default_classifier(data, root))}"
        scores = cached(
            root / "families.json", key, lambda: score(classifier, data, draw_samples(source, count, BATCH))
        )
    return Result(family, summary, source, count_parameters(model), scores, count)


def scores_of_test(summary: Mapping[str, Any]) -> dict[str, float] | None:
    """Returns the scores that a run's own test has recorded; None where some are missing or do not compare."""
    config, metrics = summary["config"], summary["metrics"]
    if any(name in config for name in CHANGED_TEST) or not all(f"test/{name}" in metrics for name in METRICS):
        return None
    return {name: float(metrics[f"test/{name}"]) for name in METRICS}


@torch.no_grad()
def score(
    classifier: EvaluationClassifier, data: ImageDataModule, samples: Iterable[tuple[Tensor, int | None]]
) -> dict[str, float]:
    """Scores batches of images and their classes against the test images, as the test of a run does."""
    scores = SampleScores(classifier, neighbours=NEIGHBOURS)
    for images in data.examples("test", SAMPLES)[0].split(BATCH):
        scores.add_real(images)
    with isolated_rng(TEST_SEED):
        for images, label in samples:
            scores.add_samples(images, label)
    return scores.compute()


def cached(path: Path, key: str, measure: Callable[[], dict[str, float]]) -> dict[str, float]:
    """Returns the entry of a JSON file; measures it and adds it to the file where it is missing."""
    entries = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if key not in entries:
        entries[key] = measure()
        write_atomically(path, json.dumps(entries, indent=2) + "\n")
    return entries[key]


def fingerprint(path: Path) -> str:
    """Returns the first 12 digits of the SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]


def count_parameters(model: GenerativeModule) -> tuple[int, int]:
    """Counts the parameters of the network that makes images, and all that are trained; an EMA copy adds none."""
    networks = (
        getattr(model, name, None) for name in ("sampling_generator", "evaluated_network", "generator", "decoder")
    )
    image_network = next((network for network in networks if isinstance(network, nn.Module)), model)
    codes = model.table.codes.numel() if isinstance(model, GLO) else 0
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return sum(p.numel() for p in image_network.parameters()), codes + trained


@torch.no_grad()
def sampling_speeds(sources: Sequence[Any], batch: int, rounds: int, seconds: float = 0.5) -> list[float]:
    """Measures the samples per second of each source: the median over rounds.

    In a round each source in turn draws a batch, and further ones until `seconds` are over, so that a slow spell of the
    machine affects all of them.
    """
    rates: list[list[float]] = [[] for _ in sources]
    for source in sources:
        source.sample(2)
    for _ in range(rounds):
        for source, measured in zip(sources, rates, strict=True):
            start, drawn, elapsed = time.perf_counter(), 0, 0.0
            while not drawn or elapsed < seconds:
                drawn += len(source.sample(batch))
                elapsed = time.perf_counter() - start
            measured.append(drawn / elapsed)
    return [statistics.median(measured) for measured in rates]


def format_count(count: int) -> str:
    """Formats a number in three digits, with k or M."""
    unit, letter = (1e6, " M") if count >= 1e6 else (1e3, " k")
    return f"{count / unit:.3g}{letter}" if count >= 1e3 else str(count)


def format_training(summary: Mapping[str, Any]) -> str:
    """Formats a run's epochs, its precision unless that is float32, and its seconds."""
    config = summary["config"]
    precision = config.get("trainer.precision", "").removesuffix("-mixed")
    suffix = f" in {precision}" if precision else ""
    return f"{config.get('trainer.max_epochs', '?')} epochs{suffix}, {summary['seconds']:,.0f} s"


def format_scores(scores: Mapping[str, float]) -> list[str]:
    """Formats the Frechet distance, precision, recall, and the number of modes with their KL divergence."""
    distance, kl = scores["frechet_classifier"], scores["modes_kl"]
    return [
        f"{distance:.{1 if distance >= 10 else 2 if distance >= 0.1 else 3}f}",
        f"{scores['precision']:.2f}",
        f"{scores['recall']:.2f}",
        f"{scores['modes']:.0f} ({f'{kl:.4f}' if kl >= 1e-4 else '< 0.0001'})",
    ]


@torch.no_grad()
def picture(rows: Mapping[str, Tensor]) -> Image.Image:
    """Draws a row of images, COLUMNS x C x H x W, beside each name."""
    grid = image_grid(torch.cat(list(rows.values())), COLUMNS)
    ticks = list(zip(tile_centres(grid.height, len(rows)), rows, strict=True))
    return framed(grid, "The first samples of each model, not selected", yticks=ticks).convert("L")


@torch.no_grad()
def first_images(source: Any) -> Tensor:
    """Draws the images of a row of the picture, COLUMNS x C x H x W."""
    with isolated_rng():
        return torch.cat([images for images, _ in draw_samples(source, COLUMNS, COLUMNS)])


def write_tables(results: Sequence[Result], floor: Mapping[str, float], notes: str) -> None:
    """Writes the full table to docs/results.md and the short one to README.md, from the same results."""
    replace_section(RESULTS, "families", f"{full_table(results, floor)}\n\n![{ALT}]({PICTURE})\n\n{notes}")
    caption = wrap_text(CAPTION.format(count=SAMPLES))
    replace_section(README, "families", f"{short_table(results, floor)}\n\n{caption}")


def full_table(results: Sequence[Result], floor: Mapping[str, float]) -> str:
    real = ["", REAL, "the training set", "", "", "", *format_scores(floor), ""]
    return markdown_table(HEAD, [real, *(result.cells() for result in results)])


def short_table(results: Sequence[Result], floor: Mapping[str, float]) -> str:
    real = [REAL, format_scores(floor)[0], "", ""]
    return markdown_table(SHORT_HEAD, [real, *(result.short_cells() for result in results)])


def main() -> None:
    parser = make_parser(__doc__, data=True)
    parser.add_argument(
        "--batch", type=int, default=100, help="samples drawn at a time to measure speed (default: %(default)s)"
    )
    parser.add_argument(
        "--rounds", type=int, default=5, help="rounds that the median speed is taken over (default: %(default)s)"
    )
    parser.add_argument(
        "--write", action="store_true", help="write the tables of README.md and docs/results.md, and the picture"
    )
    args = parser.parse_args()
    check_docs()
    torch.set_num_threads(1)
    data = MNISTDataModule(str(args.data_root), seed=0)
    classifier = evaluation_classifier(data, args.root)
    loaded = (load_result(family, args.root, data, classifier, SAMPLES) for family in FAMILIES)
    results = [result for result in loaded if result is not None]
    speeds = sampling_speeds([result.source for result in results], args.batch, args.rounds)
    for result, speed in zip(results, speeds, strict=True):
        result.speed = speed
    train = data.examples("train", SAMPLES)[0]
    floor = score(classifier, data, ((images, None) for images in train.split(BATCH)))
    notes = wrap_text(NOTES.format(batch=args.batch, rounds=args.rounds, machine=machine(), count=SAMPLES))
    print(f"{full_table(results, floor)}\n\n{notes}")
    if args.write:
        images = picture({REAL: train[:COLUMNS]} | {r.family.name: first_images(r.source) for r in results})
        write_file(DOCS / PICTURE, lambda file: images.save(file, format="PNG", optimize=True))
        write_tables(results, floor, notes)


if __name__ == "__main__":
    run_command(main)
