"""Where the noise levels of a sampler are."""

from typing import Literal

from lit_models.common.noise_process import Level, NoiseProcess

Spacing = Literal["time", "karras", "log_snr"]
"""Spacing of noise levels:

- time: even in the time of the model.
- karras: even in (sigma / alpha)^(1/7) (Karras et al. 2022, arXiv 2206.00364, eq. 5).
- log_snr: even in log(alpha / sigma) (Lu et al. 2022, arXiv 2206.00927, section 3.4).
"""

LOWEST, HIGHEST = 0.002, 80.0
"""Range of sigma / alpha of spaced levels (Karras et al. 2022, table 1), where a model has more."""
RHO = 7.0


def spaced_levels(process: NoiseProcess, count: int | None, spacing: Spacing) -> list[Level[float]]:
    """Noise levels of a sampler, descending from the highest of the model, followed by that of the image.

    Discrete timesteps are the nearest ones to the spacing.

    Args:
        process: Noising process of the model.
        count: Number of levels without the last one; None for all timesteps, with the spacing `time`.
        spacing: Spacing of the levels.

    Raises:
        ValueError: the process has too few levels.

    Examples:
        >>> from lit_models.common.noise_paths import LinearPath
        >>> from lit_models.common.noise_process import ContinuousProcess
        >>> [round(level.time, 3) for level in spaced_levels(ContinuousProcess(LinearPath()), 4, "karras")]
        [1.0, 0.907, 0.32, 0.002, 0.0]
    """
    levels = process.levels(count)
    if spacing == "time" or count == 1:
        return levels
    if count is None:
        raise ValueError(f"spacing {spacing} needs the number of the sampler's steps")
    lowest, highest = process.ratio_range
    low, high = max(lowest, LOWEST), min(highest, HIGHEST)
    for k in range(1, count):
        share = k / (count - 1)
        if spacing == "karras":
            ratio = ((1 - share) * high ** (1 / RHO) + share * low ** (1 / RHO)) ** RHO
        else:
            ratio = high ** (1 - share) * low**share
        levels[k] = process.level_of_ratio(ratio)
    if len({level.time for level in levels[:-1]}) < count:
        raise ValueError(
            f"the model has fewer than {count} different noise levels with spacing {spacing}: use fewer steps of the"
            " sampler, or spacing time"
        )
    return levels
