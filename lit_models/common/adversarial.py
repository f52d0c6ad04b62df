"""What models of generators against discriminators share."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.distributed as dist
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from lit_models.common.ema import follow, moving_average, refuse_half
from lit_models.common.manual_optimization import Terms, keeping_statistics, optimizer_step
from lit_models.common.module import GenerativeModule
from lit_models.common.objectives import Objective, gradient_penalty
from lit_models.networks.minibatch_std import MinibatchStd

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


def not_negative(**numbers: float) -> None:
    """
    Raises:
        ValueError: one of them is.
    """
    for name, number in numbers.items():
        if not number >= 0:
            raise ValueError(f"{name} is {number}; it may not be negative")


class Adversarial(Base):
    """Networks that make images, `generator`, against those that tell them from real ones, `critic`.

    The discriminator's step takes generated images as they are, without a gradient, and leaves the generator as it is,
    batch norms' statistics too; so does the generator's step with the discriminator. Under DDP each process normalises
    its own batch unless `trainer.sync_batchnorm` is on.

    A moving average of the generator's weights (Yazici et al. 2018, arXiv 1806.04498), if there is one, makes the
    images. Lightning's own averaging callback averages the discriminator along, swaps the weights back before the best
    checkpoint is written, and is left out of checkpoints of weights alone: best.ckpt would not hold what was measured.

    It stands before GenerativeModule among a model's bases.
    """

    monitor = ("val/frechet_classifier", "min")
    generator: nn.Module
    critic: nn.Module
    average: nn.Module | None
    objective: Objective
    recipe: Recipe
    discriminator_inputs: Callable[[Any], tuple[Tensor, ...]]
    """What `discriminator_terms` takes, each of as many rows as the batch, of which it is made."""
    generator_inputs: Callable[[Any], tuple[Tensor, ...]]
    """The same for `generator_terms`."""
    discriminator_terms: Callable[..., dict[str, Tensor]]
    """Scalars; the discriminator minimises the first, `loss_d`."""
    generator_terms: Callable[..., dict[str, Tensor]]
    """Scalars; the generator minimises the first, `loss_g`."""

    def oppose(self, generator: nn.Module, critic: nn.Module, objective: Objective, recipe: Recipe) -> None:
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
        self.objective = objective
        self.recipe = recipe.check()
        self.average = moving_average(generator) if recipe.ema_decay else None

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        return [self.optimizer_of_critic(self.critic), self.make_optimizer(self.generator.parameters())]

    def optimizer_of_critic(self, critic: nn.Module) -> torch.optim.Optimizer:
        optimizer = self.make_optimizer(critic.parameters())
        for group in optimizer.param_groups:
            group["lr"] *= self.recipe.discriminator_lr_factor
        return optimizer

    def on_fit_start(self) -> None:
        if self.average is not None:
            refuse_half(self)

    def on_validation_start(self) -> None:
        """All processes take the first one's statistics, so that what is measured is what its checkpoint holds."""
        if dist.is_available() and dist.is_initialized():
            for network in (self.generator, self.critic, self.average):
                for buffer in network.buffers() if network is not None else ():
                    dist.broadcast(buffer, 0)

    @property
    def maker(self) -> nn.Module:
        """The network that makes the images that are looked at: the average where there is one."""
        return self.generator if self.average is None else self.average

    # Training.

    @torch.no_grad()
    def fakes(self, *inputs: Tensor) -> Tensor:
        """Images for the discriminator's step, without a gradient."""
        with keeping_statistics(self.generator):
            return self.generator(*inputs)

    def contest(self, critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor) -> dict[str, Tensor]:
        """Scalars of a discriminator's logits on real and on generated images; it minimises the first."""
        on_real, on_fake = critic(real).float(), critic(fake).float()
        terms = {"loss_d": self.objective.discriminator(on_real, on_fake), **self.scores(on_real, on_fake)}
        return self.penalised(terms, critic, real, fake)

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

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        self.check_parts(len(batch[0]))
        optimizers: Any = self.optimizers()
        terms = self.step_of("d", optimizers[0], self.discriminator_terms, *self.discriminator_inputs(batch))
        if self.generators_turn():
            with keeping_statistics(self.critic):
                terms |= self.step_of("g", optimizers[1], self.generator_terms, *self.generator_inputs(batch))
            self.follow(self.recipe.n_critic + 1)
        self.log_terms("train", terms, len(batch[0]))
        return terms

    def generators_turn(self) -> bool:
        """Whether the generator takes a step on this batch, as on each `n_critic`-th one of the whole training."""
        return (self.trainer.fit_loop.epoch_loop.total_batch_idx + 1) % self.recipe.n_critic == 0

    def check_parts(self, count: int, least: int = 1) -> None:
        """
        Raises:
            MisconfigurationException: a batch of so many images cannot be cut into equal parts, or too small ones.
        """
        size, rest = divmod(count, self.recipe.micro_batches)
        if rest or size < least:
            raise MisconfigurationException(
                f"a batch of {count} cannot be cut into {self.recipe.micro_batches} equal parts of at least {least}"
                f" images; change data.batch_size{'' if least == 1 else ', model.pack'} or model.micro_batches"
            )

    def step_of(
        self, name: str, optimizer: LightningOptimizer, terms_of: Callable[..., Terms], *whole: Tensor
    ) -> dict[str, Tensor]:
        """One step on the terms of these inputs, in parts; also tells `grad_norm_<name>`."""
        parts = zip(*(tensor.chunk(self.recipe.micro_batches) for tensor in whole), strict=True)
        losses = [partial(terms_of, *part) for part in parts]
        found = optimizer_step(self, optimizer, losses, self.recipe.clip, measure=self.logs_this_step())
        return {f"grad_norm_{name}" if term == "grad_norm" else term: value for term, value in found.items()}

    def follow(self, steps_a_turn: int) -> None:
        """Moves the average towards the generator.

        Args:
            steps_a_turn: of all optimizers, for one of the generator's.
        """
        if self.average is not None:
            follow(self.average, self.generator, self.recipe.ema_decay, self.trainer.global_step // steps_a_turn)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Nothing: a loss tells neither how good the images are nor which checkpoint is best."""

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Nothing, as in validation."""
