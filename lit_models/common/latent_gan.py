"""What adversarial models share whose generators make images out of codes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor, nn

from lit_models.common.adversarial import Adversarial, Recipe
from lit_models.common.capabilities import LatentBlock
from lit_models.common.checkpoints import CheckpointError
from lit_models.common.module import GenerativeModule
from lit_models.common.objectives import Objective
from lit_models.common.priors import Law
from lit_models.losses.classification import class_of


class LatentGAN(Adversarial):
    """A generator of images out of codes that a prior draws: `class GAN(LatentGAN, GenerativeModule)`."""

    law: Law
    pack = 1
    taken_layers: "Taken | None" = None

    def assemble(self, generator: nn.Module, critic: nn.Module, law: Law, objective: Objective, recipe: Recipe) -> None:
        """Sets the parts, after `save_hyperparameters`.

        Raises:
            ValueError: they do not go together.
        """
        self.oppose(generator, critic, objective, recipe)
        self.law = law
        # The same in each process from the start, and DDP need not send thousands of codes before every step.
        self._ddp_params_and_buffers_to_ignore = [f"law.{name}" for name, _ in law.named_buffers()]

    def on_fit_start(self) -> None:
        """Says which layers the generator starts with; raises as Adversarial's."""
        super().on_fit_start()
        if self.taken_layers is not None and self.trainer.is_global_zero and self.trainer.ckpt_path is None:
            print(self.taken_layers, flush=True)

    # What is asked of a model that makes images.

    def latent_blocks(self) -> list[LatentBlock]:
        return [LatentBlock("continuous", 0, self.law.dim)]

    def sample_prior(self, n: int) -> Tensor:
        return self.law.sample(n).to(self.dtype)

    def decode(self, codes: Tensor) -> Tensor:
        return self.maker(codes)

    def forward(self, codes: Tensor) -> Tensor:
        return self.decode(codes)

    def backbone(self) -> nn.Module:
        """The discriminator without its last layer.

        Radford et al. 2015, arXiv 1511.06434, section 5.1, pool the maps of all its layers and join them.
        """
        return _Features(self.critic, self.pack)

    def predict_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        return {"features": self.backbone()(batch[0]), "labels": batch[1]}

    # Training.

    def codes_for(self, labels: Tensor) -> Tensor:
        """A draw of the prior for each label, N x d."""
        return self.law.sample(len(labels)).to(self.dtype)

    def discriminator_inputs(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
        labels = class_of(batch[1])
        return batch[0], self.codes_for(labels), labels

    def generator_inputs(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
        labels = class_of(batch[1])
        return self.codes_for(labels), labels

    def judged(self, images: Tensor, labels: Tensor) -> Tensor:
        """The discriminator's logits, N (/ pack)."""
        return self.critic(packed(images, self.pack), labels)

    def discriminator_terms(self, images: Tensor, codes: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Scalars of real images and as many codes; the discriminator minimises the first."""
        real, fake = packed(images, self.pack), packed(self.fakes(codes), self.pack)
        return self.contest(lambda seen: self.critic(seen, labels), real, fake)

    def generator_terms(self, codes: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Scalars of codes; the generator minimises the first."""
        return {"loss_g": self.objective.generator(self.judged(self.generator(codes), labels).float())}

    def check_parts(self, count: int, least: int = 1) -> None:
        super().check_parts(count, max(least, self.pack))


class _Features(nn.Module):
    """A discriminator's features of single images: each fills a pack alone, and is of any class."""

    def __init__(self, critic: Any, pack: int) -> None:
        super().__init__()
        self.critic = critic
        self.pack = pack

    def forward(self, images: Tensor) -> Tensor:
        images = images.repeat(1, self.pack, 1, 1)
        of_any_class = getattr(self.critic, "of_any_class", self.critic.features)
        return of_any_class(images).flatten(1)  # (N, F)


def packed(images: Tensor, pack: int) -> Tensor:
    """`pack` images as the channels of one: N x C x H x W -> (N / pack) x (pack C) x H x W; a rest is left out."""
    if pack == 1:
        return images
    groups = len(images) // pack
    return images[: groups * pack].reshape(groups, pack * images.shape[1], *images.shape[2:])


class Taken(NamedTuple):
    """Layers of a generator whose first weights are those of a checkpoint, and those that are new."""

    checkpoint: str
    taken: list[str]
    left: list[str]

    def __str__(self) -> str:
        new = f"; not {', '.join(self.left)}" if self.left else ""
        return f"the generator starts with {', '.join(self.taken)} of {self.checkpoint}{new}"


def take_layers(network: nn.Module, checkpoint: Path, wanted: Sequence[str] | None) -> Taken:
    """Gives layers of a generator the weights of the layers of the same names and shapes of a checkpoint's decoder.

    Args:
        network: whose direct children are its layers.
        checkpoint: of a model with a `decoder`, such as PoolingAutoencoder.
        wanted: names of the layers; None for all that fit.

    Raises:
        CheckpointError: no such checkpoint, no decoder in it, or a wanted layer, or all of them, does not fit.
    """
    with isolate_rng():  # the rest of the run draws what it would draw without a start
        model = GenerativeModule.load(checkpoint)
    decoder = getattr(model, "decoder", None)
    if not isinstance(decoder, nn.Module):
        raise CheckpointError(f"{checkpoint} holds a {type(model).__name__}, which has no decoder to start from")
    theirs = dict(decoder.named_children())
    ours = {name: layer for name, layer in network.named_children() if layer.state_dict()}
    fit = [name for name, layer in ours.items() if name in theirs and _shapes(layer) == _shapes(theirs[name])]
    for name in wanted if wanted is not None else fit[:0]:
        if name not in fit:
            raise CheckpointError(
                f"{checkpoint} has no layer {name} that fits the generator's; those that do: {', '.join(fit) or 'none'}"
            )
    taken = fit if wanted is None else [name for name in fit if name in wanted]
    if not taken:
        raise CheckpointError(
            f"{checkpoint} has no layer that fits the generator's, {', '.join(ours)};"
            " use --model.generator PoolingGenerator and the latent_dim that it was trained with"
        )
    for name in taken:
        ours[name].load_state_dict(theirs[name].state_dict())
    return Taken(str(checkpoint), taken, [name for name in ours if name not in taken])


def _shapes(layer: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in layer.state_dict().items()}
