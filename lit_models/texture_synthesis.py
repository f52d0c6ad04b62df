import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor

from lit_models.common.image_optimization import LBFGS, ImageOptimization, random_vgg
from lit_models.common.module import ImageShape
from lit_models.common.perceptual import PerceptualFeatures
from lit_models.losses.gram import gram_matrix
from lit_models.losses.relative import relative_error


class TextureSynthesis(ImageOptimization):
    """Texture synthesis: makes another image of the same texture, by optimization of the pixels from noise.

    min_x 1/L sum_l |G_l(x) - G_l(p)|^2 / |G_l(p)|^2, with Gram matrices G_l of the feature maps of the image x and the
    reference image p. Gatys et al. 2015, arXiv 1505.07376, eq. 3 to 4, use VGG-19 trained on ImageNet with average
    pooling and leave the weights w_l open; here every layer counts equally. Networks with random weights give textures
    too (Ustyuzhaninov et al. 2016, arXiv 1606.00021).

    Args:
        features: Fixed network of features. By default, VGG-19 with random weights, relu1_1, relu2_1, relu3_1 and
            relu4_1.
        num_images: Number N of images; train.py takes it from the data.
        image_shape: Channels, height, width of the images; train.py takes them from the data.
        optimizer: Optimizer; in Python, a function that makes it from the parameters.

    Raises:
        ValueError: there is no image.
        CheckpointError: from `prepare_fit`, the network cannot be loaded.

    Examples:
        >>> model = TextureSynthesis(image_shape=(3, 32, 32))
        >>> model.optimized_images().shape
        torch.Size([1, 3, 32, 32])
    """

    def __init__(
        self,
        features: PerceptualFeatures | None = None,
        num_images: int = 1,
        image_shape: ImageShape = (3, 128, 128),
        optimizer: OptimizerCallable = lambda params: LBFGS(params, lr=1.0),
    ) -> None:
        super().__init__(optimizer)
        self.save_hyperparameters()
        self.setup_images(features or random_vgg("relu1_1", "relu2_1", "relu3_1", "relu4_1"), num_images, image_shape)

    def targets(self, batch: tuple[Tensor, ...]) -> list[Tensor]:
        return [gram_matrix(maps) for maps in self.network(batch[0])]

    def loss_terms(self, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        grams = [gram_matrix(maps) for maps in self.network(self.batch_images(batch))]
        errors = [relative_error(*pair).mean() for pair in zip(grams, self.cached_targets(batch), strict=True)]
        return {"loss": torch.stack(errors).mean()}
