"""The digits in two versions, which need no file."""

from typing import Any

from datamodules import (
    ColoredPairsMNISTDataModule,
    DigitsDataModule,
    LowResolutionMNISTDataModule,
    NoisyMNISTDataModule,
    RecoloredMNISTDataModule,
)


class RecoloredDigits(RecoloredMNISTDataModule):
    """3 x 28 x 28 both, never of one digit."""

    name = "digits"
    read = DigitsDataModule.read


class ColoredPairsOfDigits(ColoredPairsMNISTDataModule):
    """1 x 28 x 28 to 3 x 28 x 28."""

    name = "digits"
    read = DigitsDataModule.read


class NoisyDigits(NoisyMNISTDataModule):
    """1 x 28 x 28 both, never of one digit."""

    name = "digits"
    read = DigitsDataModule.read

    def __init__(self, **options: Any) -> None:
        super().__init__(paired=False, **options)


class HalfDigits(LowResolutionMNISTDataModule):
    """1 x 14 x 14 to 1 x 28 x 28."""

    name = "digits"
    read = DigitsDataModule.read


class QuarterDigits(HalfDigits):
    """1 x 7 x 7 to 1 x 28 x 28."""

    def __init__(self, **options: Any) -> None:
        super().__init__(factor=4, **options)
