"""Image-to-image models that learn nothing."""

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from datamodules import RecoloredMNISTDataModule
from datamodules.colored_mnist import hue_to_rgb
from genlab.evaluation.sample_scores import FRECHET_MONITOR
from genlab.metrics import foreground_hue, hue_distance
from lit_models import GenerativeModule


class Identity(GenerativeModule):
    """Returns images unchanged."""

    monitor: ClassVar[tuple[str, Literal["min", "max"]] | None] = (FRECHET_MONITOR, "min")
    directions: tuple[str, ...] = ("ab", "ba")

    def __init__(
        self, source_shape: tuple[int, int, int] = (3, 28, 28), image_shape: tuple[int, int, int] = (3, 28, 28)
    ) -> None:
        super().__init__(lambda params: torch.optim.SGD(params, lr=0.0))
        self.save_hyperparameters()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.shapes = source_shape, image_shape
        self.asked: list[tuple[int, str]] = []

    def translate(self, images: Tensor, direction: str = "ab") -> Tensor:
        self.asked.append((len(images), direction))
        return self.paint(images, direction)

    def paint(self, images: Tensor, direction: str) -> Tensor:
        return images

    def loss_terms(self, batch: Any) -> dict[str, Tensor]:
        return {"loss": self.weight.square()}


class OneWay(Identity):
    """Translates in one direction, and predicts translations."""

    directions = ("ab",)

    def predict_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        return {"images": self.translate(batch[0]).mul(255).round().byte()}


class Recolourer(Identity):
    """Translates perfectly between the two colourings of the digits."""

    def paint(self, images: Tensor, direction: str) -> Tensor:
        hues = [torch.tensor(hues) for hues in RecoloredMNISTDataModule.hues if hues is not None]
        was, becomes = hues if direction == "ab" else hues[::-1]
        nearest = hue_distance(foreground_hue(images)[:, None], was).argmin(dim=1)
        return images.amax(dim=1, keepdim=True) * hue_to_rgb(becomes)[nearest][:, :, None, None]


class Black(Identity):
    def paint(self, images: Tensor, direction: str) -> Tensor:
        return torch.zeros_like(images)


class NotFinite(Identity):
    """Returns images of which every third is not finite."""

    def paint(self, images: Tensor, direction: str) -> Tensor:
        images = images.clone()
        images[::3, 0, 5, 5], images[::6, 1, 6, 6] = torch.nan, torch.inf
        return images


class Unprepared(OneWay):
    """Raises an error when a fit is prepared."""

    def prepare_fit(self) -> None:
        raise ValueError(f"there are no weights to go from {self.shapes[0]} to {self.shapes[1]}")
