import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor

from lit_models.common.image_optimization import LBFGS, ImageOptimization, check_smoothness, random_vgg
from lit_models.common.module import ImageShape, Stage
from lit_models.common.perceptual import PerceptualFeatures
from lit_models.losses.distortion import psnr
from lit_models.losses.relative import relative_error
from lit_models.losses.total_variation import total_variation


class FeatureInversion(ImageOptimization):
    """Feature inversion: what image has these features? By descent on the pixels from noise.

    min_x |phi(x) - phi_0|^2 / |phi_0|^2 + tv_weight TV(x), phi_0 = phi(p) the maps of the picture p, TV the total
    variation with the exponent beta / 2. Mahendran and Vedaldi 2015, arXiv 1412.0035, eq. 1 to 4, who add a bound on
    the pixels, which sigmoid(theta) keeps here, and optimizer_step with momentum.

    Args:
        features: the fixed network; VGG-19 with random weights, at relu4_1, by default; the mean over its maps.
        tv_weight: how much smoothness counts.
        tv_beta: at least 1; 2 in the paper.
        num_images: N; given by the data when run through train.py.
        image_shape: channels, height, width; given by the data when run through train.py.
        optimizer: makes the optimizer from the parameters.

    Raises:
        ValueError: no image, or a number out of range.
        CheckpointError: from `prepare_fit`, when the network cannot be had.
    """

    def __init__(
        self,
        features: PerceptualFeatures | None = None,
        tv_weight: float = 0.1,
        tv_beta: float = 2.0,
        num_images: int = 1,
        image_shape: ImageShape = (3, 128, 128),
        optimizer: OptimizerCallable = lambda params: LBFGS(params, lr=1.0),
    ) -> None:
        super().__init__(optimizer)
        check_smoothness(tv_weight, tv_beta)
        self.save_hyperparameters()
        self.tv_weight = tv_weight
        self.tv_beta = tv_beta
        self.hold(features or random_vgg("relu4_1"), num_images, image_shape)

    def targets(self, batch: tuple[Tensor, ...]) -> list[Tensor]:
        return self.network(batch[0])

    def loss_terms(self, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        images = self.own(batch)
        errors = [relative_error(*pair).mean() for pair in zip(self.network(images), self.wanted(batch), strict=True)]
        feature_error = torch.stack(errors).mean()
        variation = total_variation(images, self.tv_beta).mean()
        loss = feature_error + self.tv_weight * variation
        return {"loss": loss, "feature_error": feature_error, "total_variation": variation}

    def _evaluate(self, batch: tuple[Tensor, Tensor], stage: Stage) -> dict[str, Tensor]:
        terms = super()._evaluate(batch, stage)
        if stage == "test":
            self.log_terms("test", {"psnr": psnr(self.own(batch), batch[0]).mean()}, len(batch[0]))
        return terms
