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
"""Colour and width of the line of each stage."""
COLUMNS = 3
LOG_FROM = 100
"""Ratio of the largest to the smallest value of a curve above which the axis is logarithmic."""

Curve = tuple[np.ndarray, np.ndarray]
"""Completed epochs, and values."""


class LearningCurves(Callback):
    """Saves media/curves.png after training: a chart of each logged metric against epochs, training and validation.

    Args:
        draw: Save the picture.
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


def read_curves(path: Path, steps_per_epoch: int) -> dict[str, dict[str, Curve]]:
    """Reads the curves of a metrics.csv by metric and stage (train or val); none if there is no such file."""
    if not path.is_file():
        return {}
    with open(path, newline="", encoding="utf-8") as file:
        all_rows = list(csv.DictReader(file))
    rows = [row for row in all_rows if any(row[column] for column in row if column.partition("/")[0] in STAGES)]
    if not rows:
        return {}
    curves: dict[str, dict[str, Curve]] = {}
    for column in rows[0]:
        stage, _, term = column.partition("/")
        if stage not in STAGES or not term:
            continue
        filled = [row for row in rows if row[column]]
        x = np.array([(float(row["step"]) + 1) / steps_per_epoch for row in filled])
        y = np.array([float(row[column]) for row in filled])
        if np.isfinite(y).any():
            curves.setdefault(term, {})[stage] = (x, y)
    return curves


def curves_figure(terms: dict[str, dict[str, Curve]]) -> Figure:
    """A chart of each metric with its training and validation curves."""
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
