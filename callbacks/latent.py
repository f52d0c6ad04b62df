"""The latent space in pictures and numbers."""

from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from matplotlib.figure import Figure
from torch import Tensor

from callbacks.media import save_picture
from lit_models.base import Encodes
from metrics import LatentCorrelation


class LatentScatter(Callback):
    """Codes of test images projected on their first two principal components, coloured by class: media/latent.png.

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
        points, shares = principal_components(codes)
        save_picture(trainer, "latent", scatter_figure(points, shares, labels.cpu(), data.classes))


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
        images, _ = trainer.datamodule.examples("test", self.num_images)  # type: ignore[attr-defined]
        codes = encode_all(pl_module, images[trainer.global_rank :: trainer.world_size])
        device = torch.device("cpu") if codes.device.type == "mps" else codes.device  # which has no float64
        metric = LatentCorrelation(codes.shape[1]).to(device)
        metric.update(codes.to(device))
        result = metric.compute()
        self._matrix = result.matrix.cpu()
        for name in ("abs_correlation", "abs_correlation_full"):
            pl_module.log(f"test/{name}", getattr(result, name).float(), sync_dist=True)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._matrix is not None:
            save_picture(trainer, "latent_correlation", correlation_figure(self._matrix))
            self._matrix = None


@torch.no_grad()
def encode_all(model: Any, images: Tensor, batch_size: int = 500) -> Tensor:
    """Codes of many images, batch by batch: N x d, float32."""
    return torch.cat([model.encode(batch.to(model.device, model.dtype)).float() for batch in images.split(batch_size)])


def principal_components(codes: Tensor) -> tuple[Tensor, Tensor]:
    """Codes, N x d, on their first two principal axes: N x 2, and the share of variance of each, 2.

    The sign of an axis is arbitrary; it is chosen so that the axis' largest entry is positive.
    """
    centred = (codes - codes.mean(dim=0)).cpu().double()
    _, spread, axes = torch.linalg.svd(centred, full_matrices=False)
    axes = axes[:2]
    largest = axes.gather(1, axes.abs().argmax(dim=1, keepdim=True))
    variance = spread.square()
    return centred @ (axes * largest.sign()).T, variance[:2] / variance.sum().clamp(min=1e-30)


def scatter_figure(points: Tensor, shares: Tensor, labels: Tensor, classes: tuple[str, ...]) -> Figure:
    figure = Figure(figsize=(6, 5.4), layout="constrained")
    axes = figure.subplots()
    drawn = axes.scatter(
        points[:, 0].numpy(),
        points[:, 1].numpy(),
        c=labels.numpy(),
        cmap="tab10",
        s=5,
        vmin=-0.5,
        vmax=len(classes) - 0.5,
    )
    bar = figure.colorbar(drawn, ticks=range(len(classes)))
    bar.ax.set_yticklabels(classes)
    axes.set_xlabel(f"principal component 1 ({shares[0]:.0%} of the variance)")
    axes.set_ylabel(f"principal component 2 ({shares[1]:.0%})")
    return figure


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
