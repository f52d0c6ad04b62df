from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from lightning import LightningModule, Trainer
from matplotlib.figure import Figure
from torch import Tensor

from genlab.callbacks.picture import PictureCallback
from genlab.finite import check_finite
from genlab.media import save_picture
from lit_models.losses.circular import angle_error

BIN_DEGREES = 10
"""Width of a bin of the histogram."""


@runtime_checkable
class PredictsAngles(Protocol):
    def angles(self, images: Tensor) -> Tensor:
        """The counter-clockwise rotation of each image, N, in degrees, [0, 360]."""


class AnglePredictions(PictureCallback):
    """Saves media/angles.png: predicted against true rotation angles of test images, and the errors of each class.

    Applies to models that predict angles. Digits that look alike upside down form a second diagonal, 180 degrees away.

    Args:
        num_images: Test images in the picture, chosen at random but always the same; 0 for no picture.
    """

    def __init__(self, num_images: int = 10000) -> None:
        self.num_images = num_images

    def draw(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not isinstance(pl_module, PredictsAngles) or self.num_images < 1:
            return
        data = trainer.datamodule  # type: ignore[attr-defined]
        images, labels = data.examples("test", self.num_images)
        predicted = [pl_module.angles(batch.to(pl_module.device, pl_module.dtype)).cpu() for batch in images.split(500)]
        angles = check_finite(torch.cat(predicted), "predicted angles")
        save_picture(trainer, "angles", angle_figure(labels.cpu().numpy(), angles.numpy(), data.classes))


def angle_figure(labels: np.ndarray, predicted: np.ndarray, classes: Sequence[str]) -> Figure:
    """A histogram of predicted against true angles, and quartiles of the errors of each class.

    Args:
        labels: Class and true angle in degrees, N x 2.
        predicted: Predicted angles in degrees, N.
        classes: Names of the classes.
    """
    of_class, true = labels[:, 0], labels[:, 1]
    error = angle_error(torch.from_numpy(predicted), torch.from_numpy(true)).numpy()
    figure = Figure(figsize=(10, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 1))
    edges = np.arange(0, 361, BIN_DEGREES)
    counts, _, _ = np.histogram2d(true, predicted % 360, bins=[edges, edges])
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    mesh = left.pcolormesh(edges, edges, share.T, cmap="viridis")
    figure.colorbar(mesh, ax=left, label=f"share of the images of each true angle, {BIN_DEGREES} degrees a bin")
    ticks = np.arange(0, 361, 60)
    left.set(xlabel="true angle, degrees", ylabel="predicted angle, degrees", xticks=ticks, yticks=ticks)
    left.set_aspect("equal")
    present = [number for number in range(len(classes)) if (of_class == number).any()]
    quartiles = np.array([np.quantile(error[of_class == number], (0.25, 0.5, 0.75)) for number in present])
    middle = quartiles[:, 1]
    spread = np.abs(quartiles[:, [0, 2]] - middle[:, None]).T
    right.errorbar(range(len(present)), middle, spread, fmt="o", capsize=3)
    right.set_xticks(range(len(present)), [classes[number] for number in present])
    right.set(xlabel="class", ylabel="error in degrees: median, quartiles", ylim=(0, 180), yticks=ticks[:4])
    figure.suptitle(f"mean error {error.mean():.1f} degrees, median {np.median(error):.1f}", fontsize=10)
    return figure
