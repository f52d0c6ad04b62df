"""Checks of batches: those of a data module of genlab always fit, those of another DataLoader may not."""

from typing import Any

import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor

from lit_models.common.capabilities import Translates


def complete_batch(batch: Any, model: Any) -> tuple[Any, ...] | list[Any]:
    """Returns a batch of images alone as (images, labels), with zeros as labels, for a model that does not use them.

    Args:
        batch: What a DataLoader yields.
        model: The model, a GenerativeModule.

    Raises:
        MisconfigurationException: The batch has no images, or lacks what the model learns from.
    """
    if isinstance(batch, tuple | list) and len(batch) > 1 and isinstance(batch[0], Tensor):
        return batch
    name, pairs = type(model).__name__, isinstance(model, Translates)
    wanted = "(source, target)" if pairs else "(images, labels)"
    batch = (batch,) if isinstance(batch, Tensor) else batch
    if not isinstance(batch, tuple | list) or not batch or not isinstance(batch[0], Tensor):
        raise MisconfigurationException(f"a batch is a {type(batch).__name__}, and {name} takes {wanted} as tensors")
    if pairs or model.learns_labels:
        raise MisconfigurationException(f"a batch has images only, and {name} learns from {wanted}")
    return batch[0], torch.zeros(len(batch[0]), dtype=torch.long, device=batch[0].device)


def check_range(batch: tuple[Any, ...] | list[Any], model: Any) -> None:
    """Checks that the images of a batch, N x C x H x W, are floats in [0, 1]. Waits for the device.

    Raises:
        MisconfigurationException: They are not.
    """
    for images in batch:
        if not isinstance(images, Tensor) or images.ndim != 4 or not images.numel():  # labels, or codes
            continue
        low, high = (bound.item() for bound in images.aminmax())
        if images.is_floating_point() and low >= 0 and high <= 1:
            continue
        kind = str(images.dtype).removeprefix("torch.")
        raise MisconfigurationException(
            f"the images of a batch are {kind} from {low:.4g} to {high:.4g}, and {type(model).__name__} takes floats in"
            " [0, 1]: scale them, such as images / 255 for 0 to 255, or (images + 1) / 2 for -1 to 1"
        )
