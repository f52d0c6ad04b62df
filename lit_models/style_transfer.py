from typing import Any, ClassVar, Literal

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor

from lit_models.common.image_optimization import (
    LBFGS,
    LOGIT_MARGIN,
    ImageOptimization,
    check_total_variation,
    random_vgg,
)
from lit_models.common.module import ImageShape
from lit_models.common.perceptual import PerceptualFeatures
from lit_models.losses.gram import gram_matrix
from lit_models.losses.relative import relative_error
from lit_models.losses.total_variation import total_variation


class StyleTransfer(ImageOptimization):
    """Neural style transfer: makes an image with the content of one image in the style of another, by optimization.

    min_x content_weight C(x) + style_weight S(x) + tv_weight TV(x). C = mean_l |F_l(x) - F_l(p)|^2 / |F_l(p)|^2
    compares feature maps with those of the content image p. S = mean_l |G_l(x) - G_l(a)|^2 / |G_l(a)|^2 compares Gram
    matrices of feature maps with those of the style image a. Gatys et al. 2016, CVPR, and 2015, arXiv 1508.06576, eq. 1
    to 7. They do not divide by the references' norms, and have no total variation, which reduces noise.

    Args:
        features: Fixed network of features. By default, VGG-19 with random weights, relu1_1, relu2_1, relu3_1 and
            relu4_1.
        content_maps: Feature maps that represent the content: numbers from 1, in the order of the network's layers; the
            last one by default.
        style_maps: Feature maps that represent the style: numbers from 1, in the order of the network's layers; all by
            default.
        content_weight: Weight of the content term.
        style_weight: Weight of the style term.
        tv_weight: Weight of the total variation.
        initial_image: Where the optimization starts: from the content image, or from noise.
        num_images: Number N of images, each of one content and one style image; train.py takes it from the data.
        image_shape: Channels, height, width of the images; train.py takes them from the data.
        optimizer: Optimizer; in Python, a function that makes it from the parameters.

    Raises:
        ValueError: a number is out of range; from `prepare_fit`, the network has no such feature map.
        CheckpointError: from `prepare_fit`, the network cannot be loaded.

    Examples:
        >>> model = StyleTransfer(image_shape=(3, 32, 32))
        >>> model.optimized_images().shape
        torch.Size([1, 3, 32, 32])
    """

    references: ClassVar[str] = "pairs of content and style images"

    def __init__(
        self,
        features: PerceptualFeatures | None = None,
        content_maps: tuple[int, ...] | None = None,
        style_maps: tuple[int, ...] | None = None,
        content_weight: float = 1.0,
        style_weight: float = 40.0,
        tv_weight: float = 2.0,
        initial_image: Literal["content", "noise"] = "content",
        num_images: int = 1,
        image_shape: ImageShape = (3, 128, 128),
        optimizer: OptimizerCallable = lambda params: LBFGS(params, lr=1.0),
    ) -> None:
        super().__init__(optimizer)
        check_total_variation(tv_weight)
        if not min(content_weight, style_weight) >= 0:
            raise ValueError(
                f"content_weight is {content_weight} and style_weight {style_weight}; both must be at least 0"
            )
        self.save_hyperparameters()
        self.content_maps = content_maps
        self.style_maps = style_maps
        self.content_weight = content_weight
        self.style_weight = style_weight
        self.tv_weight = tv_weight
        self.initial_image = initial_image
        self.setup_images(features or random_vgg("relu1_1", "relu2_1", "relu3_1", "relu4_1"), num_images, image_shape)

    def prepare_fit(self) -> None:
        super().prepare_fit()
        count = len(self.network(torch.zeros_like(self.logits[:1])))
        for name, chosen in (("content_maps", self.content_maps), ("style_maps", self.style_maps)):
            if chosen is not None and (not chosen or not set(chosen) <= set(range(1, count + 1))):
                raise ValueError(f"{name} is {list(chosen)}; give at least one of the feature maps 1 to {count}")

    def setup(self, stage: str) -> None:
        """Starts from the content image. When a run is resumed, its checkpoint is loaded after this."""
        super().setup(stage)
        if stage == "fit" and self.initial_image == "content":
            data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
            content, _ = data.examples("train", len(self.logits))
            with torch.no_grad():
                self.logits.copy_(content.logit(LOGIT_MARGIN))

    def targets(self, batch: tuple[Tensor, ...]) -> list[Tensor]:
        """Feature maps of the content images, then Gram matrices of the style images."""
        content, style = batch
        content_maps, _ = self._select_maps(self.network(content))
        _, style_grams = self._select_maps(self.network(style))
        return content_maps + style_grams

    def loss_terms(self, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        images = self.batch_images(batch)
        content_maps, style_grams = self._select_maps(self.network(images))
        targets = self.cached_targets(batch)
        errors = [relative_error(*pair).mean() for pair in zip(content_maps + style_grams, targets, strict=True)]
        content = torch.stack(errors[: len(content_maps)]).mean()
        style = torch.stack(errors[len(content_maps) :]).mean()
        variation = total_variation(images).mean()
        loss = self.content_weight * content + self.style_weight * style + self.tv_weight * variation
        return {"loss": loss, "content": content, "style": style, "total_variation": variation}

    def _select_maps(self, maps: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Feature maps that represent the content, and Gram matrices of those that represent the style."""
        content = self.content_maps or (len(maps),)
        style = self.style_maps or range(1, len(maps) + 1)
        return [maps[k - 1] for k in content], [gram_matrix(maps[k - 1]) for k in style]
