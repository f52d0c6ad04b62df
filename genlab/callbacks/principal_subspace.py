from typing import Protocol, runtime_checkable

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from genlab.callbacks.latent_codes import float64_device
from genlab.media import framed, image_grid, save_picture, tile_centres


@runtime_checkable
class HasSubspace(Protocol):
    def subspace(self) -> Tensor:
        """Vectors, d x CHW, whose span the model projects images on."""


class PrincipalSubspace(Callback):
    """How far a model's plane is from the one of a principal component analysis of the training images.

    `test/principal_angle` is the largest principal angle between the two, in degrees, and `test/mse_pca` the mean
    squared error of PCA on the test images, pixel values not clamped. media/principal_axes.png has PCA's axes in its
    first row and, below them, the part of each that lies in the model's plane.

    Args:
        num_images: how many training images PCA sees, all when there are fewer; 0 for none of this.
        columns: how many axes to draw at most.
    """

    pictures = True
    """Whether they are drawn; train.py sets it to run.pictures."""

    def __init__(self, num_images: int = 100_000, columns: int = 16) -> None:
        self.num_images = num_images
        self.columns = columns
        self._picture: Tensor | None = None

    @torch.no_grad()
    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not isinstance(pl_module, HasSubspace) or self.num_images < 2:
            return
        data = trainer.datamodule  # type: ignore[attr-defined]
        vectors = pl_module.subspace()
        mean, axes = mean_and_axes(data.examples("train", self.num_images)[0], len(vectors))
        images = data.examples("test", 100_000)[0]
        found = {
            "principal_angle": largest_principal_angle(vectors.to(axes.device), axes),
            "mse_pca": projection_error(images, mean, axes),
        }
        for name, value in found.items():
            pl_module.log(f"test/{name}", value.float().to(pl_module.device), sync_dist=True)
        basis = orthonormal(vectors.to(axes.device))
        rows = torch.stack([axes, axes @ basis.T @ basis])[:, : self.columns].float()
        self._picture = rows.unflatten(2, images.shape[1:]).cpu()  # (2, d, C, H, W)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._picture is not None and self.pictures:
            both = 0.5 + 0.5 * self._picture / self._picture.abs().amax(dim=(0, 2, 3, 4), keepdim=True)
            grid = image_grid(both.flatten(0, 1), both.shape[1])
            rows = zip(tile_centres(grid.height, 2), ("PCA", "model"), strict=True)
            title = "Principal axes of the training images, and the part of each in the model's plane"
            save_picture(trainer, "principal_axes", framed(grid, title, yticks=list(rows)))
        self._picture = None


def mean_and_axes(images: Tensor, d: int, batch_size: int = 1000) -> tuple[Tensor, Tensor]:
    """The mean image, CHW, and the first d principal axes, d x CHW, orthonormal, of images N x C x H x W: float64.

    The covariance is summed batch by batch, so that no second copy of the images is made.
    """
    device = float64_device(images.device)
    mean = images.flatten(1).mean(dim=0, dtype=torch.float32)
    covariance = torch.zeros(len(mean), len(mean), dtype=torch.float64, device=device)
    for batch in images.flatten(1).split(batch_size):
        centred = batch - mean
        covariance += (centred.T @ centred).to(device)
    _, vectors = torch.linalg.eigh(covariance / len(images))  # from the smallest eigenvalue up
    return mean.to(device).double(), vectors[:, -d:].flip(1).T.contiguous()


def orthonormal(vectors: Tensor) -> Tensor:
    """An orthonormal basis, d x D, of the span of independent vectors, d x D: float64."""
    return torch.linalg.qr(vectors.double().T).Q.T


def largest_principal_angle(a: Tensor, b: Tensor) -> Tensor:
    """Largest principal angle in degrees, 0 to 90, between the spans of a and of b, both d x D.

    From its sine, the norm of what is left of one basis outside the other span, as the cosine of a small angle has
    no digits to tell it by (Bjorck and Golub 1973, doi 10.1090/S0025-5718-1973-0348991-3).
    """
    a, b = orthonormal(a), orthonormal(b)
    outside = a - a @ b.T @ b
    return torch.linalg.matrix_norm(outside, ord=2).clamp(max=1).asin().rad2deg()


def projection_error(images: Tensor, mean: Tensor, axes: Tensor, batch_size: int = 1000) -> Tensor:
    """Mean squared error per pixel of images, N x C x H x W, against their projection on the plane through the mean."""
    total = mean.new_zeros(())
    for batch in images.flatten(1).split(batch_size):
        centred = batch.to(mean) - mean
        total += (centred - centred @ axes.T @ axes).square().sum()
    return total / images.numel()
