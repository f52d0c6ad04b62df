"""Base of adversarial models that generate images from latent codes."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor, nn
from torch.nn import functional as F

from lit_models.common.adversarial import AdversarialBase
from lit_models.common.capabilities import LatentBlock, refuse_label
from lit_models.common.checkpoints import CheckpointError, article
from lit_models.common.module import GenerativeModule
from lit_models.common.prior_distributions import PriorDistribution
from lit_models.common.priors import Prior
from lit_models.losses.classification import class_of
from lit_models.networks.diff_augment import diff_augment


class LatentGAN(AdversarialBase):
    """Base of adversarial models whose generator turns codes, drawn from a prior, into images.

    If the model has labels (`num_classes` is not None), a code is a draw of the prior, N x d, with the one-hot label
    after it, N x (d + K).
    """

    prior: PriorDistribution
    num_classes: int | None = None
    can_augment = True
    pack = 1
    loaded_layers: "LoadedLayers | None" = None

    def setup_prior(self, prior: Prior, latent_dim: int) -> None:
        """Builds the distribution of z. A constructor calls it after `save_hyperparameters`.

        Raises:
            ValueError: the prior cannot be built.
        """
        self.hparams["prior"] = prior  # a checkpoint then records it without its initial weights
        self.prior = prior.build(latent_dim)

    @property
    def _ddp_params_and_buffers_to_ignore(self) -> list[str]:
        """The prior's buffers, which are equal in all processes: DDP need not send thousands of codes at every step."""
        return [f"prior.{name}" for name, _ in self.prior.named_buffers()]

    def on_fit_start(self) -> None:
        """Prints which layers of the generator were loaded from a checkpoint."""
        super().on_fit_start()
        if self.loaded_layers is not None and self.trainer.is_global_zero and self.trainer.ckpt_path is None:
            print(self.loaded_layers, flush=True)

    # Sampling.

    def latent_blocks(self) -> list[LatentBlock]:
        d = self.prior.dim
        blocks = [LatentBlock("continuous", 0, d)]
        if self.num_classes is not None:
            blocks.append(LatentBlock("categorical", d, d + self.num_classes, self.num_classes))
        return blocks

    def sample_prior(self, n: int) -> Tensor:
        """Codes of n images, N x d, or N x (d + K) with labels drawn uniformly."""
        if self.num_classes is None:
            return self.prior.sample(n).to(self.dtype)
        return self.sample_codes(torch.randint(self.num_classes, (n,), device=self.device))

    def sample_codes(self, labels: Tensor) -> Tensor:
        """A code for each label, N x d, or N x (d + K) if the model has labels."""
        z = self.prior.sample(len(labels)).to(self.dtype)
        if self.num_classes is None:
            return z
        return torch.cat([z, F.one_hot(labels, self.num_classes).to(self.dtype)], dim=1)

    def decode(self, codes: Tensor) -> Tensor:
        return self.sampling_generator(codes)

    def forward(self, codes: Tensor) -> Tensor:
        return self.decode(codes)

    def sample(self, n: int, label: int | None = None) -> Tensor:
        """n images, N x C x H x W: of one class, or of uniformly drawn classes if the model has labels.

        Raises:
            ValueError: the model has no such class, or no labels.
        """
        if label is None:
            return self.decode(self.sample_prior(n))
        if self.num_classes is None:
            refuse_label(self, label)
        elif not 0 <= label < self.num_classes:
            raise ValueError(f"there is no class {label}; they are 0 to {self.num_classes - 1}")
        return self.decode(self.sample_codes(torch.full((n,), label, device=self.device)))

    def backbone(self) -> nn.Module:
        """The discriminator without its last layer.

        Radford et al. 2015, arXiv 1511.06434, section 5.1, pool and concatenate the maps of all its layers instead.
        """
        return _DiscriminatorBackbone(self.discriminator, self.pack)

    def predict_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        return {"features": self.backbone()(batch[0]), "labels": batch[1]}

    # Training.

    def discriminator_step_inputs(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
        labels = class_of(batch[1])
        return batch[0], self.sample_codes(labels), labels

    def generator_step_inputs(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
        labels = class_of(batch[1])
        codes = self.sample_codes(labels)
        return (codes, labels, batch[0]) if self.objective.needs_real else (codes, labels)

    def discriminator_logits(self, images: Tensor, labels: Tensor) -> Tensor:
        """The discriminator's logits in training, N (/ pack)."""
        return self.discriminator(self.discriminator_input(images), labels)

    def discriminator_input(self, images: Tensor) -> Tensor:
        """Images as the discriminator sees them in training: augmented, then packed."""
        return pack_images(diff_augment(images, self.recipe.augment), self.pack)

    def discriminator_terms(self, images: Tensor, codes: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Named scalars of real images and as many codes; the discriminator minimises the first."""
        real, fake = self.discriminator_input(images), self.discriminator_input(self.generate(codes))
        return self.discriminator_loss(lambda packs: self.discriminator(packs, labels), real, fake)

    def generator_terms(self, codes: Tensor, labels: Tensor, images: Tensor | None = None) -> dict[str, Tensor]:
        """Named scalars of codes, and of real images if the objective needs them; the generator minimises the first."""
        discriminator = partial(self.discriminator_logits, labels=labels)
        return {"loss_g": self.generator_loss(discriminator(self.generator(codes)), discriminator, images)}

    def check_batch_size(self, batch_size: int, min_part_size: int = 1) -> None:
        super().check_batch_size(batch_size, max(min_part_size, self.pack))


class _DiscriminatorBackbone(nn.Module):
    """A discriminator's features of single images: each image fills a pack alone, and has no class."""

    def __init__(self, discriminator: Any, pack: int) -> None:
        super().__init__()
        self.discriminator = discriminator
        self.pack = pack

    def forward(self, images: Tensor) -> Tensor:
        images = images.repeat(1, self.pack, 1, 1)
        features = getattr(self.discriminator, "unconditional_features", self.discriminator.features)
        return features(images).flatten(1)  # (N, F)


def pack_images(images: Tensor, pack: int) -> Tensor:
    """`pack` images as channels of one: N x C x H x W -> (N / pack) x (pack C) x H x W; a remainder is left out."""
    if pack == 1:
        return images
    groups = len(images) // pack
    return images[: groups * pack].reshape(groups, pack * images.shape[1], *images.shape[2:])


@dataclass(frozen=True)
class LoadedLayers:
    """Names of a generator's layers that were loaded from a checkpoint, and of those that were not."""

    checkpoint: str
    loaded: list[str]
    new: list[str]

    def __str__(self) -> str:
        new = f"; not {', '.join(self.new)}" if self.new else ""
        return f"the generator starts with {', '.join(self.loaded)} of {self.checkpoint}{new}"


def load_pretrained_layers(network: nn.Module, checkpoint: Path, layers: Sequence[str] | None) -> LoadedLayers:
    """Initialises layers of a generator with the layers of a checkpoint's decoder of the same names and shapes.

    Args:
        network: Generator, whose direct children are its layers.
        checkpoint: Checkpoint of a model with a `decoder`, such as PoolingAutoencoder.
        layers: Names of the layers; None for all that fit.

    Raises:
        CheckpointError: there is no such checkpoint, it has no decoder, or a named layer, or every layer, does not fit.
    """
    with isolate_rng():  # the run's other random draws do not depend on it
        model = GenerativeModule.load(checkpoint)
    decoder = getattr(model, "decoder", None)
    if not isinstance(decoder, nn.Module):
        raise CheckpointError(f"{checkpoint} holds {article(type(model).__name__)}, which has no decoder to start from")
    theirs = dict(decoder.named_children())
    ours = {name: layer for name, layer in network.named_children() if layer.state_dict()}
    fitting = [name for name, layer in ours.items() if name in theirs and _shapes(layer) == _shapes(theirs[name])]
    for name in layers or ():
        if name not in fitting:
            raise CheckpointError(
                f"{checkpoint} has no layer {name} that fits the generator's; those that do:"
                f" {', '.join(fitting) or 'none'}"
            )
    loaded = fitting if layers is None else [name for name in fitting if name in layers]
    if not loaded:
        raise CheckpointError(
            f"{checkpoint} has no layer that fits the generator's, {', '.join(ours)};"
            " use --model.generator PoolingGenerator and the latent_dim that it was trained with"
        )
    for name in loaded:
        ours[name].load_state_dict(theirs[name].state_dict())
    return LoadedLayers(str(checkpoint), loaded, [name for name in ours if name not in loaded])


def _shapes(layer: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in layer.state_dict().items()}
