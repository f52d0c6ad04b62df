import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor

from lit_models.common.image_optimization import LBFGS, ImageOptimization, random_vgg
from lit_models.common.module import ImageShape
from lit_models.common.perceptual import PerceptualFeatures
from lit_models.losses.gram import gram_matrix
from lit_models.losses.relative import relative_error


class TextureSynthesis(ImageOptimization):
    """Texture synthesis: another image of the same texture, by descent on the pixels from noise.

    min_x 1/L sum_l |G_l(x) - G_l(p)|^2 / |G_l(p)|^2 with the Gram matrices G_l of a network's maps of the image x and
    the picture p. Gatys et al. 2015, arXiv 1505.07376, eq. 3 to 4, with VGG-19 as trained on ImageNet, average pooling
    and weights w_l that they leave open; these give each layer the same say. Networks of random weights give textures
    too (Ustyuzhaninov et al. 2016, arXiv 1606.00021).

    Args:
        features: the fixed network; VGG-19 with random weights, up to relu4_1, by default.
        num_images: N; given by the data when run through train.py.
        image_shape: channels, height, width; given by the data when run through train.py.
        optimizer: makes the optimizer from the parameters.

    Raises:
        ValueError: no image.
        CheckpointError: from `prepare_fit`, when the network cannot be had.
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
        self.hold(features or random_vgg("relu1_1", "relu2_1", "relu3_1", "relu4_1"), num_images, image_shape)

    def targets(self, batch: tuple[Tensor, ...]) -> list[Tensor]:
        return [gram_matrix(maps) for maps in self.network(batch[0])]

    def loss_terms(self, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        found = [gram_matrix(maps) for maps in self.network(self.own(batch))]
        errors = [relative_error(*pair).mean() for pair in zip(found, self.wanted(batch), strict=True)]
        return {"loss": torch.stack(errors).mean()}
