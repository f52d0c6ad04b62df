"""What adversarial models share whose generator makes images out of images, one way."""

from typing import Any

import torch
from torch import Tensor

from lit_models.common.adversarial import Adversarial


class ImageToImageGAN(Adversarial):
    """A generator of images out of images: `class Pix2Pix(ImageToImageGAN, GenerativeModule)`. A batch is (source, target).

    The generator minimises its objective times `adversarial_weight`, and `penalties`. Logs, besides the adversarial
    models' terms, `adversarial` and each penalty without its weight.
    """

    directions = ("ab",)
    adversarial_weight: float = 1.0

    def translate(self, images: Tensor, direction: str = "ab") -> Tensor:
        return self.maker(self.prepared(images.to(self.dtype))).float().clamp(0, 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.translate(images)

    def prepared(self, source: Tensor) -> Tensor:
        """What the generator takes for these images."""
        return source

    def shown(self, source: Tensor, target: Tensor) -> Tensor:
        """What the discriminator sees of a target, or of what was made in its place, of this (prepared) source."""
        return target

    def penalties(self, source: Tensor, target: Tensor, made: Tensor) -> dict[str, tuple[float, Tensor]]:
        """Weight and value of each further term of the generator's loss."""
        return {}

    # Training.

    def discriminator_inputs(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
        return self.prepared(batch[0]), batch[1]

    def generator_inputs(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
        return self.prepared(batch[0]), batch[1]

    def discriminator_terms(self, source: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Scalars of (prepared) sources and targets, N x C x H x W each; the discriminator minimises the first."""
        real, fake = self.shown(source, target), self.shown(source, self.fakes(source))
        return self.contest(self.critic, real, fake)

    def generator_terms(self, source: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Scalars of (prepared) sources and targets, N x C x H x W each; the generator minimises the first."""
        made = self.generator(source)
        adversarial = self.objective.generator(self.critic(self.shown(source, made)).float())
        loss, terms = self.adversarial_weight * adversarial, {"adversarial": adversarial}
        for name, (weight, value) in self.penalties(source, target, made.float()).items():
            loss, terms[name] = loss + weight * value, value
        return {"loss_g": loss, **terms}

    def predict_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        return {"images": (self.translate(batch[0]) * 255).round().to(torch.uint8)}
