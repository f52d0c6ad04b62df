"""Base of adversarial models that turn images into images, in one direction."""

from typing import Any

import torch
from torch import Tensor

from lit_models.common.adversarial import AdversarialBase


class ImageToImageGAN(AdversarialBase):
    """Base of adversarial models whose generator turns a source image into a target. A batch is (source, target).

    The generator minimises `adversarial_weight` times its objective plus `generator_penalties`. Besides the terms of
    every adversarial model, `adversarial` and each penalty are logged without their weights.
    """

    directions = ("ab",)
    adversarial_weight: float = 1.0

    def translate(self, images: Tensor, direction: str = "ab") -> Tensor:
        return self.sampling_generator(self.generator_input(images.to(self.dtype))).float().clamp(0, 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.translate(images)

    def generator_input(self, source: Tensor) -> Tensor:
        """The generator's input for source images."""
        return source

    def discriminator_input(self, source: Tensor, image: Tensor) -> Tensor:
        """The discriminator's input for a target or generated image, and the generator's input that belongs to it."""
        return image

    def generator_penalties(self, source: Tensor, target: Tensor, generated: Tensor) -> dict[str, tuple[float, Tensor]]:
        """Weight and value of each further term of the generator's loss."""
        return {}

    # Training.

    def discriminator_step_inputs(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
        return self.generator_input(batch[0]), batch[1]

    def generator_step_inputs(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
        return self.generator_input(batch[0]), batch[1]

    def discriminator_terms(self, source: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Named scalars of generator inputs and targets, N x C x H x W each; the discriminator minimises the first."""
        real, fake = (self.discriminator_input(source, image) for image in (target, self.generate(source)))
        return self.discriminator_loss(self.discriminator, real, fake)

    def generator_terms(self, source: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Named scalars of generator inputs and targets, N x C x H x W each; the generator minimises the first."""
        generated = self.generator(source)
        on_fake = self.discriminator(self.discriminator_input(source, generated))
        adversarial = self.generator_loss(
            on_fake, lambda real: self.discriminator(self.discriminator_input(source, real)), target
        )
        loss, terms = self.adversarial_weight * adversarial, {"adversarial": adversarial}
        for name, (weight, value) in self.generator_penalties(source, target, generated.float()).items():
            loss, terms[name] = loss + weight * value, value
        return {"loss_g": loss, **terms}

    def predict_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        """Translations of the sources, as bytes."""
        return {"images": (self.translate(batch[0]) * 255).round().to(torch.uint8)}
