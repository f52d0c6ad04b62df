from typing import Any, ClassVar, Literal

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor

from lit_models.common.image_optimization import LBFGS, MARGIN, ImageOptimization, check_smoothness, random_vgg
from lit_models.common.module import ImageShape
from lit_models.common.perceptual import PerceptualFeatures
from lit_models.losses.gram import gram_matrix
from lit_models.losses.relative import relative_error
from lit_models.losses.total_variation import total_variation


class StyleTransfer(ImageOptimization):
    """Style transfer: an image with the content of one picture in the style of another, by descent on the pixels.

    min_x content_weight C(x) + style_weight S(x) + tv_weight TV(x). C, mean_l |F_l(x) - F_l(p)|^2 / |F_l(p)|^2, is over
    the maps that tell the content of the picture p, S, mean_l |G_l(x) - G_l(a)|^2 / |G_l(a)|^2, over the Gram matrices
    of those that tell the style of the picture a. Gatys et al. 2016, CVPR, and 2015, arXiv 1508.06576, eq. 1 to 7,
    there without division by the pictures' own sizes, and without the total variation, which takes off noise.

    Args:
        features: the fixed network; VGG-19 with random weights, up to relu4_1, by default.
        content_maps: which of its maps, counted from 1 in the order of its layers; the last one by default.
        style_maps: the same for the style; all of them by default.
        content_weight, style_weight, tv_weight: of the three terms.
        start: from the content or from noise.
        num_images: N, a picture's in a style each; given by the data when run through train.py.
        image_shape: channels, height, width; given by the data when run through train.py.
        optimizer: makes the optimizer from the parameters.

    Raises:
        ValueError: no image, or a number out of range; from `prepare_fit`, a map that the network does not have.
        CheckpointError: from `prepare_fit`, when the network cannot be had.
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
        start: Literal["content", "noise"] = "content",
        num_images: int = 1,
        image_shape: ImageShape = (3, 128, 128),
        optimizer: OptimizerCallable = lambda params: LBFGS(params, lr=1.0),
    ) -> None:
        super().__init__(optimizer)
        check_smoothness(tv_weight)
        if not min(content_weight, style_weight) >= 0:
            raise ValueError(
                f"content_weight is {content_weight}, style_weight {style_weight}; neither may be negative"
            )
        self.save_hyperparameters()
        self.content_maps = content_maps
        self.style_maps = style_maps
        self.content_weight = content_weight
        self.style_weight = style_weight
        self.tv_weight = tv_weight
        self.start = start
        self.hold(features or random_vgg("relu1_1", "relu2_1", "relu3_1", "relu4_1"), num_images, image_shape)

    def prepare_fit(self) -> None:
        super().prepare_fit()
        count = len(self.network(torch.zeros_like(self.logits[:1])))
        for name, chosen in (("content_maps", self.content_maps), ("style_maps", self.style_maps)):
            if chosen is not None and (not chosen or not set(chosen) <= set(range(1, count + 1))):
                raise ValueError(f"{name} is {list(chosen)}; the features have maps 1 to {count}, and one is needed")

    def setup(self, stage: str) -> None:
        """Starts from the content; a checkpoint that is gone on from is read after this."""
        if stage == "fit" and self.start == "content":
            data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
            content, _ = data.examples("train", len(self.logits))
            with torch.no_grad():
                self.logits.copy_(content.logit(MARGIN))

    def targets(self, batch: tuple[Tensor, ...]) -> list[Tensor]:
        """The content's maps and the style's Gram matrices."""
        content, style = batch
        of_content, _ = self._parts(self.network(content))
        _, of_style = self._parts(self.network(style))
        return of_content + of_style

    def loss_terms(self, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        images = self.own(batch)
        of_content, of_style = self._parts(self.network(images))
        wanted = self.wanted(batch)
        errors = [relative_error(*pair).mean() for pair in zip(of_content + of_style, wanted, strict=True)]
        content = torch.stack(errors[: len(of_content)]).mean()
        style = torch.stack(errors[len(of_content) :]).mean()
        variation = total_variation(images).mean()
        loss = self.content_weight * content + self.style_weight * style + self.tv_weight * variation
        return {"loss": loss, "content": content, "style": style, "total_variation": variation}

    def _parts(self, maps: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """The maps of the content, and the Gram matrices of the style."""
        content = self.content_maps or (len(maps),)
        style = self.style_maps or range(1, len(maps) + 1)
        return [maps[k - 1] for k in content], [gram_matrix(maps[k - 1]) for k in style]
