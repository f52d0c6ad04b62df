from typing import Protocol, runtime_checkable

import torch
from lightning import LightningModule, Trainer
from torch import Tensor

from genlab.callbacks.picture import PictureCallback
from genlab.evaluation.principal_subspace import largest_principal_angle, mean_and_axes, orthonormal, projection_error
from genlab.media import framed, image_grid, save_picture, tile_centres


@runtime_checkable
class HasSubspace(Protocol):
    def subspace(self) -> Tensor:
        """The vectors, d x CHW, on whose span the model projects images."""


class PrincipalSubspace(PictureCallback):
    """Logs `test/principal_angle` and `test/mse_pca`, which compare the subspace of a linear model with that of PCA.

    `test/principal_angle` is the largest principal angle in degrees between the two subspaces, `test/mse_pca` the mean
    squared error of PCA on the test images, without clamping of pixel values. PCA is fitted to training images. Also
    saves media/principal_axes.png: the axes of PCA above their projections on the model's subspace.

    Args:
        num_images: Largest number of training images that PCA is fitted to; 0 turns it off.
        columns: Largest number of axes in the picture.
    """

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
        values = {
            "principal_angle": largest_principal_angle(vectors.to(axes.device), axes),
            "mse_pca": projection_error(images, mean, axes),
        }
        for name, value in values.items():
            pl_module.log(f"test/{name}", value.float().to(pl_module.device), sync_dist=True)
        basis = orthonormal(vectors.to(axes.device))
        rows = torch.stack([axes, axes @ basis.T @ basis])[:, : self.columns].float()
        self._picture = rows.unflatten(2, images.shape[1:]).cpu()  # (2, d, C, H, W)

    def draw(self, trainer: Trainer, pl_module: LightningModule) -> None:
        picture, self._picture = self._picture, None
        if picture is not None:
            both = 0.5 + 0.5 * picture / picture.abs().amax(dim=(0, 2, 3, 4), keepdim=True)
            grid = image_grid(both.flatten(0, 1), both.shape[1])
            rows = zip(tile_centres(grid.height, 2), ("PCA", "model"), strict=True)
            title = "Principal axes of the training images, and their projections on the model's subspace"
            save_picture(trainer, "principal_axes", framed(grid, title, yticks=list(rows)))
