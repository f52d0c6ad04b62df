"""Detects trainings that diverge, and adversarial ones that go wrong."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

WEIGHTS = "the weights"
STEP_SCALARS = ("loss", "loss_d", "loss_g", "d_real", "d_fake")
"""Scalars of a training step that are watched."""


class BestValue(NamedTuple):
    """The best value of a metric so far, and its epoch, counted from one."""

    value: float
    epoch: int


def describe_not_finite(values: Mapping[str, float]) -> str | None:
    """Names the values that are NaN or infinite; None if all are finite."""
    names = [name for name, value in values.items() if not math.isfinite(value)]
    if not names:
        return None
    *others, last = names
    verb = "are" if others or last == WEIGHTS else "is"
    return f"{', '.join(others)} and {last} {verb} NaN or infinite" if others else f"{last} {verb} NaN or infinite"


def describe_saturation(means: Mapping[str, float], threshold: float, steps: int) -> str | None:
    """Describes a discriminator that is certain of real and generated images; None if it is not.

    Args:
        means: Mean output of the discriminator, a probability, for real images (d_real) and generated ones (d_fake).
        threshold: It is certain above this mean for real images and below 1 minus this for generated ones.
        steps: Number of steps of the means, for the description.
    """
    real, fake = means.get("d_real", 0.5), means.get("d_fake", 0.5)
    if not (real > threshold and fake < 1 - threshold):
        return None
    return (
        f"the discriminator is certain of every image: over the last {steps} steps its mean output was {real:.4f} for"
        f" real images and {fake:.4f} for generated ones"
    )


class CoverageHistory:
    """Compares the mode coverage of samples with the best of all earlier epochs.

    Args:
        coverage: Share of the most modes covered so far, below which the samples have collapsed.
        kl: Nats above the lowest KL(samples || uniform) so far, above which the samples have collapsed.
    """

    def __init__(self, coverage: float, kl: float) -> None:
        self.coverage = coverage
        self.kl = kl
        self._most_modes: BestValue | None = None
        self._least_kl: BestValue | None = None

    def describe_collapse(self, modes: float, kl: float, epoch: int) -> str | None:
        """Adds an epoch, and describes what has become worse; None if nothing has."""
        most, least = self._most_modes, self._least_kl
        if most is None or modes > most.value:
            self._most_modes = most = BestValue(modes, epoch)
        if least is None or kl < least.value:
            self._least_kl = least = BestValue(kl, epoch)
        reasons = []
        if modes < self.coverage * most.value:
            now = "1 mode" if modes == 1 else f"{modes:.0f} modes"
            reasons.append(f"the samples cover {now}, down from {most.value:.0f} after epoch {most.epoch}")
        if kl > least.value + self.kl:
            reasons.append(
                f"the KL divergence of the samples' modes from uniform is {kl:.2f} nats,"
                f" up from {least.value:.2f} after epoch {least.epoch}"
            )
        return " and ".join(reasons) or None

    def state_dict(self) -> dict[str, Any]:
        return {
            "most_modes": None if self._most_modes is None else list(self._most_modes),
            "least_kl": None if self._least_kl is None else list(self._least_kl),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        most, least = state_dict["most_modes"], state_dict["least_kl"]
        self._most_modes = None if most is None else BestValue(*most)
        self._least_kl = None if least is None else BestValue(*least)
