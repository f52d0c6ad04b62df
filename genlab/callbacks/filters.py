import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

from genlab.media import framed, image_grid, save_picture
from lit_models.common.capabilities import Encodes, HasBackbone

TILE = 32
"""Pixels of a filter's side, or a little less; a larger filter is drawn as it is."""


class Filters(Callback):
    """The first convolution's filters, of the network that encodes images, else of the one that makes features of them,
    else of the discriminator: media/filters.png.

    Each filter is on its own scale, on which 0 is grey. One of three channels is a picture in colours; one of any
    other number has a tile for each channel. A network without convolutions has no picture.

    Args:
        most: filters in the picture; 0 for none.
    """

    def __init__(self, most: int = 64) -> None:
        self.most = most

    @torch.no_grad()
    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero or self.most < 1:
            return
        convolution = first_convolution(pl_module)
        if convolution is None:
            return
        weight = convolution.weight[: self.most]
        tiles, across = filter_tiles(weight)
        grid = image_grid(tiles, across, 1, max(1, TILE // max(tiles.shape[-2:])))
        some = f"{len(weight)} of " if len(weight) < convolution.out_channels else ""
        channels = "" if len(tiles) == len(weight) else f", the {weight.shape[1]} channels of each side by side"
        title = f"{some}{convolution.out_channels} filters of the first convolution{channels}"
        save_picture(trainer, "filters", framed(grid, title))


def first_convolution(model: object) -> nn.Conv2d | None:
    """Of the network that encodes images, of the one that makes features or of the discriminator; None without one."""
    network: object
    if isinstance(model, Encodes):
        network = model.encoder_network()
    elif isinstance(model, HasBackbone):
        network = model.backbone()
    else:
        network = getattr(model, "critic", None)
    if not isinstance(network, nn.Module):
        return None
    return next((module for module in network.modules() if isinstance(module, nn.Conv2d)), None)


def filter_tiles(weight: Tensor) -> tuple[Tensor, int]:
    """Filters, N x C x h x w, as images in [0, 1], N x 3 x h x w, or N C x 1 x h x w; and how many stand in a row.

    A filter's largest absolute weight is 0 or 1, and its zeros are 1/2.
    """
    weight = weight.detach().float().cpu()
    count, channels = weight.shape[:2]
    scaled = 0.5 + 0.5 * weight / weight.abs().amax(dim=(1, 2, 3), keepdim=True).clamp(min=1e-12)
    if channels == 3:
        return scaled, _columns(count, 1)
    return scaled.flatten(0, 1)[:, None], _columns(count, channels)


def _columns(count: int, channels: int) -> int:
    """Tiles in a row of about as many as there are rows, the channels of a filter together."""
    return channels * max(1, round((count / channels) ** 0.5))
