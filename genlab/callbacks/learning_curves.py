"""The run's history as charts."""

import csv
import math
from pathlib import Path

import numpy as np
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from genlab.media import save_picture

STAGES = {"train": ("#8fb8de", 1.0), "val": ("#c8500a", 1.8)}
"""Colour and width of each stage's line."""
COLUMNS = 3
LOG_FROM = 100
"""A curve whose largest value is so many times its smallest is drawn on a log axis."""

Curve = tuple[np.ndarray, np.ndarray]
"""Epochs done, and values."""


class LearningCurves(Callback):
    """What training and validation logged, a chart for each term, against epochs: media/curves.png.

    Args:
        draw: whether to draw them, at the end of training.
    """

    def __init__(self, draw: bool = True) -> None:
        self.draw = draw

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self.draw or not trainer.is_global_zero:
            return
        steps = math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)
        terms = read_curves(Path(trainer.default_root_dir) / "metrics.csv", steps)
        if terms:
            save_picture(trainer, "curves", curves_figure(terms))


def read_curves(path: Path, steps_an_epoch: int) -> dict[str, dict[str, Curve]]:
    """The curves of a metrics.csv by term and stage, train or val; none where there is no such file."""
    if not path.is_file():
        return {}
    with open(path, newline="", encoding="utf-8") as file:
        every = list(csv.DictReader(file))
    rows = [row for row in every if any(row[column] for column in row if column.partition("/")[0] in STAGES)]
    if not rows:
        return {}
    found: dict[str, dict[str, Curve]] = {}
    for column in rows[0]:
        stage, _, term = column.partition("/")
        if stage not in STAGES or not term:
            continue
        there = [row for row in rows if row[column]]
        x = np.array([(float(row["step"]) + 1) / steps_an_epoch for row in there])
        y = np.array([float(row[column]) for row in there])
        if np.isfinite(y).any():
            found.setdefault(term, {})[stage] = (x, y)
    return found


def curves_figure(terms: dict[str, dict[str, Curve]]) -> Figure:
    """A chart for each term, train and validation in it."""
    columns = min(COLUMNS, len(terms))
    rows = math.ceil(len(terms) / columns)
    figure = Figure(figsize=(4.4 * columns, 3.4 * rows), layout="constrained")
    charts = figure.subplots(rows, columns, squeeze=False).flat
    for axes, (term, stages) in zip(charts, terms.items(), strict=False):
        for stage, (colour, width) in STAGES.items():
            if stage in stages:
                x, y = stages[stage]
                axes.plot(x, y, color=colour, lw=width, label=stage, marker="o" if len(x) < 2 else None)
        values = np.concatenate([y[np.isfinite(y)] for _, y in stages.values()])
        if values.size and values.min() > 0 and values.max() > LOG_FROM * values.min():
            axes.set_yscale("log")
        axes.set(title=term, xlabel="epoch")
        axes.set_xlim(left=0)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    for axes in list(figure.axes)[len(terms) :]:
        axes.set_visible(False)
    return figure
