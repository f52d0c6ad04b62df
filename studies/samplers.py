"""How good a diffusion model's samples are, and how fast they are made, by sampler and number of steps.

python -m studies.samplers --precision bf16-mixed --write

Each setting makes as many images, of the same noise x_T, and is measured against the same test images. What has been
measured is kept in samplers.json in the folder of all runs, so that an interrupted run goes on.
"""

import argparse
import re
import statistics
import sys
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from matplotlib.figure import Figure
from torch import Tensor

from datamodules import ImageDataModule, MNISTDataModule
from genlab.callbacks import EvaluationClassifier, find_evaluation_classifier
from genlab.evaluation.classifier import default_classifier
from genlab.media import render, write_file
from lit_models import DDPM
from lit_models.common.samplers import DDIM, Ancestral, Sampler
from studies.benchmarks import machine
from studies.families import DOCS, NEIGHBOURS, fingerprint, fit, kept, measured, quality_cells
from studies.page import put, table, wrapped

RUN = "ddpm_mnist/default"
PICTURE = "img/samplers.png"
BATCH = 100
KINDS = {"ddim": DDIM, "ancestral": Ancestral}
NAMES = {"ddim": "DDIM", "ancestral": "ancestral (DDIM with eta = 1)"}
COLOURS = {"ddim": "#1f6fb4", "ancestral": "#c8500a"}
SETTINGS = [*(f"{kind}-{steps}" for steps in (10, 25, 50, 100) for kind in KINDS), "ancestral-1000"]
HEAD = ["sampler", "steps", "images/s", "frechet_classifier", "precision", "recall", "modes (KL)"]
ALT = "Frechet distance, precision and recall against images a second, by sampler and number of steps"
NOTES = (
    "{count:,} samples of each against all test images, made of the same noise with the best weights of `{run}`. The"
    " fewer images, the larger the distance, so that these compare with one another only; {count:,} training images in"
    " their place have {floor}. images/s: on one thread, in {precision}, {batch} at a time, the median ({machine})."
    " Ancestral sampling through some of the levels is DDIM with eta = 1."
)


class Setting(NamedTuple):
    kind: str
    steps: int

    @property
    def sampler(self) -> Sampler:
        return KINDS[self.kind](steps=self.steps)


def setting(name: str) -> Setting:
    """Of ddim-50, ancestral-1000."""
    found = re.fullmatch(rf"({'|'.join(KINDS)})-([1-9]\d*)", name)
    if found is None:
        raise argparse.ArgumentTypeError(f"{name} is not a sampler and its steps, such as {' or '.join(SETTINGS[-2:])}")
    return Setting(found[1], int(found[2]))


class Drawn:
    """So many images by a sampler, in batches without classes, as `measured` takes them.

    Args:
        half: the network in bfloat16.
    """

    def __init__(self, model: DDPM, sampler: Sampler, count: int, half: bool) -> None:
        self.model = model
        self.sampler = sampler
        self.count = count
        self.half = half
        self.seconds: list[float] = []
        """For an image, in each batch."""

    def __iter__(self) -> Iterator[tuple[Tensor, None]]:
        model = self.model
        for noisy in model.diffusion.start(self.count, model.image_shape).split(BATCH):
            began = time.perf_counter()
            with torch.autocast("cpu", torch.bfloat16, enabled=self.half):
                images = model.sample_by(self.sampler, noisy, model.labels(len(noisy), None))
            self.seconds.append((time.perf_counter() - began) / len(noisy))
            yield images, None


def measured_with_speed(judge: EvaluationClassifier, data: ImageDataModule, images: Drawn) -> dict[str, float]:
    quality = measured(judge, data, images)
    return quality | {"images_per_second": 1 / statistics.median(images.seconds)}


def chart(found: Mapping[Setting, Mapping[str, float]], floor: Mapping[str, float]) -> Figure:
    """Quality against speed, one line a sampler, its points named by their steps."""
    figure = Figure(figsize=(10, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    for kind, colour in COLOURS.items():
        of_kind = sorted((setting, values) for setting, values in found.items() if setting.kind == kind)
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
        axes.set_xlabel("images a second; numbers are steps")
        axes.margins(x=0.12)
        for side in (axes.xaxis, *([axes.yaxis] if axes is left else [])):
            side.set_major_formatter("{x:g}")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2)
    left.yaxis.set_minor_formatter("{x:g}")
    return figure


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path("runs"), help="folder of all runs")
    parser.add_argument("--run", default=RUN, help="folder of the model's run below it")
    parser.add_argument("--data-root", type=Path, default=Path("data"), help="folder of mnist.npz")
    parser.add_argument("--count", type=int, default=2000, help=f"samples of each setting; above {NEIGHBOURS}")
    parser.add_argument("--samplers", type=setting, nargs="+", default=[setting(s) for s in SETTINGS], metavar="S")
    parser.add_argument("--precision", choices=["32-true", "bf16-mixed"], default="32-true", help="of the network")
    parser.add_argument("--write", action="store_true", help="write docs/results.md and the picture")
    args = parser.parse_args()
    torch.set_num_threads(1)
    data = MNISTDataModule(str(args.data_root), seed=0)
    judge = find_evaluation_classifier(None, data, data.image_shape, args.root)
    checkpoint = args.root / args.run / "checkpoints" / "best.ckpt"
    if judge is None or not checkpoint.is_file():
        commands = [*[fit("classifier_mnist")] * (judge is None), *[fit("ddpm_mnist")] * (not checkpoint.is_file())]
        print("error: some runs are missing; these commands make them:", *commands, sep="\n", file=sys.stderr)
        return 2
    model = DDPM.load(checkpoint)
    of = f"{args.run} {fingerprint(checkpoint)} by {fingerprint(default_classifier(data, args.root))}"
    found = {}
    for s in args.samplers:
        images = Drawn(model, s.sampler, args.count, args.precision == "bf16-mixed")
        key = f"{of}: {args.count} by {s.kind}-{s.steps} in {args.precision}"
        found[s] = kept(args.root / "samplers.json", key, partial(measured_with_speed, judge, data, images))
        print(f"{s.kind}-{s.steps}: {found[s]}", file=sys.stderr, flush=True)
    train = data.examples("train", args.count)[0]
    floor = measured(judge, data, ((images, None) for images in train.split(BATCH)))
    rows = [
        [NAMES[s.kind], str(s.steps), f"{values['images_per_second']:.3g}", *quality_cells(values)]
        for s, values in sorted(found.items(), key=lambda item: (list(KINDS).index(item[0].kind), item[0].steps))
    ]
    precision = {"32-true": "float32"}.get(args.precision, args.precision)
    known = {"count": args.count, "run": args.run, "floor": quality_cells(floor)[0]}
    notes = wrapped(NOTES.format(**known, precision=precision, batch=BATCH, machine=machine()))
    text = table(HEAD, rows)
    print(f"{text}\n\n{notes}")
    if args.write:
        picture = render(chart(found, floor))
        write_file(DOCS / PICTURE, lambda file: picture.save(file, format="PNG"))
        put(DOCS / "results.md", "samplers", f"{text}\n\n![{ALT}]({PICTURE})\n\n{notes}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
