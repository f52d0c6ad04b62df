"""Settings of adversarial training."""

from dataclasses import dataclass
from typing import get_args

from lit_models.networks.diff_augment import Augmentation


@dataclass(frozen=True)
class AdversarialRecipe:
    """Settings of adversarial training.

    Args:
        n_critic: Number of discriminator steps, each on a batch of its own, for each generator step.
        ema_decay: Decay of the exponential moving average (EMA) of the generator's weights, which makes the samples; 0
            for no EMA.
        gradient_clip_val: Maximum norm of the gradient in each step; 0 for no clipping.
        accumulate_grad_batches: Number of equal parts that each batch is split into. Their gradients are accumulated,
            so that a large batch needs less memory; data.batch_size remains the batch size of a step.
        discriminator_lr_factor: Learning rate of the discriminator as a multiple of the generator's.
        lr_decay_start: Share of the training after which all learning rates fall linearly, with each batch, to zero at
            its end; 1 for constant rates. Zhu et al. 2017, arXiv 1703.10593, take 0.5.
        r1: Weight g of the gradient penalty g/2 E|grad D(x)|^2 at real images x in the discriminator's loss (Mescheder
            et al. 2018, arXiv 1801.04406); 0 for none. As x is in [0, 1], it is a weight of 4 g for images in [-1, 1].
        r2: Weight of the same penalty at generated images; 0 for none.
        penalty_interval: Number k: the gradient penalties, also that of the objective, are added in every k-th step of
            the discriminator only, with k times their weights (lazy regularisation, Karras et al. 2019, arXiv
            1912.04958, appendix B).
        augment: Random changes of all images that the discriminator sees, real and generated, in both steps
            (DiffAugment, Zhao et al. 2020, arXiv 2006.10738). Only for models that make images from codes.

    Raises:
        ValueError: a number is out of range.

    Examples:
        >>> recipe = AdversarialRecipe(n_critic=5, ema_decay=0.999)
        >>> recipe.n_critic
        5
    """

    n_critic: int = 1
    ema_decay: float = 0.0
    gradient_clip_val: float = 0.0
    accumulate_grad_batches: int = 1
    discriminator_lr_factor: float = 1.0
    lr_decay_start: float = 1.0
    r1: float = 0.0
    r2: float = 0.0
    penalty_interval: int = 1
    augment: tuple[Augmentation, ...] = ()

    def __post_init__(self) -> None:
        if min(self.n_critic, self.accumulate_grad_batches, self.penalty_interval) < 1:
            raise ValueError(
                f"n_critic is {self.n_critic}, accumulate_grad_batches {self.accumulate_grad_batches} and"
                f" penalty_interval {self.penalty_interval}; they must be at least 1"
            )
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay is {self.ema_decay}; it must be at least 0 and below 1")
        if not self.gradient_clip_val >= 0:
            raise ValueError(f"gradient_clip_val is {self.gradient_clip_val}; it must be at least 0")
        if not self.discriminator_lr_factor > 0:
            raise ValueError(f"discriminator_lr_factor is {self.discriminator_lr_factor}; it must be positive")
        if not 0 <= self.lr_decay_start <= 1:
            raise ValueError(f"lr_decay_start is {self.lr_decay_start}; it must be in [0, 1]")
        check_not_negative(r1=self.r1, r2=self.r2)
        if not set(self.augment) <= set(get_args(Augmentation)):
            raise ValueError(f"augment is {list(self.augment)}; there are {', '.join(get_args(Augmentation))}")


def check_not_negative(**numbers: float) -> None:
    """
    Raises:
        ValueError: one of the numbers is negative or NaN.
    """
    for name, number in numbers.items():
        if not number >= 0:
            raise ValueError(f"{name} is {number}; it must be at least 0")
