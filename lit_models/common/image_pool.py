"""Pool of earlier generated images for the discriminator."""

import torch
from torch import Tensor


class ImagePool:
    """Buffer of generated images from earlier steps, some of which replace the newest ones for the discriminator.

    Shrivastava et al. 2016, arXiv 1612.07828, section 2.3, in the form of Zhu et al. 2017, arXiv 1703.10593, section 4:
    while the pool is not full, each image is stored and returned. Afterwards each image is exchanged for a stored one
    with probability 1/2. A whole batch is processed at once, without synchronising with the device. If a batch is
    larger than the pool, the images beyond the pool's size are returned as they are.

    Args:
        size: Number of images that are stored; 0 for no pool.

    Raises:
        ValueError: `size` is negative.
    """

    def __init__(self, size: int) -> None:
        if size < 0:
            raise ValueError(f"pool_size is {size}; it must be at least 0")
        self.size = size
        self.images: Tensor | None = None

    def __call__(self, images: Tensor) -> Tensor:
        """N x C x H x W -> as many images, new and earlier ones. Draws from torch's global generator."""
        if not self.size:
            return images
        if self.images is not None:
            self.images = self.images.to(images)  # those of a checkpoint are on the CPU
        free = self.size - (0 if self.images is None else len(self.images))
        if free:
            new = images[:free].clone()
            self.images = new if self.images is None else torch.cat([self.images, new])
        rest = images[free:]
        return torch.cat([images[:free], self._exchange(rest)]) if len(rest) else images

    def state(self) -> Tensor | None:
        """The stored images, on the CPU; None if there are none."""
        return None if self.images is None else self.images.cpu()

    def restore(self, images: Tensor | None) -> None:
        """Stores the images of an earlier pool, at most `size` of them."""
        self.images = None if images is None or not self.size else images[: self.size].clone()

    def _exchange(self, images: Tensor) -> Tensor:
        assert self.images is not None
        count = min(len(images), self.size)
        slots = torch.randperm(self.size, device=images.device)[:count]
        new, earlier = images[:count], self.images[slots]
        swap = (torch.rand(count, device=images.device) < 0.5)[:, None, None, None]
        self.images[slots] = torch.where(swap, new, earlier)
        return torch.cat([torch.where(swap, earlier, new), images[count:]])
