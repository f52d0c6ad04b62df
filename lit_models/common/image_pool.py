import torch
from torch import Tensor


class ImagePool:
    """Generated images of earlier steps, of which the discriminator sees some in the place of the newest.

    Shrivastava et al. 2016, arXiv 1612.07828, section 2.3, in the form of Zhu et al. 2017, arXiv 1703.10593, section 4:
    while the pool is filled, an image is kept and handed out; later half of the images, drawn at random, are exchanged
    for kept ones. A batch goes through at once, without waiting for the device; of a batch larger than the pool the
    rest is handed out as it is.

    Args:
        size: images kept; 0 for none.

    Raises:
        ValueError: `size` is negative.
    """

    def __init__(self, size: int) -> None:
        if size < 0:
            raise ValueError(f"pool_size is {size}; it may not be negative")
        self.size = size
        self.kept: Tensor | None = None

    def __call__(self, images: Tensor) -> Tensor:
        """N x C x H x W -> as many images, new and earlier ones; draws from torch's global generator."""
        if not self.size:
            return images
        if self.kept is not None:
            self.kept = self.kept.to(images)  # those of a checkpoint lie on the CPU
        free = self.size - (0 if self.kept is None else len(self.kept))
        if free:
            new = images[:free].clone()
            self.kept = new if self.kept is None else torch.cat([self.kept, new])
        rest = images[free:]
        return torch.cat([images[:free], self._exchanged(rest)]) if len(rest) else images

    def state(self) -> Tensor | None:
        """The images kept, on the CPU; None as long as there are none."""
        return None if self.kept is None else self.kept.cpu()

    def restore(self, kept: Tensor | None) -> None:
        """Takes up kept images, as many as have room."""
        self.kept = None if kept is None or not self.size else kept[: self.size].clone()

    def _exchanged(self, images: Tensor) -> Tensor:
        assert self.kept is not None
        count = min(len(images), self.size)
        slots = torch.randperm(self.size, device=images.device)[:count]
        new, earlier = images[:count], self.kept[slots]
        swap = (torch.rand(count, device=images.device) < 0.5)[:, None, None, None]
        self.kept[slots] = torch.where(swap, new, earlier)
        return torch.cat([torch.where(swap, earlier, new), images[count:]])
