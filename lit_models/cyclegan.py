from functools import partial
from typing import Any, Literal, get_args

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn

from lit_models.common.adversarial import AdversarialBase, AdversarialRecipe, DCGANAdam
from lit_models.common.adversarial_recipe import check_not_negative
from lit_models.common.discriminators import Discriminator, PatchDiscriminator
from lit_models.common.image_pool import ImagePool
from lit_models.common.manual_optimization import frozen_statistics
from lit_models.common.module import ImageShape
from lit_models.common.objectives import LeastSquares, Objective
from lit_models.common.processes import all_gather_objects
from lit_models.common.translators import ResNetTranslator, Translator

StepOrder = Literal["joint", "alternating"]
POOLS_KEY = "image_pools"
"""Key of the image pools in a checkpoint."""


class CycleGAN(AdversarialBase):
    """Two generators that translate between two domains of images, a and b, learned without pairs.

    Zhu et al. 2017, arXiv 1703.10593: the generators G: a -> b and F: b -> a minimise the adversarial losses of both,
    plus cycle_weight (E|F(G(a)) - a| + E|G(F(b)) - b|) (eq. 2), plus identity_weight (E|G(b) - b| + E|F(a) - a|)
    (section 5.2). Each |.| is a mean over pixels. The discriminators see some translations of earlier steps.

    With the step order `joint`, the usual one, a batch has one step of both generators, then one of both discriminators
    on the same translations. With `alternating`, for each direction the discriminator takes a step and then the
    generator, each on new translations.

    The terms of every adversarial model are logged as sums of losses and means of scores over both directions. Besides,
    `adversarial`, `cycle_l1` and, if it has a weight, `identity_l1` are logged without their weights.

    Args:
        generator: Network of each generator; ResNetTranslator, smaller than the paper's, by default.
        discriminator: Network of each discriminator; PatchDiscriminator by default.
        objective: Losses of discriminators and generators; LeastSquares by default, as in the paper.
        cycle_weight: Weight of the cycle-consistency loss.
        identity_weight: Weight of the identity loss, the change that a generator makes to images of its target domain.
            The paper takes half the cycle_weight if colours should be kept. It needs domains of as many channels.
        step_order: `joint`: one step of both generators, then one of both discriminators. `alternating`: for each
            direction one step of its discriminator, then one of its generator.
        pool_size: Number of earlier translations that are stored for each discriminator; 0 for none. Of a batch larger
            than the pool, fewer than half the images are exchanged.
        recipe: Settings of adversarial training. n_critic must be 1.
        source_shape: Channels, height, width of a; train.py sets it from the data.
        image_shape: Channels, height, width of b; train.py sets it from the data.
        optimizer: Function that makes each optimizer from its parameters.

    Raises:
        ValueError: a number is out of range, there is no such step order, the domains have different sizes, or the
            arguments do not fit together.

    Examples:
        >>> import torch
        >>> model = CycleGAN(source_shape=(3, 28, 28), image_shape=(3, 28, 28))
        >>> model.translate(torch.rand(4, 3, 28, 28), "ba").shape
        torch.Size([4, 3, 28, 28])
    """

    directions = ("ab", "ba")

    def __init__(
        self,
        generator: Translator | None = None,
        discriminator: Discriminator | None = None,
        objective: Objective | None = None,
        cycle_weight: float = 10.0,
        identity_weight: float = 0.0,
        step_order: StepOrder = "joint",
        pool_size: int = 50,
        recipe: AdversarialRecipe = AdversarialRecipe(),
        source_shape: ImageShape = (3, 28, 28),
        image_shape: ImageShape = (3, 28, 28),
        optimizer: OptimizerCallable = lambda params: DCGANAdam(params, lr=2e-4),
    ) -> None:
        super().__init__(optimizer)
        check_not_negative(cycle_weight=cycle_weight, identity_weight=identity_weight)
        if step_order not in get_args(StepOrder):
            raise ValueError(f"step_order is {step_order}; it must be one of {', '.join(get_args(StepOrder))}")
        if recipe.n_critic != 1:
            raise ValueError(f"n_critic is {recipe.n_critic}; CycleGAN needs 1, as step_order sets its steps")
        if tuple(source_shape[1:]) != tuple(image_shape[1:]):
            raise ValueError(
                f"CycleGAN translates between images of one size, not {source_shape} and {image_shape}; use --model"
                " SRGAN to enlarge images, or other data"
            )
        if identity_weight and source_shape[0] != image_shape[0]:
            raise ValueError("identity_weight must be 0 between images of different numbers of channels")
        self.save_hyperparameters()
        self.cycle_weight = cycle_weight
        self.identity_weight = identity_weight
        self.step_order = step_order
        self.pools = {"a": ImagePool(pool_size), "b": ImagePool(pool_size)}
        translator, discriminator = generator or ResNetTranslator(), discriminator or PatchDiscriminator()
        a, b = source_shape, image_shape
        self.setup_networks(
            nn.ModuleDict({"ab": translator.build(a, b[0]), "ba": translator.build(b, a[0])}),
            nn.ModuleDict({"a": discriminator.build(a), "b": discriminator.build(b)}),
            objective or LeastSquares(),
            recipe,
        )

    def make_optimizers(self) -> list[torch.optim.Optimizer]:
        if self.step_order == "joint":
            return super().make_optimizers()
        optimizers = []
        for direction in self.directions:
            discriminator = self.discriminator[direction[1]]  # type: ignore[index]
            optimizers.append(self.discriminator_optimizer(discriminator))
            optimizers.append(self.make_optimizer(self.generator[direction].parameters()))  # type: ignore[index]
        return optimizers

    def translate(self, images: Tensor, direction: str = "ab") -> Tensor:
        generator = self.sampling_generator[direction]  # type: ignore[index]
        return generator(images.to(self.dtype)).float().clamp(0, 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.translate(images)

    def predict_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Translations of images of both domains, as bytes."""
        made = {way: self.translate(images, way) for way, images in zip(self.directions, batch, strict=True)}
        return {f"images_{way}": (images * 255).round().to(torch.uint8) for way, images in made.items()}

    # Training.

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        self.check_batch_size(len(batch[0]))
        terms = self._joint_steps(*batch) if self.step_order == "joint" else self._alternating_steps(*batch)
        self.log_terms("train", terms, len(batch[0]))
        return terms

    def _joint_steps(self, a: Tensor, b: Tensor) -> dict[str, Tensor]:
        optimizers: Any = self.optimizers()
        generated: dict[str, list[Tensor]] = {"ab": [], "ba": []}
        with frozen_statistics(self.discriminator):
            terms = self.take_step("g", optimizers[1], partial(self.generator_terms, generated=generated), a, b)
        fake_b, fake_a = (self._from_pool(way, torch.cat(generated[way])) for way in self.directions)
        terms |= self.take_step("d", optimizers[0], self.discriminator_terms, a, b, fake_a, fake_b)
        self.update_ema_generator(2)
        return terms

    def _alternating_steps(self, a: Tensor, b: Tensor) -> dict[str, Tensor]:
        optimizers: Any = self.optimizers()
        terms_of_directions = []
        for number, (direction, source, real) in enumerate((("ab", a, b), ("ba", b, a))):
            fake = self._from_pool(direction, self._translations(direction, source))
            discriminator_terms = partial(self.discriminator_loss, self.discriminator[direction[1]])  # type: ignore[index]
            terms = self.take_step("d", optimizers[2 * number], discriminator_terms, real, fake)
            generator_terms = partial(self.generator_terms, directions=(direction,))
            other_generator = self.generator[direction[::-1]]  # type: ignore[index]
            with frozen_statistics(self.discriminator), frozen_statistics(other_generator):
                terms |= self.take_step("g", optimizers[2 * number + 1], generator_terms, a, b)
            terms_of_directions.append(terms)
        self.update_ema_generator(4)
        return _combine(*terms_of_directions)

    def generator_terms(
        self,
        a: Tensor,
        b: Tensor,
        generated: dict[str, list[Tensor]] | None = None,
        directions: tuple[str, ...] = ("ab", "ba"),
    ) -> dict[str, Tensor]:
        """Named scalars of images of both domains; the generators minimise the first.

        Args:
            a: Images of the first domain.
            b: Images of the second domain.
            generated: Lists by direction, to which the translations are appended.
            directions: Directions that have an adversarial loss.
        """
        translations = {"ab": self.generator["ab"](a), "ba": self.generator["ba"](b)}  # type: ignore[index]
        if generated is not None:
            for direction, fake in translations.items():
                generated[direction].append(fake.detach())
        real = {"ab": b, "ba": a}
        losses = [self._adversarial_loss(way, translations[way], real[way]) for way in directions]
        adversarial = torch.stack(losses).sum()
        return self._with_consistency_losses(adversarial, a, b, translations["ba"], translations["ab"])

    def discriminator_terms(self, a: Tensor, b: Tensor, fake_a: Tensor, fake_b: Tensor) -> dict[str, Tensor]:
        """Named scalars of real and translated images of both domains; both discriminators minimise the first."""
        of_b = self.discriminator_loss(self.discriminator["b"], b, fake_b)  # type: ignore[index]
        return _combine(of_b, self.discriminator_loss(self.discriminator["a"], a, fake_a))  # type: ignore[index]

    def _adversarial_loss(self, direction: str, fake: Tensor, real: Tensor) -> Tensor:
        discriminator = self.discriminator[direction[1]]  # type: ignore[index]
        return self.generator_loss(discriminator(fake), discriminator, real)

    def _with_consistency_losses(
        self, adversarial: Tensor, a: Tensor, b: Tensor, fake_a: Tensor, fake_b: Tensor
    ) -> dict[str, Tensor]:
        """The generators' terms, with the cycle-consistency and identity losses."""
        loss, terms = adversarial, {"adversarial": adversarial}
        if self.cycle_weight:
            back_a, back_b = self.generator["ba"](fake_b), self.generator["ab"](fake_a)  # type: ignore[index]
            terms["cycle_l1"] = _l1(back_a, a) + _l1(back_b, b)
            loss = loss + self.cycle_weight * terms["cycle_l1"]
        if self.identity_weight:
            same_a, same_b = self.generator["ba"](a), self.generator["ab"](b)  # type: ignore[index]
            terms["identity_l1"] = _l1(same_a, a) + _l1(same_b, b)
            loss = loss + self.identity_weight * terms["identity_l1"]
        return {"loss_g": loss, **terms}

    @torch.no_grad()
    def _translations(self, direction: str, source: Tensor) -> Tensor:
        generator = self.generator[direction]  # type: ignore[index]
        with frozen_statistics(generator):
            return torch.cat([generator(part) for part in source.chunk(self.recipe.accumulate_grad_batches)])

    def _from_pool(self, direction: str, fake: Tensor) -> Tensor:
        """The images that the discriminator sees: some of the newest translations are exchanged for earlier ones."""
        return self.pools[direction[1]](fake)

    # The pools are part of the training's state, not of the model.

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        if "optimizer_states" in checkpoint:
            checkpoint[POOLS_KEY] = all_gather_objects({domain: pool.state() for domain, pool in self.pools.items()})

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        stored = checkpoint.get(POOLS_KEY, [])
        if self._trainer is not None and len(stored) == self.trainer.world_size:
            for domain, images in stored[self.trainer.global_rank].items():
                self.pools[domain].restore(images)


def _l1(images: Tensor, references: Tensor) -> Tensor:
    return (images.float() - references.float()).abs().mean()


def _combine(one: dict[str, Tensor], other: dict[str, Tensor]) -> dict[str, Tensor]:
    """The terms of both directions: sums of losses, means of all others. A term that one of them lacks, as after a
    skipped step, is left out."""
    return {
        name: one[name] + other[name] if name in ("loss_d", "loss_g", "adversarial") else (one[name] + other[name]) / 2
        for name in one
        if name in other
    }
