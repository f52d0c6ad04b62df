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

from harness.definition import Definition, Point
from harness.distributions import Law

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
    quantile of its law. Lists of values are orders for numbers that rise or fall, else categories.
    """

    def __init__(self, definition: Definition, study: Study) -> None:
        self.definition = definition
        self._study = study
        self._laws = {key: law for key, law in definition.laws.items() if not law.constant}
        self._points = definition.points() if definition.method == "grid" else iter(())
        self._made: list[Point] = []

    def point(self, number: int) -> Chosen | None:
        """Point `number` of the sweep, from 0; None where it depends on what others have found."""
        if self.definition.method == "bayes":
            return None
        if self.definition.method == "random":
            return self._drawn({key: self._uniform(number, key) for key in self._laws})
        self._made += itertools.islice(self._points, max(0, number + 1 - len(self._made)))
        point = self._made[number]
        readable = {key: point[key] for key, law in self._laws.items() if _readable(law)}
        laws: dict[str, BaseDistribution] = {
            key: CategoricalDistribution(_choices(self._laws[key])) for key in readable
        }
        return Chosen(point, readable, laws)

    def suggest(self, trial: FrozenTrial) -> Chosen:
        """The point of a Bayesian search for a trial that is in the study."""
        number = trial.user_attrs["number"]
        space = {key: _space(law) for key, law in self._laws.items()}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = optuna.samplers.GPSampler(seed=_seed(self.definition.name, number), n_startup_trials=RANDOM_FIRST)
        found = sampler.sample_relative(self._study, trial, space)
        if not found:
            return self._drawn({key: self._uniform(number, key) for key in self._laws})
        quantiles = {key: _quantile(found[key], self._laws[key]) for key in self._laws}
        return Chosen(self.definition.draw(quantiles), found, space)

    def _drawn(self, quantiles: Mapping[str, float]) -> Chosen:
        space = {key: _space(law) for key, law in self._laws.items()}
        params = {key: _inverse(u, self._laws[key]) for key, u in quantiles.items()}
        return Chosen(self.definition.draw(quantiles), params, space)

    def _uniform(self, number: int, key: str) -> float:
        return float(np.random.default_rng(_seed(self.definition.name, number, key)).random())


def _seed(*parts: object) -> int:
    return zlib.crc32(repr(parts).encode())


def _choices(law: Law) -> list[Any]:
    return list(dict.fromkeys(law.choices or []))


def _readable(law: Law) -> bool:
    values = law.choices or []
    plain = all(value is None or isinstance(value, bool | int | float | str) for value in values)
    return plain and len(values) <= MOST_SHOWN


def _space(law: Law) -> BaseDistribution:
    """Where Optuna looks for a parameter: the index of a listed value, else its quantile."""
    if law.kind != "categorical":
        return FloatDistribution(0.0, 1.0)
    count = len(law.choices or [])
    return IntDistribution(0, count - 1) if _ordered(law) else CategoricalDistribution(list(range(count)))


def _ordered(law: Law) -> bool:
    values = law.choices or []
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return False
    steps = np.diff(np.asarray(values, float))
    return bool((steps > 0).all() or (steps < 0).all())


def _quantile(found: float, law: Law) -> float:
    """The quantile that gives what Optuna has found."""
    if law.kind != "categorical":
        return min(float(found), float(np.nextafter(1.0, 0.0)))
    return (found + 0.5) / len(law.choices or [])


def _inverse(u: float, law: Law) -> Any:
    return u if law.kind != "categorical" else int(u * len(law.choices or []))
