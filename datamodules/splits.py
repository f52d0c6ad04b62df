"""Which images are held out for validation and for the test: a share or a number of them, stratified by class."""

from typing import Any

import torch
from torch import Tensor

from datamodules.files import DataError


def check_amount(option: str, amount: float, may_be_none: bool = False) -> None:
    """Checks an option that is a share below 1, or a whole number of images.

    Args:
        option: Name of the option, for the message.
        amount: Its value.
        may_be_none: Whether 0 is allowed.

    Raises:
        ValueError: The value is not allowed.
    """
    if not 0 <= amount < float("inf") or (amount > 1 and amount % 1) or (amount == 0 and not may_be_none):
        above = "" if may_be_none else ", above 0"
        raise ValueError(f"{option} is {amount:g}; give a share below 1 or a whole number of images{above}")


def number_of(amount: float, total: int, option: str, where: Any, purpose: str) -> int:
    """Returns the number of images that a share below 1 (at least one image), or a number, means.

    Args:
        amount: Share or number.
        total: Number of images.
        option: Name of the option, for the message.
        where: What the images belong to, such as a folder, for the message.
        purpose: What the images are held out for, for the message.

    Raises:
        DataError: No image would be left.
    """
    number = max(1, round(amount * total)) if 0 < amount < 1 else int(amount)
    if number >= total and number > 0:
        other = f" or give another --{option}" if total > 1 else ""
        if purpose == "validation":
            other = f" or give another --{option}, such as 0"
        raise DataError(
            f"{where} has {total} {'images' if total > 1 else 'image'} for training and {purpose}, of which {number}"
            f" would be held out for {purpose} and none left for training; add images{other}"
        )
    return number


def hold_out(labels: Tensor, number: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Splits images at random into those that stay and `number` that are held out, each class in the same share.

    Each class has its share of the `number`, rounded up or down so that the sum is right (largest remainders), and
    keeps at least one image as long as others have more than one.

    Args:
        labels: The class of each image, int64, N.
        number: How many images are held out, fewer than N.
        generator: Random generator; it alone decides the choice.

    Returns:
        The positions of the images that stay and of those that are held out, each sorted.

    Examples:
        >>> stay, held = hold_out(torch.tensor([0, 0, 0, 0, 1, 1, 1, 1]), 2, torch.Generator().manual_seed(0))
        >>> len(stay), sorted(held.div(4, rounding_mode="floor").tolist())
        (6, [0, 1])
    """
    order = torch.randperm(len(labels), generator=generator)
    counts = labels.bincount()
    quotas = _quotas(counts, number)
    by_class = order[labels[order].argsort(stable=True)]  # the images of class 0 in random order, then of class 1, ...
    first = (counts.cumsum(0) - counts)[labels[by_class]]
    held = torch.arange(len(labels)) - first < quotas[labels[by_class]]
    return by_class[~held].sort().values, by_class[held].sort().values


def _quotas(counts: Tensor, number: int) -> Tensor:
    """Returns how many of `number` images each class gives."""
    exact = counts.double() * number / counts.sum()
    quotas = exact.floor().long()
    by_remainder = (exact - quotas).argsort(descending=True, stable=True)
    for most in (counts - 1, counts):  # the last image of a class only if there are no others
        while (missing := number - int(quotas.sum())) > 0 and bool((quotas < most).any()):
            quotas[by_remainder[(quotas < most)[by_remainder]][:missing]] += 1
    return quotas
