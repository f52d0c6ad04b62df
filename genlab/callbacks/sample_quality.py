"""How good samples are, by the features and the classes of a classifier."""

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torchmetrics.image.fid import FrechetInceptionDistance

from datamodules import ImageDataModule
from datamodules.base import Split
from genlab.evaluation.classifier import (
    EvaluationClassifier,
    check_validation,
    default_classifier,
    evaluation_classifier_or_hint,
)
from genlab.evaluation.inception import inception_distance
from genlab.evaluation.nearest_neighbours import nearest_picture
from genlab.evaluation.sample_scores import (
    ALL_IMAGES,
    TEST_SEED,
    VAL_SEED,
    SampleScores,
    draw_samples,
    selected_by_frechet,
)
from genlab.media import save_picture
from genlab.random_state import isolated_rng
from genlab.runs.errors import UsageError
from lit_models.common.capabilities import Samples
from lit_models.common.checkpoints import command_that_makes
from lit_models.common.module import GenerativeModule

NEAREST_SAMPLES = 20
NEAREST_TEST_IMAGES = 500


class SampleQuality(Callback):
    """Measures samples of any model against real images of the split, by a classifier trained here.

    - `frechet_classifier`: squared Frechet distance between the classifier's features; lower is better. It compares
      models judged by the same classifier, and only with about the same number of images.
    - `modes`, `modes_kl`: classes that have a sample, and KL(samples || uniform) in nats.
    - `class_agreement`, for models with classes of their own (`num_classes`), which are asked for each equally often:
      share of samples that the classifier sees in the class asked for.
    - `precision`, `recall`: shares of samples among real images and of real images among samples, by nearest neighbours
      in the classifier's features (Kynkaanniemi et al. 2019, arXiv 1904.06991, who use VGG's).
    - `frechet_inception`: the distance by Inception's features, with `inception`.

    A test has all of them; validation in a fit the first three, and only for models whose best checkpoint they choose.
    Samples that are not finite are of no mode, and their distances infinite. A number of batches in
    trainer.limit_val_batches or limit_test_batches limits real images and samples too, to so many times `batch_size`.
    Such models' test also draws samples above the nearest training images: media/nearest.png.

    Args:
        classifier: checkpoint of a Classifier of these images; by default that of the data,
            `<run.root>/classifier_<data>/default/checkpoints/best.ckpt`, and no measurement where it is not there.
        num_images: samples in a test, which are compared with all test images; 0 for no measurement at all.
        val_images: samples in validation.
        neighbours: k of precision and recall.
        batch_size: images drawn and judged at a time.
        inception: measure `test/frechet_inception`.
        inception_weights: file of Inception's weights; torch-fidelity's, which are downloaded, by default.

    Raises:
        ValueError: a number out of range.
    """

    pictures = True

    def __init__(
        self,
        classifier: str | None = None,
        num_images: int = 10000,
        val_images: int = 5000,
        neighbours: int = 3,
        batch_size: int = 500,
        inception: bool = False,
        inception_weights: str | None = None,
    ) -> None:
        if min(neighbours, batch_size) < 1:
            raise ValueError(f"neighbours is {neighbours} and batch_size {batch_size}; both must be at least 1")
        if val_images < 2 or (num_images != 0 and num_images <= neighbours):
            raise ValueError(
                f"num_images is {num_images} and val_images {val_images}; they must be above neighbours ({neighbours}),"
                " or num_images 0, and at least 2"
            )
        self.classifier = classifier
        self.num_images = num_images
        self.val_images = val_images
        self.neighbours = neighbours
        self.batch_size = batch_size
        self.inception = inception
        self.inception_weights = inception_weights
        self.judge: EvaluationClassifier | None = None
        self._by_inception: FrechetInceptionDistance | None = None
        self._validation: SampleScores | None = None

    @property
    def measures(self) -> bool:
        """Whether there is something to measure, and a classifier to do so; known after `prepare`."""
        return self.judge is not None

    def prepare(self, model: GenerativeModule, data: ImageDataModule, root: str) -> None:
        """Finds what it measures by, before anything is run; the run's random draws do not depend on it.

        Args:
            root: folder of all runs.

        Raises:
            CheckpointError: the classifier cannot be used.
            UsageError: what was asked for cannot be measured.
        """
        self.judge = self._by_inception = None
        if not isinstance(model, Samples) or self.num_images == 0:
            return
        chosen = selected_by_frechet(model)
        unmeasured = "samples" if chosen and not self.inception else None
        self.judge = evaluation_classifier_or_hint(
            self.classifier, data, root, chosen or self.inception, unmeasured, "--quality.classifier"
        )
        if self.judge is None:
            if self.inception:
                path = default_classifier(data, root)
                raise UsageError(
                    f"quality.inception needs a classifier too, and there is no {path}{command_that_makes(path)}"
                )
            return
        if chosen:
            check_validation(data)
        if self.inception:
            if data.image_shape[0] not in (1, 3):
                raise UsageError(f"quality.inception reads images of 1 or 3 channels, not of {data.image_shape[0]}")
            with isolated_rng():
                self._by_inception = inception_distance(self.inception_weights)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.judge is None or trainer.sanity_checking or not selected_by_frechet(pl_module):
            return
        limit = trainer.limit_val_batches
        if self._validation is None:  # its real images are the same each time
            self._validation = SampleScores(self.judge.to(pl_module.device), self._labelled(pl_module))
            self._see_real(self._validation, trainer, "val", limit)
        scores = self._validation
        self._see_samples(scores, trainer, pl_module, self._limited(self.val_images, limit), VAL_SEED)
        self._log(scores, pl_module, "val")
        scores.forget_samples()

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.judge is None or not isinstance(pl_module, Samples):
            return
        limit = trainer.limit_test_batches
        judge = self.judge.to(pl_module.device)
        scores = SampleScores(judge, self._labelled(pl_module), self.neighbours, self._by_inception)
        self._see_real(scores, trainer, "test", limit)
        self._see_samples(scores, trainer, pl_module, self._limited(self.num_images, limit), TEST_SEED)
        self._log(scores, pl_module, "test")

    @torch.no_grad()
    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.judge is None or not (self.pictures and trainer.is_global_zero and selected_by_frechet(pl_module)):
            return
        with isolated_rng(TEST_SEED):
            samples = torch.cat([images for images, _ in draw_samples(pl_module, NEAREST_SAMPLES, NEAREST_SAMPLES)])
        data = trainer.datamodule  # type: ignore[attr-defined]
        train, _ = data.examples("train", self._limited(ALL_IMAGES, trainer.limit_test_batches))
        test, _ = data.examples("test", NEAREST_TEST_IMAGES)
        save_picture(trainer, "nearest", nearest_picture(self.judge, samples, train, test))

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._validation = None

    def _see_real(self, scores: SampleScores, trainer: Trainer, split: Split, limit: float) -> None:
        data = trainer.datamodule  # type: ignore[attr-defined]
        images, _ = data.examples(split, self._limited(ALL_IMAGES, limit))  # the same ones in each process
        for batch in images[trainer.global_rank :: trainer.world_size].split(self.batch_size):
            scores.add_real(batch)

    @torch.no_grad()
    def _see_samples(self, scores: SampleScores, trainer: Trainer, model: LightningModule, n: int, seed: int) -> None:
        with isolated_rng(seed + trainer.global_rank):
            for images, label in draw_samples(model, n, self.batch_size, trainer.global_rank, trainer.world_size):
                scores.add_samples(images, label)

    def _log(self, scores: SampleScores, model: LightningModule, stage: str) -> None:
        for name, value in scores.compute().items():
            model.log(f"{stage}/{name}", value, sync_dist=True)  # every process finds the same

    def _labelled(self, model: object) -> bool:
        """Whether the classifier's classes are those that the model can be asked for."""
        return self.judge is not None and getattr(model, "num_classes", None) == self.judge.num_modes

    def _limited(self, count: int, limit: float) -> int:
        """What a number of batches, not a share of them, leaves of `count`."""
        least = max(2, self.neighbours + 1)
        return min(count, max(least, limit * self.batch_size)) if isinstance(limit, int) else count
