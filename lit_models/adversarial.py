"""What models of a generator against a discriminator share."""

import copy
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.distributed as dist
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from lit_models.base import CheckpointError, GenerativeModule, LatentPart
from lit_models.descent import Terms, descend, keeping_statistics
from lit_models.losses.adversarial import Objective, gradient_penalty
from lit_models.losses.classification import class_of
from lit_models.networks.minibatch_std import MinibatchStd
from lit_models.priors import Law

if TYPE_CHECKING:
    Base = GenerativeModule
else:
    Base = object  # it stands before GenerativeModule among a model's bases


class DCGANAdam(torch.optim.Adam):
    """Adam with the rates of Radford et al. 2015, arXiv 1511.06434, section 4: a short memory of the gradient."""

    def __init__(
        self,
        params: Any,
        lr: float = 2e-4,
        betas: tuple[float, float] = (0.5, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)


class Recipe(NamedTuple):
    """How two networks are trained against each other.

    Args:
        n_critic: the discriminator's steps, each on images of its own, for one of the generator's.
        ema_decay: of the moving average of the generator's weights, which makes the images; 0 for none.
        clip: the largest norm of each network's gradient; None for any.
        micro_batches: parts that a batch is cut into, one after the other, so that a larger one fits into memory.
        discriminator_lr_factor: the discriminator's learning rate in units of the generator's.
    """

    n_critic: int
    ema_decay: float
    clip: float | None
    micro_batches: int
    discriminator_lr_factor: float

    def check(self) -> "Recipe":
        """The recipe itself.

        Raises:
            ValueError: a number that no training could have.
        """
        if self.n_critic < 1 or self.micro_batches < 1:
            raise ValueError(
                f"n_critic is {self.n_critic} and micro_batches {self.micro_batches}; they must be at least 1"
            )
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay is {self.ema_decay}; it must be at least 0 and below 1")
        if (self.clip is not None and not self.clip > 0) or not self.discriminator_lr_factor > 0:
            raise ValueError(
                f"clip is {self.clip} and discriminator_lr_factor {self.discriminator_lr_factor}; they must be positive"
            )
        return self


class Adversarial(Base):
    """`class GAN(Adversarial, GenerativeModule)`: a discriminator and a generator, a step each for a batch.

    The discriminator's step takes generated images as they are, without a gradient, and leaves the generator as it is,
    batch norms' statistics too; so does the generator's step with the discriminator. Under DDP each process normalises
    its own batch unless `trainer.sync_batchnorm` is on.

    A moving average of the generator's weights (Yazici et al. 2018, arXiv 1806.04498), if there is one, makes the
    images. Lightning's own averaging callback averages the discriminator along, swaps the weights back before the best
    checkpoint is written, and is left out of checkpoints of weights alone: best.ckpt would not hold what was measured.
    """

    monitor = ("val/frechet_classifier", "min")
    generator: nn.Module
    critic: nn.Module
    average: nn.Module | None
    law: Law
    objective: Objective
    recipe: Recipe
    pack = 1
    taken_layers: "Taken | None" = None

    def assemble(self, generator: nn.Module, critic: nn.Module, law: Law, objective: Objective, recipe: Recipe) -> None:
        """Sets the parts, after `save_hyperparameters`.

        Raises:
            ValueError: they do not go together.
        """
        if objective.gradient_penalty and any(isinstance(m, _BatchNorm | MinibatchStd) for m in critic.modules()):
            raise ValueError(
                "a gradient penalty is of each image alone, which batch norm and the minibatch standard deviation mix:"
                " use a discriminator without them, such as --model.discriminator.norm layer"
            )
        self.automatic_optimization = False
        self.generator = generator
        self.critic = critic
        self.law = law
        # The same in each process from the start, and DDP need not send thousands of codes before every step.
        self._ddp_params_and_buffers_to_ignore = [f"law.{name}" for name, _ in law.named_buffers()]
        self.objective = objective
        self.recipe = recipe.check()
        self.average = copy.deepcopy(generator).requires_grad_(False) if recipe.ema_decay else None

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        discriminator = self.make_optimizer(self.critic.parameters())
        for group in discriminator.param_groups:
            group["lr"] *= self.recipe.discriminator_lr_factor
        return [discriminator, self.make_optimizer(self.generator.parameters())]

    def on_fit_start(self) -> None:
        """Says which layers the generator starts with.

        Raises:
            MisconfigurationException: a moving average that would stand still in half precision.
        """
        if self.average is not None and self.dtype in (torch.float16, torch.bfloat16):
            raise MisconfigurationException(
                "a moving average stands still in half precision: use bf16-mixed or 16-mixed"
            )
        if self.taken_layers is not None and self.trainer.is_global_zero and self.trainer.ckpt_path is None:
            print(self.taken_layers, flush=True)

    def on_validation_start(self) -> None:
        """All processes take the first one's statistics, so that what is measured is what its checkpoint holds."""
        if dist.is_available() and dist.is_initialized():
            for network in (self.generator, self.critic, self.average):
                for buffer in network.buffers() if network is not None else ():
                    dist.broadcast(buffer, 0)

    # What is asked of a model that makes images.

    def latent_parts(self) -> list[LatentPart]:
        return [LatentPart("continuous", 0, self.law.dim)]

    def prior_codes(self, n: int) -> Tensor:
        return self.law.sample(n).to(self.dtype)

    def decode(self, codes: Tensor) -> Tensor:
        network = self.generator if self.average is None else self.average
        return network(codes)

    def forward(self, codes: Tensor) -> Tensor:
        return self.decode(codes)

    def backbone(self) -> nn.Module:
        """The discriminator without its last layer.

        Radford et al. 2015, arXiv 1511.06434, section 5.1, pool the maps of all its layers and join them.
        """
        return _Features(self.critic, self.pack)

    # Training.

    def codes_for(self, labels: Tensor) -> Tensor:
        """A draw of the prior for each label, N x d."""
        return self.law.sample(len(labels)).to(self.dtype)

    def judged(self, images: Tensor, labels: Tensor) -> Tensor:
        """The discriminator's logits, N (/ pack)."""
        return self.critic(packed(images, self.pack), labels)

    def discriminator_terms(self, images: Tensor, codes: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Scalars of real images and as many codes; the discriminator minimises the first."""
        fake = self.fakes(codes)
        on_real, on_fake = self.judged(images, labels).float(), self.judged(fake, labels).float()
        terms = {"loss_d": self.objective.discriminator(on_real, on_fake), **self.scores(on_real, on_fake)}
        real, generated = packed(images, self.pack), packed(fake, self.pack)
        return self.penalised(terms, lambda between: self.critic(between, labels), real, generated)

    def generator_terms(self, codes: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Scalars of codes; the generator minimises the first."""
        return {"loss_g": self.objective.generator(self.judged(self.generator(codes), labels).float())}

    @torch.no_grad()
    def fakes(self, codes: Tensor) -> Tensor:
        """Images for the discriminator's step, without a gradient."""
        with keeping_statistics(self.generator):
            return self.generator(codes)

    def scores(self, on_real: Tensor, on_fake: Tensor) -> dict[str, Tensor]:
        return {"d_real": self.objective.score(on_real).mean(), "d_fake": self.objective.score(on_fake).mean()}

    def penalised(
        self, terms: dict[str, Tensor], critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor
    ) -> dict[str, Tensor]:
        """The discriminator's terms with the objective's gradient penalty, if it has one."""
        weight = self.objective.gradient_penalty
        if not weight:
            return terms
        penalty = gradient_penalty(critic, real, fake)
        return terms | {"loss_d": terms["loss_d"] + weight * penalty, "gradient_penalty": penalty}

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        images, labels = batch[0], class_of(batch[1])
        self._check_parts(len(images))
        optimizers: Any = self.optimizers()
        terms = self._step("d", optimizers[0], self.discriminator_terms, images, self.codes_for(labels), labels)
        if (self.trainer.fit_loop.epoch_loop.total_batch_idx + 1) % self.recipe.n_critic == 0:
            with keeping_statistics(self.critic):
                terms |= self._step("g", optimizers[1], self.generator_terms, self.codes_for(labels), labels)
            self._follow()
        self.log_terms("train", terms, len(images))
        return terms

    def _check_parts(self, count: int) -> None:
        size, rest = divmod(count, self.recipe.micro_batches)
        if rest or size < self.pack:
            raise MisconfigurationException(
                f"a batch of {count} cannot be cut into {self.recipe.micro_batches} equal parts of at least {self.pack}"
                " images; change data.batch_size, model.micro_batches or model.pack"
            )

    def _step(
        self, name: str, optimizer: LightningOptimizer, terms_of: Callable[..., Terms], *whole: Tensor
    ) -> dict[str, Tensor]:
        parts = zip(*(tensor.chunk(self.recipe.micro_batches) for tensor in whole), strict=True)
        losses = [partial(terms_of, *part) for part in parts]
        found = descend(self, optimizer, losses, self.recipe.clip, measure=self.logs_this_step())
        return {f"grad_norm_{name}" if term == "grad_norm" else term: value for term, value in found.items()}

    @torch.no_grad()
    def _follow(self) -> None:
        """Moves the average towards the generator, faster in the first steps, and gives it the same statistics."""
        if self.average is None:
            return
        step = self.trainer.global_step // (self.recipe.n_critic + 1)
        decay = min(self.recipe.ema_decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.average.parameters()), list(self.generator.parameters()), 1 - decay)
        for average, current in zip(self.average.buffers(), self.generator.buffers(), strict=True):
            average.copy_(current)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Nothing: a loss tells neither how good the images are nor which checkpoint is best."""

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Nothing, as in validation."""

    def predict_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        return {"features": self.backbone()(batch[0]), "labels": batch[1]}


class _Features(nn.Module):
    """A discriminator's features of single images: each fills a pack alone, and is of any class."""

    def __init__(self, critic: Any, pack: int) -> None:
        super().__init__()
        self.critic = critic
        self.pack = pack

    def forward(self, images: Tensor) -> Tensor:
        images = images.repeat(1, self.pack, 1, 1)
        of_any_class = getattr(self.critic, "of_any_class", self.critic.features)
        return of_any_class(images)  # (N, F)


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
