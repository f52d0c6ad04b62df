from lightning import LightningModule, Trainer

from genlab.callbacks.picture import PictureCallback
from genlab.callbacks.test_codes import encode_test_images
from genlab.latent_planes import (
    PRIOR_PLANE,
    Plane,
    has_prior_plane,
    normal_quantiles,
    plane_grid,
    principal_plane,
)
from genlab.latents import decode_all, latent_blocks
from genlab.media import framed, image_grid, save_picture, tile_centres
from lit_models.common.capabilities import Decodes, Encodes


class LatentPlane(PictureCallback):
    """Saves media/latent_plane.png: images decoded at the nodes of a grid on a plane of the latent space.

    For two-dimensional codes with a standard normal prior, the nodes are at the quantiles of the prior; for others, at
    the quantiles of a normal distribution with the mean and the standard deviations of the codes. Codes of more
    dimensions are shown on the plane of their first two principal components. z1 grows to the right, z2 upwards. A
    model without an encoder has such a picture only if its prior is two-dimensional and normal.

    Args:
        steps: Nodes along each axis; 0 for no picture.
        num_images: Test images that are encoded to find the plane.
    """

    def __init__(self, steps: int = 20, num_images: int = 2000) -> None:
        self.steps = steps
        self.num_images = num_images

    def draw(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not isinstance(pl_module, Decodes) or self.steps < 2:
            return
        plane = PRIOR_PLANE if has_prior_plane(pl_module) else self._plane_of_codes(trainer, pl_module)
        if plane is None:
            return
        quantiles = normal_quantiles(self.steps)
        codes = plane_grid(plane.centre, plane.directions, quantiles)
        grid = image_grid(decode_all(pl_module, codes), self.steps, 0)
        across = _quantile_ticks(self.steps, grid.width)
        upwards = [(grid.height - at, label) for at, label in _quantile_ticks(self.steps, grid.height)]
        subject = "codes" if len(plane.centre) == 2 else "principal plane of the codes"
        title = f"decoded {subject}, at the quantiles of a normal distribution"
        save_picture(trainer, "latent_plane", framed(grid, title, *plane.names, across, upwards))

    def _plane_of_codes(self, trainer: Trainer, model: LightningModule) -> "Plane | None":
        if not isinstance(model, Encodes):
            return None
        codes = encode_test_images(trainer, model, self.num_images)
        if codes.shape[1] < 2 or any(block.kind != "continuous" for block in latent_blocks(model, codes.shape[1])):
            return None
        return principal_plane(codes)


def _quantile_ticks(steps: int, length: int) -> list[tuple[float, str]]:
    """The positions and labels of about six nodes along `length` pixels, the outermost ones included."""
    nodes = normal_quantiles(steps).tolist()
    shown = sorted({round(k * (steps - 1) / 5) for k in range(6)})
    centres = tile_centres(length, steps)
    return [(centres[k], f"{nodes[k]:+.2f}") for k in shown]
