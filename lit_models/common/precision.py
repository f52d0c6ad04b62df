"""Which precisions of a trainer keep the weights themselves in half precision."""

from lightning import Trainer
from lightning.pytorch.utilities.exceptions import MisconfigurationException

HALF_PRECISION = ("16-true", "bf16-true", "transformer-engine", "transformer-engine-float16")
"""Values of `trainer.precision` with weights of 16 bits, where a change far smaller than a weight is rounded away."""


def refuse_half_precision(trainer: Trainer, what: str, remedy: str) -> None:
    """
    Raises:
        MisconfigurationException: the trainer keeps the weights in half precision.
    """
    if trainer.precision in HALF_PRECISION:
        raise MisconfigurationException(f"{what} in half precision: use {remedy}")
