"""The difference between two configurations, with an interval over their seeds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, variance

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Difference:
    """A difference to the baseline.

    Args:
        value: Mean minus the mean of the baseline.
        low, high: The interval; None if one of the two has a single seed.
    """

    value: float
    low: float | None = None
    high: float | None = None


def welch(values: Sequence[float], baseline: Sequence[float], confidence: float = CONFIDENCE) -> Difference:
    """Returns the difference between two means with Welch's t interval, whose variances need not be equal.

    B. L. Welch 1947, "The generalization of Student's problem when several different population variances are
    involved"; the degrees of freedom are those of Welch and Satterthwaite.

    Args:
        values: The values of one configuration, one for each seed.
        baseline: Those of the baseline.
        confidence: Probability that such an interval contains the true difference, if values are normal.

    >>> welch([3.0, 4.0, 5.0], [1.0])
    Difference(value=3.0, low=None, high=None)
    """
    value = fmean(values) - fmean(baseline)
    if min(len(values), len(baseline)) < 2:
        return Difference(value)
    parts = [variance(side) / len(side) for side in (values, baseline)]
    error = math.sqrt(sum(parts))
    if error == 0:
        return Difference(value, value, value)
    freedom = sum(parts) ** 2 / sum(p**2 / (len(side) - 1) for p, side in zip(parts, (values, baseline), strict=True))
    from scipy.special import stdtrit

    half = error * float(stdtrit(freedom, (1 + confidence) / 2))
    return Difference(value, value - half, value + half)
