from datamodules.anomaly_mnist import AnomalyMNISTDataModule
from datamodules.base import ImageDataModule
from datamodules.binarized_mnist import BinarizedMNISTDataModule
from datamodules.cifar10 import CIFAR10DataModule
from datamodules.colored_mnist import REFERENCE_HUES, ColoredMNISTDataModule
from datamodules.colored_pairs_mnist import ColoredPairsMNISTDataModule
from datamodules.digits import DigitsDataModule
from datamodules.files import DataError
from datamodules.loader import BatchLoader, Render
from datamodules.low_resolution import LowResolutionCIFAR10DataModule, LowResolutionMNISTDataModule
from datamodules.mnist import MNISTDataModule
from datamodules.noisy_mnist import NoisyMNISTDataModule
from datamodules.paired_folder import PairedFolderDataModule
from datamodules.pairs import Pairs, PairsDataModule
from datamodules.pictures import PicturesDataModule, StylesDataModule
from datamodules.recolored_mnist import RecoloredMNISTDataModule
from datamodules.rotated_mnist import RotatedMNISTDataModule
from datamodules.stacked_mnist import StackedMNISTDataModule

__all__ = [
    "REFERENCE_HUES",
    "AnomalyMNISTDataModule",
    "BatchLoader",
    "BinarizedMNISTDataModule",
    "CIFAR10DataModule",
    "ColoredMNISTDataModule",
    "ColoredPairsMNISTDataModule",
    "DataError",
    "DigitsDataModule",
    "ImageDataModule",
    "LowResolutionCIFAR10DataModule",
    "LowResolutionMNISTDataModule",
    "MNISTDataModule",
    "NoisyMNISTDataModule",
    "PairedFolderDataModule",
    "Pairs",
    "PairsDataModule",
    "PicturesDataModule",
    "RecoloredMNISTDataModule",
    "Render",
    "RotatedMNISTDataModule",
    "StackedMNISTDataModule",
    "StylesDataModule",
    "data_modules",
]


ABSTRACT = (ImageDataModule, PairsDataModule)


def data_modules() -> dict[str, type[ImageDataModule]]:
    """Every data module by its name."""
    kinds = {name: globals()[name] for name in __all__}
    return {
        name: kind
        for name, kind in kinds.items()
        if isinstance(kind, type) and issubclass(kind, ImageDataModule) and kind not in ABSTRACT
    }
