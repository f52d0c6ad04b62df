import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor

from lit_models.common.image_optimization import LBFGS, ImageOptimization, check_total_variation, random_vgg
from lit_models.common.module import ImageShape, Stage
from lit_models.common.perceptual import PerceptualFeatures
from lit_models.losses.distortion import psnr
from lit_models.losses.relative import relative_error
from lit_models.losses.total_variation import total_variation


class FeatureInversion(ImageOptimization):
    """Feature inversion: finds an image with given features, by optimization of the pixels from noise.

    min_x |phi(x) - phi_0|^2 / |phi_0|^2 + tv_weight TV(x), where phi_0 = phi(p) are the feature maps of the reference
    image p, and TV is the total variation with the exponent beta / 2. Mahendran and Vedaldi 2015, arXiv 1412.0035, eq.
    1 to 4. They also bound the pixels, as sigmoid(theta) does here, and use gradient descent with momentum.

    Args:
        features: Fixed network of features. With several layers, the errors are averaged. By default, relu4_1 of VGG-19
            with random weights.
        tv_weight: Weight of the total variation.
        tv_beta: Exponent beta of the total variation, at least 1; 2 in the paper.
        num_images: Number N of images; train.py takes it from the data.
        image_shape: Channels, height, width of the images; train.py takes them from the data.
        optimizer: Optimizer; in Python, a function that makes it from the parameters.

    Raises:
        ValueError: a number is out of range.
        CheckpointError: from `prepare_fit`, the network cannot be loaded.

    Examples:
        >>> model = FeatureInversion(image_shape=(3, 32, 32))
        >>> model.optimized_images().shape
        torch.Size([1, 3, 32, 32])
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
        check_total_variation(tv_weight, tv_beta)
        self.save_hyperparameters()
        self.tv_weight = tv_weight
        self.tv_beta = tv_beta
        self.setup_images(features or random_vgg("relu4_1"), num_images, image_shape)

    def targets(self, batch: tuple[Tensor, ...]) -> list[Tensor]:
        return self.network(batch[0])

    def loss_terms(self, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        images = self.batch_images(batch)
        pairs = zip(self.network(images), self.cached_targets(batch), strict=True)
        errors = [relative_error(*pair).mean() for pair in pairs]
        feature_error = torch.stack(errors).mean()
        variation = total_variation(images, self.tv_beta).mean()
        loss = feature_error + self.tv_weight * variation
        return {"loss": loss, "feature_error": feature_error, "total_variation": variation}

    def _evaluate(self, batch: tuple[Tensor, Tensor], stage: Stage) -> dict[str, Tensor]:
        terms = super()._evaluate(batch, stage)
        if stage == "test":
            self.log_terms("test", {"psnr": psnr(self.batch_images(batch), batch[0]).mean()}, len(batch[0]))
        return terms
