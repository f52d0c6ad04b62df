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
from dataclasses import dataclass, replace
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
from genlab.report.compare.runs import Run, read_folders
from genlab.report.records import FINISHED
from genlab.runs.folder import write_atomically
from genlab.sampling.sampler import CheckpointSampler
from genlab.words import counted
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
from studies.page import DOCS, README, RESULTS, check_docs, replace_section, wrap_text
from studies.tables import MEASURED, SCORES, Record, scores_table

PICTURE = "img/families.png"
RECORD = MEASURED / "families.json"
SAMPLES = 10_000
BATCH = 500
NEIGHBOURS = 3
TILES = 12
CHANGED_TEST = {"quality.classifier", "quality.neighbours", "trainer.limit_test_batches"}
"""Options with which the test of a run gives scores that do not compare with those of other runs."""
COUNT_OPTION = "quality.num_images"
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
    """

    family: str
    name: str
    source: str
    run: str
    sampled: str
    command: str
    mixture: bool = False

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
    ),
]
KEYS = ("family", "model", "samples drawn from", "training")
COLUMNS = {**SCORES, "bits_per_dim": "test/bits_per_dim"}
FACTS = ("image network", "parameters", "seconds", "samples/s")
SHORT_KEYS, SHORT_FACTS = ("model", "training"), ("parameters", "seconds")
SHORT_COLUMNS = {"Frechet distance": SCORES["frechet_classifier"]}
ALT = "Twelve digits from each family of models"
CAPTION = (
    "*One run of each family on MNIST. Frechet distance: between {count:,} samples and the test images, in the features"
    " of a classifier of digits; lower is better. Parameters: all that are trained. Seconds: those of the whole run on"
    " two CPU cores, with validation and test. [Full table and definitions](docs/results.md#all-families-on-mnist).*"
)
NOTES = (
    "- **parameters** counts every value that training changes; this includes encoders, discriminators, and the learned"
    " codes of GLO's training images. **image network** counts the network that makes images. An EMA copy of the"
    " weights is not counted again.\n"
    "- **seconds**: those of the whole run, with its validations and its test. Other processes ran on the same"
    " two cores, so that the seconds give an order of magnitude and do not rank the models. Runs are in float32 where"
    " nothing else is said.\n"
    "- **samples/s**: samples drawn per second on one thread, in float32, {batch} at a time: the median of {rounds}"
    " rounds. In each round every model takes its turn ({machine}).\n"
    "- **Samples**: {count:,} samples against all test images, by the classifier of the"
    " [first table](#main-figures), with the best weights of one run. In the row of real images, training images take"
    " the place of the samples: only by luck can a model be better.\n"
    "- ConditionalGAN and ACGAN are trained with labels, and draw equally many samples of each class.\n"
    "- **bits_per_dim**: -log2 p(x) of an 8-bit test image, per pixel. Glow's value is exact for images with uniform"
    " noise of one grey level; DDPM's value is an upper bound, so that its true value may be lower than Glow's."
    " The VAE has no likelihood of 8-bit images; [that of binarised images](#likelihood) is in nats."
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
        run: The run, with the scores of its samples among its metrics and what the table shows in its config.
        source: Object with `sample(n, label)`: the model, or `MixtureSamples`.
    """

    family: Family
    run: Run
    source: Any


def load_result(
    family: Family, root: Path, data: ImageDataModule, classifier: EvaluationClassifier, count: int
) -> Result | None:
    """Loads a run and scores its samples where its test has not; returns None, with a line on stderr, without a run.

    The speed is left open.
    """
    folder, checkpoint = root / family.run, family.checkpoint(root)
    run = read_folders([folder])[0] if (folder / "summary.json").is_file() else None
    if run is None or run.state != FINISHED or not checkpoint.is_file():
        print(f"{family.name} is left out: {folder} is no finished run; make it: `{family.command}`", file=sys.stderr)
        return None
    model = load_measured(checkpoint, classifier)
    source = MixtureSamples(model, data, count) if family.mixture else model
    scores, facts = dict(run.metrics), dict(run.facts)
    if family.mixture or not has_scores(run):
        key = f"{family.run} {fingerprint(checkpoint)}, {count} by {fingerprint(default_classifier(data, root))}"
        measured = cached(
            root / "families.json", key, lambda: score(classifier, data, draw_samples(source, count, BATCH))
        )
        scores |= {f"test/{name}": value for name, value in measured.items()}
        facts["classifier"] = classifier.fingerprint
    else:
        count = int(run.config.get(COUNT_OPTION, SAMPLES))
    facts["image network"], facts["parameters"] = count_parameters(model)
    shown = (family.family, f"[{family.name}]({family.source})", family.sampled, training(run))
    config = {key: value for key, value in run.config.items() if key not in CHANGED_TEST}
    config |= {COUNT_OPTION: count, **dict(zip(KEYS, shown, strict=True))}
    return Result(family, replace(run, config=config, metrics=scores, facts=facts, folder=None), source)


def has_scores(run: Run) -> bool:
    """Returns whether a run's own test has recorded all scores, in a way that compares with those of other runs."""
    return set(SCORES.values()) <= run.metrics.keys() and not run.config.keys() & CHANGED_TEST


def training(run: Run) -> str:
    """Names a run's epochs, and its precision unless that is float32."""
    precision = run.config.get("trainer.precision", "").removesuffix("-mixed")
    epochs = counted(int(run.config["trainer.max_epochs"]), "epoch")
    return f"{epochs} in {precision}" if precision else epochs


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


def picture(rows: Mapping[str, Tensor]) -> Image.Image:
    """Draws a row of images, TILES x C x H x W, beside each name."""
    grid = image_grid(torch.cat(list(rows.values())), TILES)
    ticks = list(zip(tile_centres(grid.height, len(rows)), rows, strict=True))
    return framed(grid, "The first samples of each model, not selected", yticks=ticks).convert("L")


@torch.no_grad()
def first_images(source: Any) -> Tensor:
    """Draws the images of a row of the picture, TILES x C x H x W."""
    with isolated_rng():
        return torch.cat([images for images, _ in draw_samples(source, TILES, TILES)])


def write_tables(record: Record) -> None:
    """Writes the full table to docs/results.md and the short one to README.md, from the same record."""
    replace_section(RESULTS, "families", full_section(record))
    short = scores_table(record.runs, SHORT_KEYS, SHORT_COLUMNS, SHORT_FACTS, record.reference)
    replace_section(README, "families", f"{short}\n\n{wrap_text(CAPTION.format(**record.setting))}")


def full_section(record: Record) -> str:
    """Returns the full table, the picture and the notes."""
    table = scores_table(record.runs, KEYS, COLUMNS, FACTS, record.reference)
    return f"{table}\n\n![{ALT}]({PICTURE})\n\n{wrap_text(NOTES.format(**record.setting))}"


def measure(data: ImageDataModule, root: Path, batch: int, rounds: int) -> tuple[Record, Image.Image]:
    """Measures the runs that there are, and draws their first samples."""
    torch.set_num_threads(1)
    classifier = evaluation_classifier(data, root)
    loaded = (load_result(family, root, data, classifier, SAMPLES) for family in FAMILIES)
    results = [result for result in loaded if result is not None]
    speeds = sampling_speeds([result.source for result in results], batch, rounds)
    runs = [
        replace(result.run, facts={**result.run.facts, "samples/s": speed})
        for result, speed in zip(results, speeds, strict=True)
    ]
    train = data.examples("train", SAMPLES)[0]
    floor = score(classifier, data, ((images, None) for images in train.split(BATCH)))
    named = dict(zip(KEYS, ("-", REAL, "the training set", "-"), strict=True))
    metrics = {f"test/{name}": value for name, value in floor.items()}
    reference = Run("", REAL, FINISHED, named, metrics, {})
    setting = {"count": SAMPLES, "batch": batch, "rounds": rounds, "machine": machine()}
    images = picture({REAL: train[:TILES]} | {r.family.name: first_images(r.source) for r in results})
    return Record(setting, runs, reference), images


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
    parser.add_argument(
        "--recorded", action="store_true", help=f"write the tables again from {RECORD.name}, without any run"
    )
    args = parser.parse_args()
    check_docs()
    if args.recorded:
        write_tables(Record.read(RECORD))
        return
    record, images = measure(MNISTDataModule(str(args.data_root), seed=0), args.root, args.batch, args.rounds)
    print(full_section(record))
    if args.write:
        write_file(DOCS / PICTURE, lambda file: images.save(file, format="PNG", optimize=True))
        record.write(RECORD)
        write_tables(record)


if __name__ == "__main__":
    run_command(main)
