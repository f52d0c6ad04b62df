from lightning import LightningModule, Trainer
from torch import Tensor, nn

from genlab.callbacks.picture import PictureCallback
from genlab.finite import check_finite
from genlab.media import framed, image_grid, save_picture
from lit_models.common.capabilities import Encodes, HasBackbone

TILE = 32
"""Filters are enlarged to about this many pixels a side."""


class Filters(PictureCallback):
    """Saves media/filters.png: the filters of the first convolution of the encoder, feature extractor or discriminator.

    The first of these three networks that a model has is drawn. Each filter is scaled separately, with 0 as grey.
    Filters of three channels are drawn in colour, others as one tile for each channel. A network without convolutions
    has no such picture.

    Args:
        max_filters: Largest number of filters in the picture; 0 for no picture.
    """

    def __init__(self, max_filters: int = 64) -> None:
        self.max_filters = max_filters

    def draw(self, trainer: Trainer, pl_module: LightningModule) -> None:
        convolution = first_convolution(pl_module)
        if convolution is None or self.max_filters < 1:
            return
        weight = convolution.weight[: self.max_filters]
        tiles, across = filter_tiles(weight)
        grid = image_grid(tiles, across, 1, max(1, TILE // max(tiles.shape[-2:])))
        some = f"{len(weight)} of " if len(weight) < convolution.out_channels else ""
        channels = "" if len(tiles) == len(weight) else f", the {weight.shape[1]} channels of each side by side"
        title = f"{some}{convolution.out_channels} filters of the first convolution{channels}"
        save_picture(trainer, "filters", framed(grid, f"{title}; each on its own scale, 0 is grey"))


def first_convolution(model: object) -> nn.Conv2d | None:
    """The first convolution of the encoder, the feature extractor or the discriminator; None if there is none."""
    network: object
    if isinstance(model, Encodes):
        network = model.encoder_network()
    elif isinstance(model, HasBackbone):
        network = model.backbone()
    else:
        network = getattr(model, "discriminator", None)
    if not isinstance(network, nn.Module):
        return None
    return next((module for module in network.modules() if isinstance(module, nn.Conv2d)), None)


def filter_tiles(weight: Tensor) -> tuple[Tensor, int]:
    """Converts filters, N x C x h x w, to images in [0, 1].

    The weight of largest absolute value becomes 0 or 1, and 0 becomes 1/2.

    Returns:
        The images, N x 3 x h x w for three channels, else N C x 1 x h x w, and the number of columns of their grid.
    """
    weight = check_finite(weight.detach().float().cpu(), "weights")
    count, channels = weight.shape[:2]
    scaled = 0.5 + 0.5 * weight / weight.abs().amax(dim=(1, 2, 3), keepdim=True).clamp(min=1e-12)
    if channels == 3:
        return scaled, _columns(count, 1)
    return scaled.flatten(0, 1)[:, None], _columns(count, channels)


def _columns(count: int, channels: int) -> int:
    """The number of columns of a nearly square grid in which the channels of a filter stay together."""
    return channels * max(1, round((count / channels) ** 0.5))
