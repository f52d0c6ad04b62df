"""The latent space in pictures and numbers."""

from typing import Any

import numpy as np
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from matplotlib import colormaps
from matplotlib.colors import ListedColormap, hsv_to_rgb
from matplotlib.figure import Figure
from torch import Tensor

from genlab.media import save_picture
from genlab.metrics import LatentCorrelation
from lit_models.common.capabilities import Encodes, HasLatentBlocks, LatentBlock
from lit_models.common.priors import Normal
from lit_models.losses.classification import class_of

Limits = tuple[tuple[float, float], tuple[float, float]]
"""Lowest and highest x, lowest and highest y."""
HUES = hsv_to_rgb([(degree / 360, 1, 1) for degree in range(360)])


class LatentScatter(Callback):
    """Codes of test images in the plane, coloured by class and, where a label has a second column, by that angle:
    media/latent.png.

    Codes of two real numbers are drawn as they are, others on their first two principal components; those of
    categories alone, which fall on few points, with a little noise.

    Args:
        num_images: how many codes to draw.
    """

    def __init__(self, num_images: int = 2000) -> None:
        self.num_images = num_images

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not isinstance(pl_module, Encodes) or not trainer.is_global_zero or self.num_images < 2:
            return
        data = trainer.datamodule  # type: ignore[attr-defined]
        images, labels = data.examples("test", self.num_images)
        codes = encode_all(pl_module, images)
        if codes.shape[1] < 2:
            return
        categorical = all(part.kind == "categorical" for part in latent_blocks(pl_module, codes.shape[1]))
        points, names = flat(codes, categorical)
        figure = scatter_figure(points, names, labels.cpu(), data.classes, second_column(data))
        save_picture(trainer, "latent", figure)


class LatentCorrelationMatrix(Callback):
    """How much the latent dimensions repeat each other: a heat map in media/latent_correlation.png, and two numbers.

    `test/abs_correlation` is the mean absolute correlation off the diagonal, `test/abs_correlation_full` that of the
    whole matrix, of which the diagonal of ones makes up 1/d.

    Args:
        num_images: how many test images to encode, chosen at random but always the same; 0 for none.
    """

    def __init__(self, num_images: int = 8000) -> None:
        self.num_images = num_images
        self._matrix: Tensor | None = None

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not isinstance(pl_module, Encodes) or self.num_images < 2:
            return
        codes = codes_of_rank(trainer, pl_module, self.num_images)
        metric = LatentCorrelation(codes.shape[1]).to(codes.device)
        metric.update(codes)
        result = metric.compute()
        self._matrix = result.matrix.cpu()
        for name in ("abs_correlation", "abs_correlation_full"):
            pl_module.log(f"test/{name}", getattr(result, name).float(), sync_dist=True)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._matrix is not None:
            save_picture(trainer, "latent_correlation", correlation_figure(self._matrix))
            self._matrix = None


def second_column(data: Any) -> str:
    """What a label's second number is, as the data module calls it; "angle" where it does not say."""
    return data.label_columns[1] if len(data.label_columns) > 1 else "angle"


@torch.no_grad()
def encode_all(model: Any, images: Tensor, batch_size: int = 500) -> Tensor:
    """Codes of many images, batch by batch: N x d, float32."""
    return torch.cat([model.encode(batch.to(model.device, model.dtype)).float() for batch in images.split(batch_size)])


def codes_of_rank(trainer: Trainer, model: Any, n: int) -> Tensor:
    """Codes of this process' share of n test images, always the same ones, where there is float64: N x d, float32."""
    images, _ = trainer.datamodule.examples("test", n)  # type: ignore[attr-defined]
    codes = encode_all(model, images[trainer.global_rank :: trainer.world_size])
    return codes.to(float64_device(codes.device))


def float64_device(device: torch.device) -> torch.device:
    """The device itself, or the CPU where it has no float64."""
    return torch.device("cpu") if device.type == "mps" else device


def latent_blocks(model: object, width: int) -> list[LatentBlock]:
    """What the columns of a model's codes mean: real numbers, unless it says otherwise."""
    return model.latent_blocks() if isinstance(model, HasLatentBlocks) else [LatentBlock("continuous", 0, width)]


def has_normal_prior(model: object) -> bool:
    """Whether the real numbers of a model's codes are standard normal a priori; they are unless it says otherwise."""
    return isinstance(model, HasLatentBlocks) and isinstance(getattr(model, "prior", None), Normal | None)


def flat(codes: Tensor, categorical: bool = False, basis: Tensor | None = None) -> tuple[Tensor, tuple[str, str]]:
    """Codes, N x d, as points of a plane, N x 2, on the CPU, and what its axes are.

    Args:
        categorical: codes are one-hot: noise of a fiftieth of the spread shows how many fall on one point.
        basis: the codes that determine the principal components; these codes themselves by default.
    """
    if codes.shape[1] == 2:
        return codes.cpu(), ("z1", "z2")
    basis = codes if basis is None else basis
    axes, shares = principal_axes(basis)
    points = (codes - basis.mean(dim=0)).cpu().double() @ axes.T
    noise = ""
    if categorical:
        generator = torch.Generator().manual_seed(0)
        drawn = torch.randn(points.shape, generator=generator, dtype=points.dtype)
        points = points + 0.02 * points.std(dim=0, correction=0) * drawn
        noise = ", with noise"
    first, second = (f"principal component {k + 1} ({shares[k]:.0%} of the variance{noise})" for k in range(2))
    return points.float(), (first, second)


def principal_axes(codes: Tensor) -> tuple[Tensor, Tensor]:
    """The first two principal axes of codes, N x d: 2 x d, float64, on the CPU, and the share of variance of each, 2.

    The sign of an axis is arbitrary; it is chosen so that the axis' largest entry is positive.
    """
    _, spread, axes = torch.linalg.svd((codes - codes.mean(dim=0)).cpu().double(), full_matrices=False)
    axes = axes[:2]
    largest = axes.gather(1, axes.abs().argmax(dim=1, keepdim=True))
    variance = spread.square()
    return axes * largest.sign(), variance[:2] / variance.sum().clamp(min=1e-30)


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


def correlation_figure(matrix: Tensor) -> Figure:
    d = len(matrix)
    figure = Figure(figsize=(5.6, 4.8), layout="constrained")
    axes = figure.subplots()
    drawn = axes.imshow(matrix.abs().numpy(), cmap="viridis", vmin=0, vmax=1)
    figure.colorbar(drawn, label="absolute Pearson correlation")
    axes.set_xlabel("latent dimension")
    axes.set_ylabel("latent dimension")
    off = (matrix.abs().sum() - d) / max(d * (d - 1), 1)
    axes.set_title(f"mean off the diagonal {off:.3f}, with it {matrix.abs().mean():.3f}", fontsize=10)
    return figure
