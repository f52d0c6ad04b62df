"""Data of image pairs that are made of the digits and need no file."""

from typing import Any

from datamodules import (
    ColoredPairsMNISTDataModule,
    DigitsDataModule,
    LowResolutionMNISTDataModule,
    NoisyMNISTDataModule,
    RecoloredMNISTDataModule,
)


class RecoloredDigits(RecoloredMNISTDataModule):
    """Unpaired images of 3 x 28 x 28."""

    name = "digits"
    read = DigitsDataModule.read


class ColoredPairsOfDigits(ColoredPairsMNISTDataModule):
    """Sources of 1 x 28 x 28, targets of 3 x 28 x 28."""

    name = "digits"
    read = DigitsDataModule.read


class NoisyDigits(NoisyMNISTDataModule):
    """Unpaired images of 1 x 28 x 28."""

    name = "digits"
    read = DigitsDataModule.read

    def __init__(self, **options: Any) -> None:
        super().__init__(paired=False, **options)


class HalfDigits(LowResolutionMNISTDataModule):
    """Sources of 1 x 14 x 14, targets of 1 x 28 x 28."""

    name = "digits"
    read = DigitsDataModule.read


class QuarterDigits(HalfDigits):
    """Sources of 1 x 7 x 7, targets of 1 x 28 x 28."""

    def __init__(self, **options: Any) -> None:
        super().__init__(factor=4, **options)
