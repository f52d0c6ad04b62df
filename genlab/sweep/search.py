"""Which point comes next: grid, random or bayes."""

import itertools
import warnings
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.study import Study
from optuna.trial import FrozenTrial

from genlab.sweep.definition import Definition, Point
from genlab.sweep.distributions import Distribution

MOST_SHOWN = 200
"""Optuna keeps the whole list of a parameter's values with each point; longer ones are left out there."""
RANDOM_FIRST = 10
"""Points that a Bayesian search draws at random before it has something to learn from."""


@dataclass(frozen=True)
class Chosen:
    """A point, and the same as Optuna keeps it."""

    point: Point
    params: Mapping[str, Any]
    distributions: Mapping[str, BaseDistribution]


class Search:
    """Points by their number, the same in every process: random draws depend on the sweep and the number alone.

    A Bayesian search (a Gaussian process, as W&B's) works where W&B's does, in the unit cube: each parameter is the
    quantile of its distribution. Lists of values are orders for numbers that rise or fall, else categories.
    """

    def __init__(self, definition: Definition, study: Study) -> None:
        self.definition = definition
        self._study = study
        self._distributions = {
            key: distribution for key, distribution in definition.distributions.items() if not distribution.constant
        }
        self._points = definition.points() if definition.method == "grid" else iter(())
        self._made: list[Point] = []

    def point(self, number: int) -> Chosen | None:
        """Point `number` of the sweep, from 0; None where it depends on what others have found."""
        if self.definition.method == "bayes":
            return None
        if self.definition.method == "random":
            return self._drawn({key: self._uniform(number, key) for key in self._distributions})
        self._made += itertools.islice(self._points, max(0, number + 1 - len(self._made)))
        point = self._made[number]
        readable = {key: point[key] for key, distribution in self._distributions.items() if _readable(distribution)}
        distributions: dict[str, BaseDistribution] = {
            key: CategoricalDistribution(_choices(self._distributions[key])) for key in readable
        }
        return Chosen(point, readable, distributions)

    def suggest(self, trial: FrozenTrial) -> Chosen:
        """The point of a Bayesian search for a trial that is in the study."""
        number = trial.user_attrs["number"]
        space = {key: _space(distribution) for key, distribution in self._distributions.items()}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = optuna.samplers.GPSampler(seed=_seed(self.definition.name, number), n_startup_trials=RANDOM_FIRST)
        found = sampler.sample_relative(self._study, trial, space)
        if not found:
            return self._drawn({key: self._uniform(number, key) for key in self._distributions})
        quantiles = {key: _quantile(found[key], self._distributions[key]) for key in self._distributions}
        return Chosen(self.definition.draw(quantiles), found, space)

    def _drawn(self, quantiles: Mapping[str, float]) -> Chosen:
        space = {key: _space(distribution) for key, distribution in self._distributions.items()}
        params = {key: _inverse(u, self._distributions[key]) for key, u in quantiles.items()}
        return Chosen(self.definition.draw(quantiles), params, space)

    def _uniform(self, number: int, key: str) -> float:
        return float(np.random.default_rng(_seed(self.definition.name, number, key)).random())


def _seed(*parts: object) -> int:
    return zlib.crc32(repr(parts).encode())


def _choices(distribution: Distribution) -> list[Any]:
    return list(dict.fromkeys(distribution.choices or []))


def _readable(distribution: Distribution) -> bool:
    values = distribution.choices or []
    plain = all(value is None or isinstance(value, bool | int | float | str) for value in values)
    return plain and len(values) <= MOST_SHOWN


def _space(distribution: Distribution) -> BaseDistribution:
    """Where Optuna looks for a parameter: the index of a listed value, else its quantile."""
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


def _quantile(found: float, distribution: Distribution) -> float:
    """The quantile that gives what Optuna has found."""
    if distribution.kind != "categorical":
        return min(float(found), float(np.nextafter(1.0, 0.0)))
    return (found + 0.5) / len(distribution.choices or [])


def _inverse(u: float, distribution: Distribution) -> Any:
    return u if distribution.kind != "categorical" else int(u * len(distribution.choices or []))
