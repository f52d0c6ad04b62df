"""Figures that several callbacks draw."""

from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import ListedColormap, hsv_to_rgb
from matplotlib.figure import Figure
from torch import Tensor

from genlab.metrics import ColorCount
from lit_models.losses.classification import class_of

Limits = tuple[tuple[float, float], tuple[float, float]]
"""Lowest and highest x, lowest and highest y."""
HUES = hsv_to_rgb([(degree / 360, 1, 1) for degree in range(360)])
"""The colour of each hue in degrees."""


def second_label_name(data: Any) -> str:
    """The data module's name for the second column of its labels; "angle" where it has none."""
    return data.label_columns[1] if len(data.label_columns) > 1 else "angle"


def scatter_figure(
    points: Tensor,
    names: tuple[str, str],
    labels: Tensor,
    classes: tuple[str, ...],
    angle: str = "angle",
    limits: Limits | None = None,
) -> Figure:
    """A scatter plot coloured by class and, for labels of two columns, a second one coloured by an angle.

    Args:
        points: N x 2.
        names: Labels of the axes.
        labels: Classes, N, or classes and angles in degrees, N x 2.
        classes: Names of the classes.
        angle: Name of the second column; points with a "hue" have the colour of that hue.
        limits: Limits of the axes; None to fit them to the points.
    """
    panels = 1 if labels.ndim == 1 else 2
    figure = Figure(figsize=(6 * panels, 5.4), layout="constrained")
    panel = np.atleast_1d(figure.subplots(1, panels))
    x, y = points.T.numpy()
    by_class = class_of(labels).numpy()
    dots = panel[0].scatter(x, y, c=by_class, cmap=class_colours(len(classes)), s=5, vmin=-0.5, vmax=len(classes) - 0.5)
    bar = figure.colorbar(dots, ax=panel[0], ticks=range(len(classes)), label="class")
    bar.ax.set_yticklabels(classes)
    if panels == 2:
        colours = ListedColormap(HUES) if angle == "hue" else "twilight"
        dots = panel[1].scatter(x, y, c=labels[:, 1].numpy() % 360, cmap=colours, s=5, vmin=0, vmax=360)
        figure.colorbar(dots, ax=panel[1], ticks=range(0, 361, 60), label=f"{angle} in degrees")
        panel[0].set_title("by class", fontsize=10)
        panel[1].set_title(f"by {angle}", fontsize=10)
    for axes in panel:
        axes.set(xlabel=names[0], ylabel=names[1])
        if limits is not None:
            axes.set(xlim=limits[0], ylim=limits[1])
    return figure


def class_colours(count: int) -> str | ListedColormap:
    """A colour map of `count` distinct colours."""
    return ListedColormap([colormaps["tab10"](k) for k in range(count)]) if count <= 10 else "turbo"


def hue_confusion_figure(count: ColorCount, names: list[str], made: str = "samples") -> Figure:
    """A confusion matrix of requested hues (rows) and the nearest reference hues of the images (columns; or none).

    Args:
        count: The counts of `ColorAgreement`.
        names: Names of the reference hues.
        made: What the images are, in the label of the colour bar.
    """
    requested = count.confusion.sum(dim=1, keepdim=True).clamp(min=1)
    shares = (count.confusion / requested).cpu()
    figure = Figure(figsize=(6.4, 5.6), layout="constrained")
    axes = figure.subplots()
    matrix = axes.imshow(shares.numpy(), cmap="viridis", vmin=0, vmax=1)
    figure.colorbar(matrix, label=f"share of the {made}")
    axes.set_xticks(range(len(names) + 1), [*names, "none"], rotation=90)
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("nearest reference hue")
    axes.set_ylabel("requested hue")
    for row, shares_of_row in enumerate(shares.tolist()):
        for column, share in enumerate(shares_of_row):
            if share >= 0.005:
                tone = "white" if share < 0.6 else "black"
                axes.text(column, row, f"{100 * share:.0f}", ha="center", va="center", color=tone, fontsize=8)
    return figure
