"""Compares samplers of a diffusion model: the quality and the speed of its samples by sampler and number of steps.

python -m studies.samplers --precision bf16-mixed --write

Every setting draws the same number of images from the same noise x_T, and is scored against the same test images. The
scores are kept in samplers.json in the folder of all runs, so that an interrupted command continues where it stopped.
"""

import argparse
import re
import statistics
import sys
import time
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import torch
from matplotlib.figure import Figure
from torch import Tensor

from datamodules import ImageDataModule, MNISTDataModule
from genlab.evaluation.classifier import EvaluationClassifier, default_classifier
from genlab.media import render, write_file
from genlab.report.compare.runs import Run
from genlab.report.records import FINISHED
from genlab.runs.errors import UsageError
from lit_models import DDPM
from lit_models.common.samplers import DDIM, Ancestral, Sampler
from studies.benchmarks import machine
from studies.command import BF16, evaluation_classifier, fit_command, load_measured, make_parser, run_command
from studies.families import NEIGHBOURS, REAL, cached, fingerprint, score
from studies.page import DOCS, RESULTS, check_docs, replace_section, wrap_text
from studies.tables import MEASURED, SCORES, Record, distance_text, scores_table

RUN = "ddpm_mnist/default"
PICTURE = "img/samplers.png"
BATCH = 100
KINDS = {"ddim": DDIM, "ancestral": Ancestral}
NAMES = {"ddim": "DDIM", "ancestral": "ancestral (DDIM with eta = 1)"}
COLOURS = {"ddim": "#1f6fb4", "ancestral": "#c8500a"}
SETTINGS = [*(f"{kind}-{steps}" for steps in (10, 25, 50, 100) for kind in KINDS), "ancestral-1000"]
RECORD = MEASURED / "samplers.json"
ALT = "Frechet distance, precision and recall against images per second, by sampler and number of steps"
NOTES = (
    "{count:,} samples of each setting against all test images, drawn from the same noise with the best weights of"
    " `{run}`. The Frechet distance is larger with fewer images, so these distances compare only with one another;"
    " {count:,} training images in place of the samples have {floor}. images/s: median on one thread, in {precision},"
    " {batch} at a time ({machine}). Ancestral sampling through a part of the noise levels is DDIM with eta = 1."
)


class Setting(NamedTuple):
    """Kind of sampler, a key of KINDS, and its number of steps."""

    kind: str
    steps: int

    @property
    def sampler(self) -> Sampler:
        return KINDS[self.kind](steps=self.steps)


def parse_setting(name: str) -> Setting:
    """Parses a setting such as ddim-50 or ancestral-1000.

    Raises:
        ArgumentTypeError: The name is not of this form.
    """
    found = re.fullmatch(rf"({'|'.join(KINDS)})-([1-9]\d*)", name)
    if found is None:
        raise argparse.ArgumentTypeError(
            f"{name} is not a sampler with its number of steps, such as {' or '.join(SETTINGS[-2:])}"
        )
    return Setting(found[1], int(found[2]))


class TimedSamples:
    """Batches of images that a sampler draws, each with the class None, as `score` takes them.

    Args:
        model: Diffusion model.
        sampler: Sampler to draw with.
        count: Number of images.
        bf16: Run the network in bfloat16.
    """

    def __init__(self, model: DDPM, sampler: Sampler, count: int, bf16: bool) -> None:
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


def chart(scores: Mapping[Setting, Mapping[str, float]], floor: Mapping[str, float]) -> Figure:
    """Draws quality against speed: a line for each sampler, whose points are labelled with their numbers of steps."""
    figure = Figure(figsize=(10, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    for kind, colour in COLOURS.items():
        of_kind = sorted((setting, values) for setting, values in scores.items() if setting.kind == kind)
        steps = [setting.steps for setting, _ in of_kind]
        speed = [values["images_per_second"] for _, values in of_kind]
        for axes, measure, style in (
            (left, "frechet_classifier", "o-"),
            (right, "precision", "o-"),
            (right, "recall", "s--"),
        ):
            values = [values[measure] for _, values in of_kind]
            label = NAMES[kind] if axes is left else f"{measure}, {NAMES[kind]}"
            axes.plot(speed, values, style, color=colour, label=label, ms=4)
            for x, y, count in zip(speed, values, steps, strict=True) if style == "o-" else ():
                axes.annotate(str(count), (x, y), textcoords="offset points", xytext=(4, 4), fontsize=8, color=colour)
    left.axhline(floor["frechet_classifier"], color="grey", lw=0.8, ls=":", label="real images")
    left.set_yscale("log")
    left.set(ylabel="frechet_classifier", title="distance; lower is better")
    right.set(ylabel="share", title="precision and recall; higher is better")
    for axes in (left, right):
        axes.set_xscale("log")
        axes.set_xlabel("images per second; the numbers are steps")
        axes.margins(x=0.12)
        for side in (axes.xaxis, *([axes.yaxis] if axes is left else [])):
            side.set_major_formatter("{x:g}")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2)
    left.yaxis.set_minor_formatter("{x:g}")
    return figure


def as_record(
    setting: dict[str, Any], scores: Mapping[Setting, Mapping[str, float]], floor: Mapping[str, float]
) -> Record:
    """Returns what was measured, each setting as a run, sorted by sampler and number of steps."""

    def run(name: str, config: dict[str, Any], values: Mapping[str, float]) -> Run:
        metrics = {metric: values[score] for score, metric in SCORES.items()}
        facts = {"images/s": values["images_per_second"]} if "images_per_second" in values else {}
        return Run("", name, FINISHED, config, metrics, facts)

    order = sorted(scores, key=lambda setting: (list(KINDS).index(setting.kind), setting.steps))
    named = [(f"{s.kind}-{s.steps}", {"sampler": NAMES[s.kind], "steps": s.steps}, scores[s]) for s in order]
    return Record(setting, [run(*entry) for entry in named], run(REAL, {}, floor))


def section(record: Record) -> str:
    """Returns the table, the picture and the notes."""
    table = scores_table(record.runs, ("sampler", "steps"), SCORES, ["images/s"])
    floor = distance_text(record.reference.metrics[SCORES["frechet_classifier"]])
    notes = wrap_text(NOTES.format(**record.setting, floor=floor))
    return f"{table}\n\n![{ALT}]({PICTURE})\n\n{notes}"


def main() -> None:
    parser = make_parser(__doc__, data=True)
    parser.add_argument("--run", default=RUN, help="run of the diffusion model, below --root (default: %(default)s)")
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
        default=[parse_setting(name) for name in SETTINGS],
        metavar="SAMPLER-STEPS",
        help=f"settings to compare (default: {' '.join(SETTINGS)})",
    )
    parser.add_argument(
        "--precision",
        choices=["32-true", "bf16-mixed"],
        default="32-true",
        help="precision of the network (default: %(default)s)",
    )
    parser.add_argument("--write", action="store_true", help="write the table of docs/results.md and its picture")
    parser.add_argument(
        "--recorded", action="store_true", help=f"write the table again from {RECORD.name}, without the run"
    )
    args = parser.parse_args()
    check_docs()
    if args.recorded:
        replace_section(RESULTS, "samplers", section(Record.read(RECORD)))
        return
    torch.set_num_threads(1)
    data = MNISTDataModule(str(args.data_root), seed=0)
    classifier = evaluation_classifier(data, args.root)
    checkpoint = args.root / args.run / "checkpoints" / "best.ckpt"
    if not checkpoint.is_file():
        command = fit_command("ddpm_mnist", BF16, "--run.name default")
        raise UsageError(f"there is no {checkpoint}; train the model: `{command}`")
    model = load_measured(checkpoint, classifier)
    if not isinstance(model, DDPM):
        raise UsageError(f"{checkpoint} holds a {type(model).__name__}, not a DDPM")
    prefix = f"{args.run} {fingerprint(checkpoint)} by {fingerprint(default_classifier(data, args.root))}"
    scores = {}
    for setting in args.samplers:
        images = TimedSamples(model, setting.sampler, args.count, args.precision == "bf16-mixed")
        key = f"{prefix}: {args.count} by {setting.kind}-{setting.steps} in {args.precision}"
        measure = partial(score_with_speed, classifier, data, images)
        scores[setting] = cached(args.root / "samplers.json", key, measure)
        print(f"{setting.kind}-{setting.steps}: {scores[setting]}", file=sys.stderr, flush=True)
    train = data.examples("train", args.count)[0]
    floor = score(classifier, data, ((images, None) for images in train.split(BATCH)))
    precision = {"32-true": "float32"}.get(args.precision, args.precision)
    setting = {"count": args.count, "run": args.run, "precision": precision, "batch": BATCH, "machine": machine()}
    record = as_record(setting, scores, floor)
    print(section(record))
    if args.write:
        picture = render(chart(scores, floor))
        write_file(DOCS / PICTURE, lambda file: picture.save(file, format="PNG"))
        record.write(RECORD)
        replace_section(RESULTS, "samplers", section(record))


if __name__ == "__main__":
    run_command(main)
