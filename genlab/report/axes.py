"""How the values of a hyperparameter lie on a chart: numbers to scale, texts as categories, None beside."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from genlab.report.importance import as_numbers
from genlab.report.records import as_text
from genlab.runs import short_names

LOG_SPAN = 30
"""The ratio of maximum to minimum from which an axis is logarithmic, where the sweep does not tell."""
MAX_LEVELS = 12
"""A number with more values is drawn as points."""
NONE_DISTANCE = 0.12
"""The distance of None from the largest number, as a share of the axis."""


@dataclass(frozen=True)
class Axis:
    """The axis of a hyperparameter.

    Args:
        at: The position of each run. Texts and booleans are at 0, 1, 2, ...
        ticks: The positions in rising order, and their texts. None is the last one.
        log: Whether the axis is logarithmic.
        categorical: Whether the values are texts or booleans, which have no distances.
        none: The position of None among numbers, if there is one.
    """

    at: pd.Series
    ticks: list[tuple[float, str]]
    log: bool = False
    categorical: bool = False
    none: float | None = None


def value_axis(column: pd.Series, scale: str | None = None) -> Axis:
    """Returns the axis of a hyperparameter.

    Args:
        column: Its value in each run.
        scale: Its scale in the sweep, log or linear; None if the sweep does not tell.
    """
    numbers = numbers_of(column)
    if numbers is None:
        return category_axis(column)
    log = is_log(numbers, scale)
    ticks = [(float(number), as_text(float(number))) for number in sorted(numbers.dropna().unique())]
    if not numbers.isna().any():
        return Axis(numbers, ticks, log)
    none = _beyond(numbers.min(), numbers.max(), log)
    return Axis(numbers.fillna(none), [*ticks, (none, as_text(None))], log, none=none)


def category_axis(column: pd.Series) -> Axis:
    """Returns an axis on which each distinct value has a place of its own."""
    levels = levels_of(column)
    at = pd.Series([float(levels.index(as_text(value))) for value in column], index=column.index)
    return Axis(at, list(enumerate(levels)), categorical=True)


def numbers_of(column: pd.Series) -> pd.Series | None:
    """Returns the column as floats; None if it has texts or consists of booleans, which are categories."""
    flags = column.dropna().map(lambda value: isinstance(value, bool | np.bool_)).all()
    return None if flags else as_numbers(column)


def is_log(numbers: pd.Series, scale: str | None = None) -> bool:
    """Returns whether the axis of numbers is logarithmic: as the sweep tells, else if they span a large ratio."""
    positive = bool(numbers.min() > 0)
    return positive and (scale == "log" if scale else bool(numbers.max() > LOG_SPAN * numbers.min()))


def levels_of(column: pd.Series) -> list[str]:
    """Returns the distinct values as texts: numbers by size, then texts, then None."""
    order = {as_text(value): value_order(value) for value in column}
    return sorted(order, key=lambda text: (text == as_text(None), order[text]))


def value_order(value: Any) -> tuple[int, Any]:
    """Returns a sort key: numbers by size, then texts."""
    number = isinstance(value, int | float | np.integer | np.floating | np.bool_)
    return (0, value) if number else (1, str(value))


def with_short_classes(runs: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """Replaces lit_models.VAE by VAE in these columns, unless two classes of a column have the same last name."""
    return runs.assign(**{key: short_classes(runs[key]) for key in keys})


def short_classes(column: pd.Series) -> pd.Series:
    """Returns the column with class names without their modules, where these are distinct."""
    short = short_names.short_classes(dict.fromkeys(value for value in column if isinstance(value, str)))
    named = [short[value] if isinstance(value, str) else value for value in column]
    return pd.Series(named, index=column.index, dtype=column.dtype)


def _beyond(low: float, high: float, log: bool) -> float:
    if log:
        return float(high * max(high / low, 2.0) ** NONE_DISTANCE)
    return float(high + NONE_DISTANCE * ((high - low) or 1.0))
