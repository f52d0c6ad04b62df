from collections.abc import Iterator
from typing import Any

import torch
from lightning import LightningModule, Trainer
from torch import Tensor

from datamodules import ImageDataModule
from genlab.callbacks.picture import PictureCallback
from genlab.callbacks.sample_quality import SampleQuality
from genlab.evaluation.classifier import EvaluationClassifier
from genlab.evaluation.nearest_neighbours import NearestSearch
from genlab.evaluation.sample_scores import TEST_SEED, draw_samples
from genlab.finite import check_finite
from genlab.media import batches_so_far, image_grid
from genlab.random_state import isolated_rng
from genlab.runs.wandb_run import RunLogger
from lit_models.common.capabilities import Samples

BATCH_SIZE = 500
MOST_PIXELS = 50_000_000
"""Pixels of all training images up to which each sample is compared with all of them; 60,000 digits have fewer."""


class SampleTable(PictureCallback):
    """Logs samples of the test as a W&B Table `samples`, which can be sorted, filtered and grouped there.

    Its columns are, as far as the model and the data have them:

    - `image`, of uint8 pixels;
    - `class`, of class-conditional models: the class that the sample was conditioned on;
    - `predicted` and `confidence`: the class that the evaluation classifier predicts, and its probability;
    - `nearest`: Euclidean distance of the pixels to the nearest training image, for training sets of at most 50 million
      pixels.

    Each image is a file on W&B. There is no table without W&B, or where the pictures are turned off.

    Args:
        num_images: Rows of the table; 0 for no table.

    Raises:
        ValueError: `num_images` is negative or above 1000.
    """

    def __init__(self, num_images: int = 0) -> None:
        if not 0 <= num_images <= 1000:
            raise ValueError(f"sample_table.num_images is {num_images}; it must be from 0 to 1000")
        self.num_images = num_images

    def draw(self, trainer: Trainer, pl_module: LightningModule) -> None:
        loggers = [logger for logger in trainer.loggers if isinstance(logger, RunLogger)]
        if not loggers or not self.num_images or not isinstance(pl_module, Samples):
            return
        with isolated_rng(TEST_SEED):
            drawn = list(draw_samples(pl_module, self.num_images, BATCH_SIZE))
        images = check_finite(torch.cat([images for images, _ in drawn]), "samples").float()
        columns: dict[str, list[Any]] = {"image": [image_grid(image[None], 1, padding=0, scale=1) for image in images]}
        data: ImageDataModule = trainer.datamodule  # type: ignore[attr-defined]
        labels = [label for batch, label in drawn for _ in batch if label is not None]
        if labels:
            columns["class"] = _names(labels, data)
        classifier = _evaluation_classifier(trainer)
        if classifier is not None:
            columns |= _predictions(classifier.to(images.device), images, data)
        if data.number_of_images("train") * images[0].numel() <= MOST_PIXELS:
            columns["nearest"] = _nearest_distances(images, data).tolist()
        for logger in loggers:
            logger.log_images_table("samples", columns, batches_so_far(trainer))


def _evaluation_classifier(trainer: Trainer) -> EvaluationClassifier | None:
    """The classifier that measures the samples of this run, if there is one."""
    measures: Iterator[SampleQuality] = (
        callback
        for callback in trainer.callbacks  # type: ignore[attr-defined]
        if isinstance(callback, SampleQuality)
    )
    return next((measure.evaluation_classifier for measure in measures), None)


def _predictions(classifier: EvaluationClassifier, images: Tensor, data: ImageDataModule) -> dict[str, list[Any]]:
    """The predicted mode of each image, and its probability: of all channels where they are classified separately."""
    probabilities = classifier.probabilities(images).amax(dim=-1)
    confidence = probabilities.prod(dim=1) if classifier.per_channel else probabilities
    return {"predicted": _names(classifier.modes(images).tolist(), data), "confidence": confidence.tolist()}


def _names(labels: list[int], data: ImageDataModule) -> list[str]:
    """The names of classes; the number of what is no class of the data."""
    return [data.classes[label] if 0 <= label < len(data.classes) else str(label) for label in labels]


def _nearest_distances(images: Tensor, data: ImageDataModule) -> Tensor:
    search = NearestSearch(images.flatten(1))
    for batch, _ in data.example_batches("train", data.number_of_images("train"), BATCH_SIZE):
        search.add(batch.to(images.device).flatten(1))
    return search.nearest.distance
