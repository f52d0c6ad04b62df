from inspect import isabstract

from datamodules.anomaly_mnist import AnomalyMNISTDataModule
from datamodules.arrays import ArrayDataModule
from datamodules.base import ImageDataModule
from datamodules.binarized_mnist import BinarizedMNISTDataModule
from datamodules.cifar10 import CIFAR10DataModule
from datamodules.colored_mnist import REFERENCE_HUES, ColoredMNISTDataModule
from datamodules.colored_pairs_mnist import ColoredPairsMNISTDataModule
from datamodules.digits import DigitsDataModule
from datamodules.files import DataError
from datamodules.hugging_face import HuggingFaceDataModule
from datamodules.image_folder import ImageFolderDataModule
from datamodules.loader import BatchLoader, BatchTransform
from datamodules.low_resolution import LowResolutionCIFAR10DataModule, LowResolutionMNISTDataModule
from datamodules.medmnist_datasets import MedMNISTDataModule
from datamodules.mnist import MNISTDataModule
from datamodules.noisy_mnist import NoisyMNISTDataModule
from datamodules.paired_folder import PairedFolderDataModule
from datamodules.pairs import Pairs, PairsDataModule
from datamodules.recolored_mnist import RecoloredMNISTDataModule
from datamodules.reference_images import ReferenceImagesDataModule, StyleTransferDataModule
from datamodules.rotated_mnist import RotatedMNISTDataModule
from datamodules.stacked_mnist import StackedMNISTDataModule
from datamodules.torchvision_datasets import TorchvisionDataModule

__all__ = [
    "REFERENCE_HUES",
    "AnomalyMNISTDataModule",
    "ArrayDataModule",
    "BatchLoader",
    "BatchTransform",
    "BinarizedMNISTDataModule",
    "CIFAR10DataModule",
    "ColoredMNISTDataModule",
    "ColoredPairsMNISTDataModule",
    "DataError",
    "DigitsDataModule",
    "HuggingFaceDataModule",
    "ImageDataModule",
    "ImageFolderDataModule",
    "LowResolutionCIFAR10DataModule",
    "LowResolutionMNISTDataModule",
    "MNISTDataModule",
    "MedMNISTDataModule",
    "NoisyMNISTDataModule",
    "PairedFolderDataModule",
    "Pairs",
    "PairsDataModule",
    "RecoloredMNISTDataModule",
    "ReferenceImagesDataModule",
    "RotatedMNISTDataModule",
    "StackedMNISTDataModule",
    "StyleTransferDataModule",
    "TorchvisionDataModule",
    "data_modules",
]


def data_modules() -> dict[str, type[ImageDataModule]]:
    """Returns every data module by its name.

    Examples:
        >>> "DigitsDataModule" in data_modules(), "ImageDataModule" in data_modules()
        (True, False)
    """
    kinds = {name: globals()[name] for name in __all__}
    return {
        name: kind
        for name, kind in kinds.items()
        if isinstance(kind, type) and issubclass(kind, ImageDataModule) and not isabstract(kind)
    }
