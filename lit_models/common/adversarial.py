"""Base of models with a generator and a discriminator."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from lightning import Trainer
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from lit_models.common.adversarial_recipe import AdversarialRecipe
from lit_models.common.ema import check_ema_precision, ema_copy, update_ema
from lit_models.common.lr_schedules import has_end, linear_decay, share_done
from lit_models.common.manual_optimization import Terms, frozen_statistics, optimizer_step
from lit_models.common.module import GenerativeModule
from lit_models.common.objectives import Objective
from lit_models.losses.gradient_penalty import gradient_penalty, zero_centred_gradient_penalty
from lit_models.networks.minibatch_std import MinibatchStd


class DCGANAdam(torch.optim.Adam):
    """Adam with the settings of Radford et al. 2015, arXiv 1511.06434, section 4."""

    def __init__(
        self,
        params: Any,
        lr: float = 2e-4,
        betas: tuple[float, float] = (0.5, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)


class AdversarialBase(GenerativeModule):
    """Base of models with a `generator` and a `discriminator`, which are optimised in alternating steps.

    The discriminator's step takes generated images without a gradient and does not change the generator, not even the
    statistics of its batch norms; likewise the generator's step and the discriminator. Under DDP each process
    normalises its own part of the batch unless `trainer.sync_batchnorm` is on.

    If `recipe.ema_decay` is positive, an EMA of the generator's weights (Yazici et al. 2018, arXiv 1806.04498) makes
    the samples. Lightning's callback for weight averaging is not used: it averages the discriminator too, restores the
    current weights before the best checkpoint is written, and is not in checkpoints of weights alone, so that best.ckpt
    would not contain the weights that were evaluated.
    """

    monitor = ("val/frechet_classifier", "min")
    can_augment = False
    """Whether the model augments the images that its discriminator sees."""
    generator: nn.Module
    discriminator: nn.Module
    ema_generator: nn.Module | None
    objective: Objective
    recipe: AdversarialRecipe
    discriminator_step_inputs: Callable[[Any], tuple[Tensor, ...]]
    """Turns a batch into the arguments of `discriminator_terms`, each with as many rows as the batch."""
    generator_step_inputs: Callable[[Any], tuple[Tensor, ...]]
    """Turns a batch into the arguments of `generator_terms`, each with as many rows as the batch."""
    discriminator_terms: Callable[..., dict[str, Tensor]]
    """Named scalars; the discriminator minimises the first, `loss_d`."""
    generator_terms: Callable[..., dict[str, Tensor]]
    """Named scalars; the generator minimises the first, `loss_g`."""

    def setup_networks(
        self, generator: nn.Module, discriminator: nn.Module, objective: Objective, recipe: AdversarialRecipe
    ) -> None:
        """Sets the networks and how they are trained. A constructor calls it after `save_hyperparameters`.

        Raises:
            ValueError: the objective or the recipe does not fit the discriminator or the model.
        """
        if recipe.augment and not self.can_augment:
            raise ValueError(f"recipe.augment is for models that make images from codes, not {type(self).__name__}")
        penalised = objective.gradient_penalty or recipe.r1 or recipe.r2
        if penalised and any(isinstance(m, _BatchNorm | MinibatchStd) for m in discriminator.modules()):
            raise ValueError(
                "a gradient penalty needs a discriminator that treats each image alone, without batch norm and"
                " minibatch standard deviation: use for example --model.discriminator.norm layer"
            )
        self.automatic_optimization = False
        self.generator = generator
        self.discriminator = discriminator
        self.objective = objective
        self.recipe = recipe
        self.ema_generator = ema_copy(generator) if recipe.ema_decay else None

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        if self.recipe.lr_decay_start < 1 and not has_end(self.trainer):
            raise ValueError("model.recipe.lr_decay_start needs an end: give trainer.max_epochs or trainer.max_steps")
        optimizers = self.make_optimizers()
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["initial_lr"] = group["lr"]
        return optimizers

    def make_optimizers(self) -> list[torch.optim.Optimizer]:
        """The optimizers in the order in which `training_step` takes them."""
        return [self.discriminator_optimizer(self.discriminator), self.make_optimizer(self.generator.parameters())]

    def discriminator_optimizer(self, discriminator: nn.Module) -> torch.optim.Optimizer:
        """The optimizer of a discriminator, with its own learning rate."""
        optimizer = self.make_optimizer(discriminator.parameters())
        for group in optimizer.param_groups:
            group["lr"] *= self.recipe.discriminator_lr_factor
        return optimizer

    def check_trainer(self, trainer: Trainer) -> None:
        super().check_trainer(trainer)
        if self.ema_generator is not None:
            check_ema_precision(trainer)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Sets the learning rates, which follow from the share of the training that is done."""
        if self.recipe.lr_decay_start < 1:
            factor = linear_decay(share_done(self.trainer, batch_idx), self.recipe.lr_decay_start)
            for optimizer in self.trainer.optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = factor * group["initial_lr"]

    def on_validation_start(self) -> None:
        """Gives all processes the statistics of the first one, so that the model of its checkpoint is evaluated."""
        if dist.is_available() and dist.is_initialized():
            for network in (self.generator, self.discriminator, self.ema_generator):
                for buffer in network.buffers() if network is not None else ():
                    dist.broadcast(buffer, 0)

    @property
    def sampling_generator(self) -> nn.Module:
        """The network that makes samples: the EMA of the generator if there is one, else the generator."""
        return self.generator if self.ema_generator is None else self.ema_generator

    # Training.

    @torch.no_grad()
    def generate(self, *inputs: Tensor) -> Tensor:
        """Generated images for the discriminator's step: without a gradient and without changing the generator."""
        with frozen_statistics(self.generator):
            return self.generator(*inputs)

    def discriminator_loss(
        self, discriminator: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor
    ) -> dict[str, Tensor]:
        """Named scalars of a discriminator's logits on real and on generated images; it minimises the first."""
        on_real, on_fake = discriminator(real).float(), discriminator(fake).float()
        terms = {"loss_d": self.objective.discriminator(on_real, on_fake), **self.mean_scores(on_real, on_fake)}
        return self.add_gradient_penalty(terms, discriminator, real, fake)

    def mean_scores(self, on_real: Tensor, on_fake: Tensor) -> dict[str, Tensor]:
        """The objective's mean scores of real and of generated images, from their logits."""
        return {"d_real": self.objective.score(on_real).mean(), "d_fake": self.objective.score(on_fake).mean()}

    def add_gradient_penalty(
        self, terms: dict[str, Tensor], discriminator: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor
    ) -> dict[str, Tensor]:
        """The discriminator's terms, with those gradient penalties that the objective and the recipe have."""
        penalties = {
            "gradient_penalty": (self.objective.gradient_penalty, partial(gradient_penalty, discriminator, real, fake)),
            "r1": (self.recipe.r1 / 2, partial(zero_centred_gradient_penalty, discriminator, real)),
            "r2": (self.recipe.r2 / 2, partial(zero_centred_gradient_penalty, discriminator, fake)),
        }
        scale = self.penalty_scale()
        for name, (weight, penalty) in penalties.items():
            if scale * weight:
                terms[name] = penalty()
                terms["loss_d"] = terms["loss_d"] + scale * weight * terms[name]
        return terms

    def penalty_scale(self) -> int:
        """Factor of the gradient penalties: in training, k = `penalty_interval` on every k-th batch of the whole
        training and 0 on the others."""
        interval = self.recipe.penalty_interval
        if self._trainer is None or not self.trainer.training:
            return 1
        return 0 if (self.trainer.fit_loop.epoch_loop.total_batch_idx + 1) % interval else interval

    def generator_loss(self, on_fake: Tensor, discriminator: Callable[[Tensor], Tensor], real: Tensor | None) -> Tensor:
        """The generator's objective, from the discriminator's logits on generated images.

        Args:
            on_fake: Logits on generated images.
            discriminator: Function from real images to logits. It is called only if the objective needs these.
            real: As many real images; they may be None if the objective does not need them.
        """
        if not self.objective.needs_real:
            return self.objective.generator(on_fake.float())
        assert real is not None
        with torch.no_grad():
            on_real = discriminator(real).float()
        return self.objective.generator(on_fake.float(), on_real)

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        self.check_batch_size(len(batch[0]))
        optimizers: Any = self.optimizers()
        terms = self.take_step("d", optimizers[0], self.discriminator_terms, *self.discriminator_step_inputs(batch))
        if self.is_generator_step():
            with frozen_statistics(self.discriminator):
                terms |= self.take_step("g", optimizers[1], self.generator_terms, *self.generator_step_inputs(batch))
            self.update_ema_generator(self.recipe.n_critic + 1)
        self.log_terms("train", terms, len(batch[0]))
        return terms

    def is_generator_step(self) -> bool:
        """Whether the generator takes a step on this batch: on every `n_critic`-th batch of the whole training."""
        return (self.trainer.fit_loop.epoch_loop.total_batch_idx + 1) % self.recipe.n_critic == 0

    def check_batch_size(self, batch_size: int, min_part_size: int = 1) -> None:
        """
        Raises:
            MisconfigurationException: a batch of this size cannot be split into equal parts of at least this size.
        """
        parts = self.recipe.accumulate_grad_batches
        part_size, rest = divmod(batch_size, parts)
        if rest or part_size < min_part_size:
            raise MisconfigurationException(
                f"a batch of size {batch_size} cannot be split evenly: number of parts {parts}, size of a part at least"
                f" {min_part_size};"
                f" change data.batch_size{'' if min_part_size == 1 else ', model.pack'} or"
                " model.recipe.accumulate_grad_batches"
            )

    def take_step(
        self, network: str, optimizer: LightningOptimizer, terms: Callable[..., Terms], *inputs: Tensor
    ) -> dict[str, Tensor]:
        """One optimizer step on the terms of these inputs, in parts. Returns the terms and `grad_norm_<network>`."""
        parts = zip(*(tensor.chunk(self.recipe.accumulate_grad_batches) for tensor in inputs), strict=True)
        losses = [partial(terms, *part) for part in parts]
        clip_val = self.recipe.gradient_clip_val or None
        measured = optimizer_step(self, optimizer, losses, clip_val, measure_norm=self.logs_this_step())
        return {f"grad_norm_{network}" if name == "grad_norm" else name: value for name, value in measured.items()}

    def update_ema_generator(self, steps_per_update: int) -> None:
        """Updates the EMA of the generator's weights, if there is one.

        Args:
            steps_per_update: Number of optimizer steps, of all optimizers together, between two updates.
        """
        if self.ema_generator is not None:
            step = self.trainer.global_step // steps_per_update
            update_ema(self.ema_generator, self.generator, self.recipe.ema_decay, step)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Does nothing: an adversarial loss does not say how good the images are. Callbacks evaluate samples."""

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Does nothing, as `validation_step`."""
