"""Compares samplers of a model from noise: quality and speed of its samples by sampler and number of evaluations.

python -m studies.samplers --precision bf16-mixed --write

A setting such as edm-25 is a sampler with the most steps that take at most 25 evaluations of the network for an image.
Every setting draws the same number of images from the same noise x_T, and is scored against the same test images. The
scores are kept in samplers.json in the folder of all runs, so that an interrupted command continues where it stopped.
"""

from collections.abc import Mapping
from typing import Any

import torch
from matplotlib.figure import Figure

from datamodules import MNISTDataModule
from genlab.media import render, write_file
from genlab.report.compare.runs import Run
from genlab.report.records import FINISHED
from lit_models.common.noise_process import NoiseProcess
from studies.benchmarks import machine
from studies.command import evaluation_classifier, make_parser, run_command
from studies.families import REAL
from studies.page import DOCS, RESULTS, check_docs, replace_section, wrap_text
from studies.sampler_settings import BATCH, DDPM_RUN, KINDS, NAMES, Measured, Setting, add_options, load_model
from studies.tables import MEASURED, SCORES, Record, distance_text, scores_table

PICTURE = "img/samplers.png"
COLOURS = dict(zip(KINDS, ("#1f6fb4", "#c8500a", "#2a9d3a", "#8a4fbf", "#9a7b00", "#c2307a", "#5a5a5a"), strict=True))
SETTINGS = [*(f"{kind}-{most}" for most in (10, 25, 50, 100) for kind in ("ddim", "ancestral")), "ancestral-1000"]
RECORD = MEASURED / "samplers.json"
ALT = "Frechet distance, precision and recall against images per second, by sampler and number of steps"
NOTES = (
    "{count:,} samples of each setting against all test images, drawn from the same noise with the best weights of"
    " `{run}`. The Frechet distance is larger with fewer images, so these distances compare only with one another;"
    " {count:,} training images in place of the samples have {floor}. images/s: median on one thread, in {precision},"
    " {batch} at a time ({machine}). Ancestral sampling through a part of the noise levels is DDIM with eta = 1."
)


def chart(scores: Mapping[Setting, Mapping[str, float]], floor: Mapping[str, float]) -> Figure:
    """Draws quality against speed: a line for each sampler, whose points are labelled with their evaluations."""
    figure = Figure(figsize=(10, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    for kind in dict.fromkeys(setting.kind for setting in scores):
        colour = COLOURS[kind]
        of_kind = sorted((setting, values) for setting, values in scores.items() if setting.kind == kind)
        evaluations = [setting.evaluations for setting, _ in of_kind]
        speed = [values["images_per_second"] for _, values in of_kind]
        for axes, measure, style in (
            (left, "frechet_classifier", "o-"),
            (right, "precision", "o-"),
            (right, "recall", "s--"),
        ):
            values = [values[measure] for _, values in of_kind]
            label = NAMES[kind] if axes is left else f"{measure}, {NAMES[kind]}"
            axes.plot(speed, values, style, color=colour, label=label, ms=4)
            for x, y, count in zip(speed, values, evaluations, strict=True) if style == "o-" else ():
                axes.annotate(str(count), (x, y), textcoords="offset points", xytext=(4, 4), fontsize=8, color=colour)
    left.axhline(floor["frechet_classifier"], color="grey", lw=0.8, ls=":", label="real images")
    left.set_yscale("log")
    left.set(ylabel="frechet_classifier", title="distance; lower is better")
    right.set(ylabel="share", title="precision and recall; higher is better")
    for axes in (left, right):
        axes.set_xscale("log")
        axes.set_xlabel("images per second; the numbers are evaluations of the network")
        axes.margins(x=0.12)
        for side in (axes.xaxis, *([axes.yaxis] if axes is left else [])):
            side.set_major_formatter("{x:g}")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2)
    left.yaxis.set_minor_formatter("{x:g}")
    return figure


def as_record(
    setting: dict[str, Any],
    process: NoiseProcess,
    scores: Mapping[Setting, Mapping[str, float]],
    floor: Mapping[str, float],
) -> Record:
    """Returns what was measured, each setting as a run, sorted by sampler and number of evaluations."""

    def run(name: str, config: dict[str, Any], values: Mapping[str, float], facts: dict[str, Any]) -> Run:
        metrics = {metric: values[score] for score, metric in SCORES.items()}
        return Run("", name, FINISHED, config, metrics, facts)

    runs = []
    for one in sorted(scores, key=lambda one: (list(KINDS).index(one.kind), one.evaluations)):
        sampler = one.sampler(process)
        facts: dict[str, Any] = {"images/s": scores[one]["images_per_second"]}
        if (evaluations := sampler.evaluations(process)) != sampler.steps:
            facts["evaluations"] = evaluations
        runs.append(run(str(one), {"sampler": NAMES[one.kind], "steps": sampler.steps}, scores[one], facts))
    return Record(setting, runs, run(REAL, {}, floor, {}))


def section(record: Record) -> str:
    """Returns the table, the picture and the notes."""
    facts = [name for name in ("evaluations", "images/s") if any(name in run.facts for run in record.runs)]
    table = scores_table(record.runs, ("sampler", "steps"), SCORES, facts)
    floor = distance_text(record.reference.metrics[SCORES["frechet_classifier"]])
    notes = wrap_text(NOTES.format(**record.setting, floor=floor))
    return f"{table}\n\n![{ALT}]({PICTURE})\n\n{notes}"


def main() -> None:
    parser = make_parser(__doc__, data=True)
    parser.add_argument("--run", default=DDPM_RUN, help="run of the model, below --root (default: %(default)s)")
    add_options(parser, SETTINGS)
    args = parser.parse_args()
    check_docs()
    if args.recorded:
        replace_section(RESULTS, "samplers", section(Record.read(RECORD)))
        return
    torch.set_num_threads(1)
    data = MNISTDataModule(str(args.data_root), seed=0)
    classifier = evaluation_classifier(data, args.root)
    model = load_model(args.root, args.run, classifier)
    measured = Measured(data, classifier, args.root, args.count, args.precision)
    scores = {setting: measured.scores(args.run, model, setting) for setting in args.samplers}
    floor = measured.floor()
    precision = {"32-true": "float32"}.get(args.precision, args.precision)
    setting = {"count": args.count, "run": args.run, "precision": precision, "batch": BATCH, "machine": machine()}
    record = as_record(setting, model.process, scores, floor)
    print(section(record))
    if args.write:
        picture = render(chart(scores, floor))
        write_file(DOCS / PICTURE, lambda file: picture.save(file, format="PNG"))
        record.write(RECORD)
        replace_section(RESULTS, "samplers", section(record))


if __name__ == "__main__":
    run_command(main)
