"""The search methods: which point comes next in a grid, random or bayes search."""

import itertools
import warnings
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from genlab.runs.config import SEED
from genlab.sweep.definition import Definition, Point
from genlab.sweep.distributions import Distribution

MAX_STORED_CHOICES = 200
"""Optuna stores the list of a parameter's values with each point. Longer lists are not stored."""
STARTUP_POINTS = 10
"""The number of random points at the start of a Bayesian search."""


@dataclass(frozen=True)
class ChosenPoint:
    """A point, and its parameters and distributions as Optuna stores them."""

    point: Point
    params: Mapping[str, Any]
    distributions: Mapping[str, BaseDistribution]


class Search:
    """Chooses points by their number. A random point depends only on the sweep's name and the number.

    With repeats, the numbers of a random and of a Bayesian search are those of runs, and a point has as many runs as
    there are repeats, one after another. A Bayesian search sees the result of each.

    A Bayesian search uses a Gaussian process on the unit cube, as W&B's does: each parameter is represented by the
    quantile of its distribution. A list of values is ordered if its numbers increase or decrease, else categorical.

    Args:
        definition: The definition of the sweep.
    """

    def __init__(self, definition: Definition) -> None:
        self.definition = definition
        self._distributions = {
            key: distribution for key, distribution in definition.distributions.items() if not distribution.constant
        }
        self._repeats = definition.repeats or 1
        if self._repeats > 1:
            del self._distributions[SEED]
        self._grid = definition.points() if definition.method == "grid" else iter(())
        self._grid_points: list[Point] = []

    def point(self, number: int) -> ChosenPoint | None:
        """Returns point `number`, from 0, of the sweep; None for a Bayesian search, where it depends on results."""
        if self.definition.method == "bayes":
            return None
        if self.definition.method == "random":
            place = number // self._repeats
            return self._drawn({key: self._uniform(place, key) for key in self._distributions}, number)
        self._grid_points += itertools.islice(self._grid, max(0, number + 1 - len(self._grid_points)))
        point = self._grid_points[number]
        stored = {key: point[key] for key, distribution in self._distributions.items() if _can_store(distribution)}
        distributions: dict[str, BaseDistribution] = {
            key: CategoricalDistribution(_choices(self._distributions[key])) for key in stored
        }
        return ChosenPoint(point, stored, distributions)

    def suggest(self, trial: FrozenTrial, others: Sequence[FrozenTrial]) -> ChosenPoint:
        """Returns the point of a Bayesian search for a trial.

        Args:
            trial: The trial, which is waiting.
            others: The trials of the other points that have ended or are running, and that of the first run of the
                trial's point. As in W&B, one that has failed or has no finite value counts as the worst. Points are
                random as long as there is no finite value.
        """
        number = trial.user_attrs["number"]
        if number % self._repeats:
            return self._repeated(number, others)
        space = {key: _space(distribution) for key, distribution in self._distributions.items()}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = optuna.samplers.GPSampler(
                seed=_seed(self.definition.name, number), n_startup_trials=STARTUP_POINTS * self._repeats
            )
        values = [other.value for other in others if other.value is not None]
        found = {}
        if values:
            study = _study(self.definition.goal, values, [*others, trial])
            found = sampler.sample_relative(study, study.trials[-1], space)
        if not found:
            return self._drawn({key: self._uniform(number, key) for key in self._distributions}, number)
        quantiles = {key: _from_optuna(found[key], self._distributions[key]) for key in self._distributions}
        return ChosenPoint(self._point(quantiles, number), found, space)

    def _repeated(self, number: int, others: Sequence[FrozenTrial]) -> ChosenPoint:
        """Returns the point of the first run of a Bayesian search's point, with another seed."""
        seed = number % self._repeats
        first = next(trial for trial in others if trial.user_attrs["number"] == number - seed)
        return ChosenPoint({**first.user_attrs["point"], SEED: seed}, first.params, first.distributions)

    def _point(self, quantiles: Mapping[str, float], number: int) -> Point:
        if self._repeats == 1:
            return self.definition.draw(quantiles)
        return {**self.definition.draw({**quantiles, SEED: 0.0}), SEED: number % self._repeats}

    def _drawn(self, quantiles: Mapping[str, float], number: int) -> ChosenPoint:
        space = {key: _space(distribution) for key, distribution in self._distributions.items()}
        params = {key: _to_optuna(u, self._distributions[key]) for key, u in quantiles.items()}
        return ChosenPoint(self._point(quantiles, number), params, space)

    def _uniform(self, number: int, key: str) -> float:
        return float(np.random.default_rng(_seed(self.definition.name, number, key)).random())


def _study(goal: str, values: Sequence[float], trials: Sequence[FrozenTrial]) -> Study:
    """Returns a study in memory of these trials, in which a failed trial has the worst value of the others.

    If all values are equal, it has a worse one, because the search would otherwise return to where trials fail.
    """
    sign = -1.0 if goal == "maximize" else 1.0
    costs = [sign * value for value in values]
    worst = max(costs)
    if worst == min(costs):
        worst += 1 + abs(worst)
    study = optuna.create_study(direction=StudyDirection[goal.upper()])
    for trial in trials:
        worst_trial = optuna.create_trial(params=trial.params, distributions=trial.distributions, value=sign * worst)
        study.add_trial(worst_trial if trial.state == TrialState.FAIL else trial)
    return study


def _seed(*parts: object) -> int:
    return zlib.crc32(repr(parts).encode())


def _choices(distribution: Distribution) -> list[Any]:
    return list(dict.fromkeys(distribution.choices or []))


def _can_store(distribution: Distribution) -> bool:
    """Returns whether Optuna can store the list of values."""
    values = distribution.choices or []
    plain = all(value is None or isinstance(value, bool | int | float | str) for value in values)
    return plain and len(values) <= MAX_STORED_CHOICES


def _space(distribution: Distribution) -> BaseDistribution:
    """Returns Optuna's distribution of a parameter: of the index in a list of values, else of the quantile."""
    if distribution.kind != "categorical":
        return FloatDistribution(0.0, 1.0)
    count = len(distribution.choices or [])
    return IntDistribution(0, count - 1) if _ordered(distribution) else CategoricalDistribution(list(range(count)))


def _ordered(distribution: Distribution) -> bool:
    values = distribution.choices or []
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return False
    steps = np.diff(np.asarray(values, float))
    return bool((steps > 0).all() or (steps < 0).all())


def _from_optuna(found: float, distribution: Distribution) -> float:
    """Converts Optuna's value of a parameter to a quantile."""
    if distribution.kind != "categorical":
        return min(float(found), float(np.nextafter(1.0, 0.0)))
    return (found + 0.5) / len(distribution.choices or [])


def _to_optuna(u: float, distribution: Distribution) -> Any:
    """Converts a quantile to Optuna's value of a parameter."""
    return u if distribution.kind != "categorical" else int(u * len(distribution.choices or []))
