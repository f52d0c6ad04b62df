import torch
from torch import Tensor, nn


class MinibatchStd(nn.Module):
    """Appends a map with the standard deviation of the batch: N x C x H x W -> N x (C + 1) x H x W.

    The standard deviation over the images of a group is computed at each place and channel, and averaged to one number
    a group (Karras et al. 2017, arXiv 1710.10196, section 3). It shows the discriminator a generator that makes the
    same image again and again.

    Args:
        group: Number of images in a group. If the batch is not a multiple of it, the whole batch is one group.
    """

    def __init__(self, group: int = 4) -> None:
        super().__init__()
        self.group = group

    def forward(self, maps: Tensor) -> Tensor:
        n, _, height, width = maps.shape
        size = self.group if n % self.group == 0 else n
        grouped = maps.float().view(n // size, size, *maps.shape[1:])
        std = (grouped.var(dim=1, correction=0) + 1e-8).sqrt().mean(dim=(1, 2, 3))  # (N / size,)
        column = std.repeat_interleave(size).to(maps.dtype).view(n, 1, 1, 1)
        return torch.cat([maps, column.expand(n, 1, height, width)], dim=1)
