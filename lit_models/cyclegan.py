from functools import partial
from typing import Any, Literal, get_args

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn

from lit_models.common.adversarial import Adversarial, DCGANAdam, Recipe
from lit_models.common.discriminators import Discriminator, PatchDiscriminator
from lit_models.common.image_pool import ImagePool
from lit_models.common.manual_optimization import keeping_statistics
from lit_models.common.module import GenerativeModule, ImageShape
from lit_models.common.objectives import LeastSquares, Objective
from lit_models.common.processes import of_all_processes
from lit_models.common.translators import ResNetTranslator, Translator
from lit_models.networks.conditional_discriminators import Critic

StepOrder = Literal["joint", "alternating"]
POOLS = "image_pools"


class CycleGAN(Adversarial, GenerativeModule):
    """Two translators between two kinds of images, a and b, learned without a single pair.

    Zhu et al. 2017, arXiv 1703.10593: min over G: a -> b and F: b -> a of the adversarial losses of both, plus
    cycle_weight (E|F(G(a)) - a| + E|G(F(b)) - b|) (eq. 2), plus identity_weight (E|G(b) - b| + E|F(a) - a|) (section
    5.2), each |.| a mean over pixels. The discriminators see images of a pool of earlier translations.

    `joint`, the usual order: a step of both generators together, then one of both discriminators on the same
    translations. `alternating`: for each direction a step of its discriminator, then one of its generator, on
    translations made anew.

    Logs, besides the adversarial models' terms, which are sums of losses and means of scores over both directions:
    `adversarial`, `cycle_l1` and, where it has a weight, `identity_l1`, all without their weights.

    Args:
        generator: of both translators' networks; the paper's, smaller, by default.
        discriminator: of both discriminators'; one of patches by default.
        objective: what each minimises; LeastSquares by default, as in the paper.
        cycle_weight: of the cycle-consistency loss.
        identity_weight: of the loss that asks to leave images alone that are of the wanted kind already; the paper has
            half the cycle_weight where colours are to be kept. It wants images of both kinds to have as many channels.
        step_order: which networks step, and when.
        pool_size: earlier translations that are kept for each discriminator; 0 for none. Of a batch larger than the
            pool fewer than half are exchanged.
        ema_decay: of the moving average of the generators' weights, which makes the images; 0 for none.
        clip: the largest norm of the gradient of each step; None for any.
        micro_batches: parts that a batch is cut into, one after the other, so that a larger one fits into memory.
        discriminator_lr_factor: the discriminators' learning rate in units of the generators'.
        source_shape, image_shape: channels, height, width of a and b; given by the data when run through train.py.
        optimizer: makes all optimizers from the parameters.

    Raises:
        ValueError: a weight or number out of range, no such order, images of two sizes, or parts that do not go
            together.
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
        ema_decay: float = 0.0,
        clip: float | None = None,
        micro_batches: int = 1,
        discriminator_lr_factor: float = 1.0,
        source_shape: ImageShape = (3, 28, 28),
        image_shape: ImageShape = (3, 28, 28),
        optimizer: OptimizerCallable = lambda params: DCGANAdam(params, lr=2e-4),
    ) -> None:
        super().__init__(optimizer)
        if not cycle_weight >= 0 or not identity_weight >= 0:
            raise ValueError(
                f"cycle_weight is {cycle_weight} and identity_weight {identity_weight}; neither may be negative"
            )
        if step_order not in get_args(StepOrder):
            raise ValueError(f"step_order is {step_order}; it is one of {', '.join(get_args(StepOrder))}")
        if tuple(source_shape[1:]) != tuple(image_shape[1:]):
            raise ValueError(
                f"CycleGAN goes between images of one size, not {source_shape} and {image_shape}; use --model SRGAN to"
                " enlarge, or other data"
            )
        if identity_weight and source_shape[0] != image_shape[0]:
            raise ValueError("identity_weight must be 0 between images of different numbers of channels")
        self.save_hyperparameters()
        self.cycle_weight = cycle_weight
        self.identity_weight = identity_weight
        self.step_order = step_order
        self.pools = {"a": ImagePool(pool_size), "b": ImagePool(pool_size)}
        translator, judge = generator or ResNetTranslator(), discriminator or PatchDiscriminator()
        translator.check(source_shape)
        a, b = source_shape, image_shape
        self.oppose(
            nn.ModuleDict({"ab": translator.network(a[0], b[0]), "ba": translator.network(b[0], a[0])}),
            nn.ModuleDict({"a": _critic(judge, a), "b": _critic(judge, b)}),
            objective or LeastSquares(),
            Recipe(1, ema_decay, clip, micro_batches, discriminator_lr_factor),
        )

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        if self.step_order == "joint":
            return super().configure_optimizers()
        optimizers = []
        for direction in self.directions:
            optimizers.append(self.optimizer_of_critic(self.critic[direction[1]]))  # type: ignore[index]
            optimizers.append(self.make_optimizer(self.generator[direction].parameters()))  # type: ignore[index]
        return optimizers

    def translate(self, images: Tensor, direction: str = "ab") -> Tensor:
        return self.maker[direction](images.to(self.dtype)).float().clamp(0, 1)  # type: ignore[index]

    def forward(self, images: Tensor) -> Tensor:
        return self.translate(images)

    def predict_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Translations of sources and of targets, as bytes."""
        made = {way: self.translate(images, way) for way, images in zip(self.directions, batch, strict=True)}
        return {f"images_{way}": (images * 255).round().to(torch.uint8) for way, images in made.items()}

    # Training.

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        self.check_parts(len(batch[0]))
        terms = self._joint(*batch) if self.step_order == "joint" else self._alternating(*batch)
        self.log_terms("train", terms, len(batch[0]))
        return terms

    def _joint(self, a: Tensor, b: Tensor) -> dict[str, Tensor]:
        optimizers: Any = self.optimizers()
        made: dict[str, list[Tensor]] = {"ab": [], "ba": []}
        with keeping_statistics(self.critic):
            terms = self.step_of("g", optimizers[1], partial(self.generator_terms, made=made), a, b)
        fake_b, fake_a = (self._seen(direction, torch.cat(made[direction])) for direction in self.directions)
        terms |= self.step_of("d", optimizers[0], self.discriminator_terms, a, b, fake_a, fake_b)
        self.follow(2)
        return terms

    def _alternating(self, a: Tensor, b: Tensor) -> dict[str, Tensor]:
        optimizers: Any = self.optimizers()
        found = []
        for number, (direction, source, real) in enumerate((("ab", a, b), ("ba", b, a))):
            fake = self._seen(direction, self._translations(direction, source))
            contest = partial(self.contest, self.critic[direction[1]])  # type: ignore[index]
            terms = self.step_of("d", optimizers[2 * number], contest, real, fake)
            towards = partial(self.generator_terms, directions=(direction,))
            other = self.generator[direction[::-1]]  # type: ignore[index]
            with keeping_statistics(self.critic), keeping_statistics(other):
                terms |= self.step_of("g", optimizers[2 * number + 1], towards, a, b)
            found.append(terms)
        self.follow(4)
        return _joined(*found)

    def generator_terms(
        self,
        a: Tensor,
        b: Tensor,
        made: dict[str, list[Tensor]] | None = None,
        directions: tuple[str, ...] = ("ab", "ba"),
    ) -> dict[str, Tensor]:
        """Scalars of images of both kinds; the generators minimise the first.

        Args:
            made: takes the translations by their directions.
            directions: of which the adversarial loss is.
        """
        fakes = {"ab": self.generator["ab"](a), "ba": self.generator["ba"](b)}  # type: ignore[index]
        if made is not None:
            for direction, fake in fakes.items():
                made[direction].append(fake.detach())
        adversarial = torch.stack([self._fooling(direction, fakes[direction]) for direction in directions]).sum()
        return self._with_consistency(adversarial, a, b, fakes["ba"], fakes["ab"])

    def discriminator_terms(self, a: Tensor, b: Tensor, fake_a: Tensor, fake_b: Tensor) -> dict[str, Tensor]:
        """Scalars of real and translated images of both kinds; both discriminators minimise the first."""
        of_b = self.contest(self.critic["b"], b, fake_b)  # type: ignore[index]
        return _joined(of_b, self.contest(self.critic["a"], a, fake_a))  # type: ignore[index]

    def _fooling(self, direction: str, fake: Tensor) -> Tensor:
        return self.objective.generator(self.critic[direction[1]](fake).float())  # type: ignore[index]

    def _with_consistency(
        self, adversarial: Tensor, a: Tensor, b: Tensor, fake_a: Tensor, fake_b: Tensor
    ) -> dict[str, Tensor]:
        """The generators' terms with the losses that need no discriminator."""
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
        network = self.generator[direction]  # type: ignore[index]
        with keeping_statistics(network):
            return torch.cat([network(part) for part in source.chunk(self.recipe.micro_batches)])

    def _seen(self, direction: str, fake: Tensor) -> Tensor:
        """What the discriminator sees in the place of the newest translations."""
        return self.pools[direction[1]](fake)

    # The pools are part of the training's state, not of the model.

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        if "optimizer_states" in checkpoint:
            checkpoint[POOLS] = of_all_processes({kind: pool.state() for kind, pool in self.pools.items()})

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        kept = checkpoint.get(POOLS, [])
        if self._trainer is not None and len(kept) == self.trainer.world_size:
            for kind, images in kept[self.trainer.global_rank].items():
                self.pools[kind].restore(images)


def _critic(discriminator: Discriminator, image_shape: ImageShape) -> nn.Module:
    features = discriminator.network(image_shape)
    return Critic(features, discriminator.head(features.out_dim, 1))


def _l1(images: Tensor, references: Tensor) -> Tensor:
    return (images.float() - references.float()).abs().mean()


def _joined(one: dict[str, Tensor], other: dict[str, Tensor]) -> dict[str, Tensor]:
    """The terms that both directions have, as a skipped step lacks some: losses are added, all others are means."""
    return {
        name: one[name] + other[name] if name in ("loss_d", "loss_g", "adversarial") else (one[name] + other[name]) / 2
        for name in one
        if name in other
    }
