"""Settings of samplers that studies compare, and how their samples are drawn, timed and scored."""

import argparse
import re
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from datamodules import ImageDataModule
from genlab.evaluation.classifier import EvaluationClassifier, default_classifier
from genlab.runs.errors import UsageError
from lit_models.common.diffusion_base import DiffusionBase
from lit_models.common.dpm_solver import DPMSolver
from lit_models.common.edm_sampler import EDMSampler
from lit_models.common.noise_process import NoiseProcess
from lit_models.common.ode_samplers import Euler, Heun, Midpoint
from lit_models.common.samplers import DDIM, Ancestral, Sampler
from studies.command import BF16, fit_command, load_measured
from studies.families import NEIGHBOURS, cached, fingerprint, score

DDPM_RUN = "ddpm_mnist/default"
BATCH = 100
KINDS: dict[str, Callable[[int], Sampler]] = {
    "ddim": DDIM,
    "ancestral": Ancestral,
    "edm": EDMSampler,
    "dpm": DPMSolver,
    "euler": Euler,
    "midpoint": Midpoint,
    "heun": Heun,
}
"""Samplers by their names in a setting, each with a number of steps."""
NAMES = {
    "ddim": "DDIM",
    "ancestral": "ancestral (DDIM with eta = 1)",
    "edm": "EDMSampler",
    "dpm": "DPMSolver",
    "euler": "Euler",
    "midpoint": "Midpoint",
    "heun": "Heun",
}


class Setting(NamedTuple):
    """Kind of sampler, a key of KINDS, and the most evaluations of the network for an image."""

    kind: str
    evaluations: int

    def __str__(self) -> str:
        return f"{self.kind}-{self.evaluations}"

    def sampler(self, process: NoiseProcess) -> Sampler:
        """The sampler with the most steps.

        Raises:
            UsageError: A step takes more evaluations, or the sampler does not fit the model.
        """
        make = KINDS[self.kind]
        try:
            make(1).check(process)
            one, two, three = (make(steps).evaluations(process) or 0 for steps in (1, 2, 3))
            if self.evaluations < one:
                raise UsageError(f"{self}: one step of {NAMES[self.kind]} takes {one} evaluations")
            steps = 1 if self.evaluations < two else 2 + (self.evaluations - two) // (three - two)
            sampler = make(steps)
            sampler.check(process)
        except ValueError as error:
            raise UsageError(f"{self}: {error}") from None
        return sampler


def parse_setting(name: str) -> Setting:
    """Parses a setting such as ddim-50 or ancestral-1000: a sampler and its most evaluations.

    Raises:
        ArgumentTypeError: The name is not of this form.
    """
    found = re.fullmatch(rf"({'|'.join(KINDS)})-([1-9]\d*)", name)
    if found is None:
        raise argparse.ArgumentTypeError(
            f"{name} is not a sampler with its number of evaluations, such as ddim-50 or ancestral-1000"
        )
    return Setting(found[1], int(found[2]))


class TimedSamples:
    """Batches of images that a sampler draws, each with the class None, as `score` takes them.

    Args:
        model: Model from noise.
        sampler: Sampler to draw with.
        count: Number of images.
        bf16: Run the network in bfloat16.
    """

    def __init__(self, model: DiffusionBase, sampler: Sampler, count: int, bf16: bool) -> None:
        self.model = model
        self.sampler = sampler
        self.count = count
        self.bf16 = bf16
        self.seconds: list[float] = []
        """Seconds per image, for each batch."""

    def __iter__(self) -> Iterator[tuple[Tensor, None]]:
        model = self.model
        for noisy in model.process.sample_noise(self.count, model.space.shape).split(BATCH):
            start = time.perf_counter()
            with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
                images = model.sample_with(self.sampler, noisy, model.sample_labels(len(noisy), None))
            self.seconds.append((time.perf_counter() - start) / len(noisy))
            yield images, None


def score_with_speed(classifier: EvaluationClassifier, data: ImageDataModule, images: TimedSamples) -> dict[str, float]:
    """Returns the scores of the images and the key `images_per_second`."""
    scores = score(classifier, data, images)
    return scores | {"images_per_second": 1 / statistics.median(images.seconds)}


def load_model(root: Path, run: str, classifier: EvaluationClassifier) -> DiffusionBase:
    """Loads the best checkpoint of a run of a model from noise.

    Raises:
        UsageError: There is none, or it is another kind of model.
        CheckpointError: It cannot be loaded, or learned other images than the classifier.
    """
    checkpoint = root / run / "checkpoints" / "best.ckpt"
    if not checkpoint.is_file():
        advice = f"train the model: `{fit_command('ddpm_mnist', BF16, '--run.name default')}`"
        raise UsageError(f"there is no {checkpoint}; {advice if run == DDPM_RUN else 'give a run below --root'}")
    model = load_measured(checkpoint, classifier)
    if not isinstance(model, DiffusionBase):
        raise UsageError(f"{checkpoint} holds a {type(model).__name__}, not a model from noise")
    return model


class Measured:
    """Scores of settings, kept in samplers.json in the folder of all runs.

    Args:
        data: MNIST.
        classifier: Evaluates the images.
        root: Folder of all runs.
        count: Number of samples of a setting.
        precision: Precision of the network.
    """

    def __init__(
        self, data: ImageDataModule, classifier: EvaluationClassifier, root: Path, count: int, precision: str
    ) -> None:
        self.data, self.classifier, self.root, self.count, self.precision = data, classifier, root, count, precision

    def scores(self, run: str, model: DiffusionBase, setting: Setting) -> dict[str, float]:
        """Scores a setting of a run, and prints them on stderr."""
        by = fingerprint(default_classifier(self.data, self.root))
        of = f"{run} {fingerprint(self.root / run / 'checkpoints' / 'best.ckpt')} by {by}"
        images = TimedSamples(model, setting.sampler(model.process), self.count, self.precision == "bf16-mixed")
        measure = partial(score_with_speed, self.classifier, self.data, images)
        found = cached(self.root / "samplers.json", f"{of}: {self.count} by {setting} in {self.precision}", measure)
        print(f"{run} {setting}: {found}", file=sys.stderr, flush=True)
        return found

    def floor(self) -> dict[str, float]:
        """Scores training images in place of samples."""
        train = self.data.examples("train", self.count)[0]
        return score(self.classifier, self.data, ((images, None) for images in train.split(BATCH)))


def add_options(parser: argparse.ArgumentParser, settings: Sequence[str]) -> None:
    """Adds the options of what is measured, and how."""
    parser.add_argument(
        "--count",
        type=int,
        default=2000,
        help=f"samples of each setting, more than {NEIGHBOURS} (default: %(default)s)",
    )
    parser.add_argument(
        "--samplers",
        type=parse_setting,
        nargs="+",
        default=[parse_setting(name) for name in settings],
        metavar="SAMPLER-EVALUATIONS",
        help=f"settings to compare: one of {', '.join(KINDS)}, and its evaluations (default: {' '.join(settings)})",
    )
    parser.add_argument(
        "--precision",
        choices=["32-true", "bf16-mixed"],
        default="32-true",
        help="precision of the network (default: %(default)s)",
    )
    parser.add_argument("--write", action="store_true", help="write the table of docs/results.md and its picture")
    parser.add_argument("--recorded", action="store_true", help="write the table again from what was recorded")
