from typing import Any

import torch
from lightning import LightningModule, Trainer
from torchmetrics.image.fid import FrechetInceptionDistance

from datamodules import ImageDataModule
from datamodules.base import Split
from genlab.callbacks.picture import PictureCallback
from genlab.evaluation.classifier import (
    TRAIN,
    EvaluationClassifier,
    check_validation,
    default_classifier,
    evaluation_classifier_or_hint,
    has_classes,
)
from genlab.evaluation.inception import has_inception, inception_distance
from genlab.evaluation.nearest_neighbours import nearest_picture
from genlab.evaluation.sample_scores import (
    ALL_IMAGES,
    TEST_SEED,
    VAL_SEED,
    InceptionScores,
    SampleScores,
    draw_samples,
    selected_by_frechet,
)
from genlab.media import save_picture
from genlab.processes import first_process
from genlab.random_state import isolated_rng
from genlab.runs.errors import UsageError
from lit_models.common.capabilities import Samples
from lit_models.common.checkpoints import command_that_makes
from lit_models.common.module import GenerativeModule

OPTION = "--quality.classifier"
LEAST_SAMPLES = 500
MOST_SAMPLES: dict[Split, int] = {"val": 5000, "test": 10000}
"""Smallest and largest number of samples where none is asked for."""
NEAREST_SAMPLES = 20
NEAREST_TEST_IMAGES = 500


class SampleQuality(PictureCallback):
    """Logs metrics of a model's samples: `test/frechet_classifier`, `modes`, `precision`, `recall` and others.

    The evaluation classifier, a classifier trained on the same data, extracts features and predicts classes:

    - `frechet_classifier`: the squared Frechet distance between features of samples and of real images of the split;
      lower is better. It compares models that were measured with the same classifier and about the same number of
      images.
    - `modes`, `modes_kl`: the number of classes with a sample, and KL(samples || uniform) in nats.
    - `class_agreement`, of class-conditional models: the share of samples that the classifier predicts to be of the
      class they were conditioned on. There are equally many samples of each class.
    - `precision`, `recall`: the shares of samples among real images and of real images among samples, by nearest
      neighbours of features (Kynkaanniemi et al. 2019, arXiv 1904.06991, who use VGG's features). They are left out if
      there are no more test images than `neighbours`.
    - `frechet_inception`: the Frechet distance of Inception's features (FID), if `inception` is set. Data without
      classes have no classifier of their own; this distance is then measured without one.

    The test logs all of them. Validation logs the first three, and only for models whose best checkpoint they select.
    Samples that are not finite have no mode, and make distances infinite. If trainer.limit_val_batches or
    limit_test_batches is a number of batches, it also limits the real images and the samples, to that many batches of
    `batch_size`. For models whose best checkpoint is selected by the Frechet distance, media/nearest.png shows samples
    above the training images nearest to them.

    Args:
        classifier: Checkpoint of the evaluation classifier, a Classifier; or `train` for that of the data, which is
            trained first if it is missing. By default that of the data,
            `<run.root>/classifier_<data>/default/checkpoints/best.ckpt`; nothing is measured if that is missing.
        num_images: Samples of the test, which are compared with all test images; 0 turns all metrics off. By default as
            many as there are test images, but 500 to 10,000.
        val_images: Samples of a validation. By default as many as there are validation images, but 500 to 5,000.
        neighbours: k of precision and recall.
        batch_size: Images that are generated and classified at a time.
        inception: Log `test/frechet_inception`. By default only for data without classes and without a classifier, if
            Inception's weights are there.
        inception_weights: File of Inception's weights; by default torch-fidelity's, which are downloaded.

    Raises:
        ValueError: A number is out of its range.
    """

    def __init__(
        self,
        classifier: str | None = None,
        num_images: int | None = None,
        val_images: int | None = None,
        neighbours: int = 3,
        batch_size: int = 500,
        inception: bool | None = None,
        inception_weights: str | None = None,
    ) -> None:
        if min(neighbours, batch_size) < 1:
            raise ValueError(f"quality.neighbours is {neighbours} and batch_size {batch_size}; both must be at least 1")
        too_few = num_images is not None and num_images != 0 and num_images <= neighbours
        if too_few or (val_images is not None and val_images < 2):
            raise ValueError(
                f"quality.num_images is {num_images} and val_images {val_images}; num_images must be 0 or above"
                f" quality.neighbours ({neighbours}), and val_images at least 2"
            )
        self.classifier: str | EvaluationClassifier | None = classifier
        self.num_images = num_images
        self.val_images = val_images
        self.neighbours = neighbours
        self.batch_size = batch_size
        self.inception = inception
        self.inception_weights = inception_weights
        self.evaluation_classifier: EvaluationClassifier | None = None
        self._inception_distance: FrechetInceptionDistance | None = None
        self._validation: SampleScores | None = None

    @property
    def measures(self) -> bool:
        """Whether there are samples to measure and a classifier to measure them; known after `prepare`."""
        return self.evaluation_classifier is not None

    def applies(self, model: GenerativeModule, data: ImageDataModule) -> bool:
        """Whether there are samples to measure."""
        return isinstance(model, Samples) and self.num_images != 0

    def prepare(self, model: GenerativeModule, data: ImageDataModule, root: str) -> None:
        """Loads the classifier and Inception before the run starts. The random state of the run stays as it is.

        Args:
            model: The model of the run.
            data: The data of the run.
            root: Folder of all runs.

        Raises:
            CheckpointError: The classifier cannot be used.
            UsageError: A metric that was asked for cannot be measured.
        """
        self.evaluation_classifier = self._inception_distance = None
        if not self.applies(model, data):
            return
        selects, inception = selected_by_frechet(model), bool(self.inception)
        if self.inception is None and selects and not has_classes(data):
            inception = (
                self.classifier is None and data.image_shape[0] in (1, 3) and has_inception(self.inception_weights)
            )
        self.evaluation_classifier = evaluation_classifier_or_hint(
            self.classifier, data, root, selects or inception, None if inception or not selects else "samples", OPTION
        )
        if self.evaluation_classifier is None and inception:
            self._check_alone(data, root)
        if self.evaluation_classifier is not None and selects:
            check_validation(data)
        if inception:
            if data.image_shape[0] not in (1, 3):
                raise UsageError(
                    f"quality.inception needs images of 1 or 3 channels, and those of {data.name} have"
                    f" {data.image_shape[0]}; leave it out"
                )
            with isolated_rng():
                self._inception_distance = inception_distance(self.inception_weights)

    def _check_alone(self, data: ImageDataModule, root: str) -> None:
        """Checks that Inception may measure without a classifier; says what it measures.

        Raises:
            UsageError: The data have classes, and so a classifier of their own.
        """
        path = default_classifier(data, root)
        if has_classes(data):
            raise UsageError(
                f"quality.inception needs an evaluation classifier too, but there is no {path}; {OPTION} {TRAIN} trains"
                f" it first{command_that_makes(path).replace('; ', ', or ', 1)}"
            )
        if first_process():
            print(
                f"{data.name} has no classes to train a classifier on, so only the test measures samples, by Inception,"
                " and best.ckpt holds the last weights",
                flush=True,
            )

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.evaluation_classifier is None or trainer.sanity_checking or not selected_by_frechet(pl_module):
            return
        limit, data = trainer.limit_val_batches, trainer.datamodule  # type: ignore[attr-defined]
        if self._validation is None:  # the real images are the same each time
            self._validation = SampleScores(
                self.evaluation_classifier.to(pl_module.device), self._is_labelled(pl_module)
            )
            self._add_real(self._validation, trainer, "val", limit)
        scores = self._validation
        self._add_samples(scores, trainer, pl_module, self._number_of_samples("val", data, limit), VAL_SEED)
        self._log(scores, pl_module, "val")
        scores.reset_samples()

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not isinstance(pl_module, Samples):
            return
        limit, data = trainer.limit_test_batches, trainer.datamodule  # type: ignore[attr-defined]
        scores = self._test_scores(pl_module, data)
        if scores is None:
            return
        self._add_real(scores, trainer, "test", limit)
        self._add_samples(scores, trainer, pl_module, self._number_of_samples("test", data, limit), TEST_SEED)
        self._log(scores, pl_module, "test")

    def _test_scores(self, model: LightningModule, data: ImageDataModule) -> SampleScores | InceptionScores | None:
        """The scores of the test; without precision and recall if there are no more test images than neighbours."""
        inception = self._inception_distance
        if self.evaluation_classifier is not None:
            classifier = self.evaluation_classifier.to(model.device)
            enough = data.number_of_images("test") > self.neighbours
            return SampleScores(classifier, self._is_labelled(model), self.neighbours if enough else None, inception)
        return None if inception is None else InceptionScores(inception, model.device)

    def draw(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.evaluation_classifier is None or not selected_by_frechet(pl_module):
            return
        with isolated_rng(TEST_SEED):
            batches = draw_samples(pl_module, NEAREST_SAMPLES, NEAREST_SAMPLES)
            samples = torch.cat([images for images, _ in batches])
        data = trainer.datamodule  # type: ignore[attr-defined]
        count = self._limit_count(ALL_IMAGES, trainer.limit_test_batches)
        train = (images for images, _ in data.example_batches("train", count, self.batch_size))
        test, _ = data.examples("test", NEAREST_TEST_IMAGES)
        save_picture(trainer, "nearest", nearest_picture(self.evaluation_classifier, samples, train, test))

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._validation = None

    def _add_real(self, scores: SampleScores | InceptionScores, trainer: Trainer, split: Split, limit: float) -> None:
        data = trainer.datamodule  # type: ignore[attr-defined]
        count = self._limit_count(ALL_IMAGES, limit)  # the same ones in each process
        share = slice(trainer.global_rank, None, trainer.world_size)
        for images, _ in data.example_batches(split, count, self.batch_size, share):
            scores.add_real(images)

    @torch.no_grad()
    def _add_samples(
        self, scores: SampleScores | InceptionScores, trainer: Trainer, model: LightningModule, n: int, seed: int
    ) -> None:
        with isolated_rng(seed + trainer.global_rank):
            for images, label in draw_samples(model, n, self.batch_size, trainer.global_rank, trainer.world_size):
                scores.add_samples(images, label)

    def _log(self, scores: SampleScores | InceptionScores, model: LightningModule, stage: str) -> None:
        for name, value in scores.compute().items():
            model.log(f"{stage}/{name}", value, sync_dist=True)  # all processes have the same values

    def _is_labelled(self, model: Any) -> bool:
        """Whether the classes of the model are the classes that the classifier predicts."""
        classifier = self.evaluation_classifier
        return classifier is not None and getattr(model, "num_classes", None) == classifier.num_modes

    def _number_of_samples(self, split: Split, data: ImageDataModule, limit: float) -> int:
        """As many as asked for, or as there are real images within bounds; limited to so many batches."""
        count = self.val_images if split == "val" else self.num_images
        if count is None:
            count = min(max(data.number_of_images(split), LEAST_SAMPLES), MOST_SAMPLES[split])
        return self._limit_count(count, limit)

    def _limit_count(self, count: int, limit: float) -> int:
        """Limits `count` to so many batches; a share of the batches does not limit it."""
        least = max(2, self.neighbours + 1)
        return min(count, max(least, limit * self.batch_size)) if isinstance(limit, int) else count
