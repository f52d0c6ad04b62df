"""Compares models from noise by their samples at equal numbers of evaluations of the network, over seeds.

python -m studies.evaluations --run ddpm_mnist/seed={0,1,2} edm_mnist/seed={0,1,2} --write

Runs of one experiment are the seeds of one model. A setting that does not fit a model, such as a solver in continuous
time a DDPM, is left out of it. The scores are kept as those of `studies.samplers`.
"""

import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev
from typing import NamedTuple

import torch
from matplotlib.figure import Figure

from datamodules import MNISTDataModule
from genlab.media import render, write_file
from genlab.report.compare.runs import Run
from genlab.report.records import FINISHED
from genlab.runs.config import SEED
from genlab.runs.errors import UsageError
from studies.command import evaluation_classifier, make_parser, run_command
from studies.families import REAL
from studies.page import DOCS, RESULTS, check_docs, replace_section, wrap_text
from studies.sampler_settings import NAMES, Measured, Setting, add_options, load_model
from studies.samplers import COLOURS
from studies.tables import MEASURED, SCORES, Record, distance_text

PICTURE = "img/evaluations.png"
RECORD = MEASURED / "evaluations.json"
DISTANCE = SCORES["frechet_classifier"]
SETTINGS = [f"{kind}-{most}" for kind in ("ddim", "dpm", "edm", "midpoint") for most in (5, 10, 25, 50)]
STYLES = ("-", "--", ":", "-.")
ALT = "Frechet distance against the number of evaluations of the network, by model and sampler"
NOTES = (
    "Frechet distance of {count:,} samples in {precision} by the most evaluations of the network for an image, mean ±"
    " standard deviation over the runs ({runs}). EDMSampler and solvers of two stages may take one less. The"
    " Frechet distance is larger with fewer images, so these distances compare only with one another; {count:,}"
    " training images in place of the samples have {floor}."
)
Points = dict[int, tuple[float, float]]
"""Mean and deviation of the distance by the most evaluations; no deviation, 0, for one run."""


class Line(NamedTuple):
    """A model with a sampler."""

    model: str
    sampler: str


def lines(runs: Sequence[Run]) -> dict[Line, Points]:
    """Returns the mean distances over the runs of each model."""
    values: dict[Line, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        line = Line(run.config["model"], run.config["sampler"])
        values[line][run.config["evaluations"]].append(run.metrics[DISTANCE])
    return {
        line: {most: (fmean(found), stdev(found) if len(found) > 1 else 0.0) for most, found in sorted(points.items())}
        for line, points in values.items()
    }


def chart(found: Mapping[Line, Points], floor: float) -> Figure:
    """Draws the distance against evaluations: a colour for each model, a style for each of its samplers."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    models = list(dict.fromkeys(line.model for line in found))
    for line, points in found.items():
        of_model = [other.sampler for other in found if other.model == line.model]
        axes.errorbar(
            list(points),
            [mean for mean, _ in points.values()],
            [min(deviation, 0.99 * mean) for mean, deviation in points.values()],
            color=list(COLOURS.values())[models.index(line.model) % len(COLOURS)],
            ls=STYLES[of_model.index(line.sampler) % len(STYLES)],
            marker="o",
            ms=4,
            capsize=3,
            label=f"{line.model}, {line.sampler}",
        )
    axes.axhline(floor, color="grey", lw=0.8, ls=":", label="real images")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set(xlabel="evaluations of the network for an image, at most", ylabel="frechet_classifier; lower is better")
    axes.set_xticks(sorted({most for points in found.values() for most in points}))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return figure


def table(found: Mapping[Line, Points]) -> str:
    """Returns a Markdown table of the distances, the lowest of each number of evaluations in bold."""
    columns = sorted({most for points in found.values() for most in points})
    best = {most: min(points[most][0] for points in found.values() if most in points) for most in columns}
    rows = [f"| model | sampler | {' | '.join(map(str, columns))} |", f"| --- | --- |{' ---: |' * len(columns)}"]
    for line, points in found.items():
        cells = [_cell(points[most], points[most][0] == best[most]) if most in points else "" for most in columns]
        rows.append(f"| {line.model} | {line.sampler} | {' | '.join(cells)} |")
    return "\n".join(rows)


def _cell(point: tuple[float, float], best: bool) -> str:
    text = distance_text(point[0]) + (f" ± {distance_text(point[1])}" if point[1] else "")
    return f"**{text}**" if best else text


def section(record: Record) -> str:
    """Returns the table, the picture and the notes."""
    notes = NOTES.format(**record.setting, floor=distance_text(record.reference.metrics[DISTANCE]))
    return f"{table(lines(record.runs))}\n\n![{ALT}]({PICTURE})\n\n{wrap_text(notes)}"


def measure(runs: Sequence[str], settings: Sequence[Setting], measured: Measured) -> list[Run]:
    """Scores the settings of each run that fit its model.

    Raises:
        UsageError: A run is not there or of another kind, or no setting fits.
    """
    found, kinds = [], defaultdict(set)
    for run in runs:
        model = load_model(measured.root, run, measured.classifier)
        experiment, name = Path(run).parent.name, Path(run).name
        kinds[type(model).__name__].add(experiment)
        for setting in settings:
            try:
                setting.sampler(model.process)
            except UsageError as error:
                print(f"{run} is left out of {error}", file=sys.stderr)
                continue
            scores = measured.scores(run, model, setting)
            config = {"model": type(model).__name__, "sampler": NAMES[setting.kind], "evaluations": setting.evaluations}
            metrics = {metric: scores[score] for score, metric in SCORES.items()}
            found.append(Run(experiment, f"{name} {setting}", FINISHED, config | {SEED: name}, metrics, {}))
    if not found:
        raise UsageError("no setting fits a run")
    several = {kind for kind, experiments in kinds.items() if len(experiments) > 1}
    return [_named(run) if run.config["model"] in several else run for run in found]


def _named(run: Run) -> Run:
    """Adds the experiment to the name of the model, for several of one class."""
    return replace(run, config={**run.config, "model": f"{run.config['model']} ({run.experiment})"})


def main() -> None:
    parser = make_parser(__doc__, data=True)
    parser.add_argument("--run", nargs="+", default=[], help="runs of the models, below --root")
    add_options(parser, SETTINGS)
    args = parser.parse_args()
    check_docs()
    if args.recorded:
        record = Record.read(RECORD)
    else:
        if not args.run:
            parser.error("give --run")
        torch.set_num_threads(1)
        data = MNISTDataModule(str(args.data_root), seed=0)
        classifier = evaluation_classifier(data, args.root)
        measured = Measured(data, classifier, args.root, args.count, args.precision)
        runs = measure(args.run, args.samplers, measured)
        precision = {"32-true": "float32"}.get(args.precision, args.precision)
        setting = {"count": args.count, "precision": precision, "runs": ", ".join(f"`{run}`" for run in args.run)}
        floor = measured.floor()
        reference = {metric: floor[score] for score, metric in SCORES.items()}
        record = Record(setting, runs, Run("", REAL, FINISHED, {}, reference, {}))
    text = section(record)
    print(text)
    if args.write or args.recorded:
        picture = render(chart(lines(record.runs), record.reference.metrics[DISTANCE]))
        write_file(DOCS / PICTURE, lambda file: picture.save(file, format="PNG"))
        record.write(RECORD)
        replace_section(RESULTS, "evaluations", text)


if __name__ == "__main__":
    run_command(main)
