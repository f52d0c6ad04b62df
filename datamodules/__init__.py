from datamodules.base import ImageDataModule
from datamodules.cifar10 import CIFAR10DataModule
from datamodules.digits import DigitsDataModule
from datamodules.files import DataError
from datamodules.loader import BatchLoader
from datamodules.mnist import MNISTDataModule

__all__ = [
    "BatchLoader",
    "CIFAR10DataModule",
    "DataError",
    "DigitsDataModule",
    "ImageDataModule",
    "MNISTDataModule",
]
