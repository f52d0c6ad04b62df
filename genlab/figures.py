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


def second_label_name(data: Any) -> str:
    """What a label's second number is, as the data module calls it; "angle" where it does not say."""
    return data.label_columns[1] if len(data.label_columns) > 1 else "angle"


def scatter_figure(
    points: Tensor,
    names: tuple[str, str],
    labels: Tensor,
    classes: tuple[str, ...],
    angle: str = "angle",
    limits: Limits | None = None,
) -> Figure:
    """Points, N x 2, by class and, where labels are N x 2, in a second panel by their second column in degrees.

    Args:
        names: of the axes.
        angle: what the second column is: a hue is drawn in its own colour.
        limits: of the axes, to be the same in several pictures.
    """
    panels = 1 if labels.ndim == 1 else 2
    figure = Figure(figsize=(6 * panels, 5.4), layout="constrained")
    every = np.atleast_1d(figure.subplots(1, panels))
    x, y = points.T.numpy()
    by_class = class_of(labels).numpy()
    drawn = every[0].scatter(
        x, y, c=by_class, cmap=class_colours(len(classes)), s=5, vmin=-0.5, vmax=len(classes) - 0.5
    )
    bar = figure.colorbar(drawn, ax=every[0], ticks=range(len(classes)))
    bar.ax.set_yticklabels(classes)
    if panels == 2:
        colours = ListedColormap(HUES) if angle == "hue" else "twilight"
        drawn = every[1].scatter(x, y, c=labels[:, 1].numpy() % 360, cmap=colours, s=5, vmin=0, vmax=360)
        figure.colorbar(drawn, ax=every[1], ticks=range(0, 361, 60), label=f"{angle} in degrees")
        every[0].set_title("by class", fontsize=10)
        every[1].set_title(f"by {angle}", fontsize=10)
    for axes in every:
        axes.set(xlabel=names[0], ylabel=names[1])
        if limits is not None:
            axes.set(xlim=limits[0], ylim=limits[1])
    return figure


def class_colours(count: int) -> str | ListedColormap:
    """A colour map that tells `count` classes apart."""
    return ListedColormap([colormaps["tab10"](k) for k in range(count)]) if count <= 10 else "turbo"


def confusion_figure(count: ColorCount, names: list[str], made: str = "samples") -> Figure:
    """Rows: the hue asked for. Columns: the nearest one obtained, or none.

    Args:
        names: of the reference hues.
        made: what was painted.
    """
    asked = count.confusion.sum(dim=1, keepdim=True).clamp(min=1)
    shares = (count.confusion / asked).cpu()
    figure = Figure(figsize=(6.4, 5.6), layout="constrained")
    axes = figure.subplots()
    drawn = axes.imshow(shares.numpy(), cmap="viridis", vmin=0, vmax=1)
    figure.colorbar(drawn, label=f"share of the {made}")
    axes.set_xticks(range(len(names) + 1), [*names, "none"], rotation=90)
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("nearest hue obtained")
    axes.set_ylabel("hue asked for")
    for row, shares_of_row in enumerate(shares.tolist()):
        for column, share in enumerate(shares_of_row):
            if share >= 0.005:
                tone = "white" if share < 0.6 else "black"
                axes.text(column, row, f"{100 * share:.0f}", ha="center", va="center", color=tone, fontsize=8)
    return figure
