"""The distributions of a sweep's parameters, as W&B defines them: their settings, quantiles and lists of values.

Sources: W&B, "Sweep configuration options", https://docs.wandb.ai/models/sweeps/sweep-config-keys, and its reference
implementation, https://github.com/wandb/sweeps (params.py, config/schema.json, grid_search.py).
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from genlab.suggestions import did_you_mean

REQUIRED = object()
_BOUNDS = {"min": REQUIRED, "max": REQUIRED}
_NORMAL = {"mu": 0, "sigma": 1}
_BETA = {"a": 1, "b": 1}
_STEP = {"q": 1}
SETTINGS: dict[str, dict[str, Any]] = {
    "constant": {"value": REQUIRED},
    "categorical": {"values": REQUIRED},
    "categorical_w_probabilities": {"values": REQUIRED, "probabilities": REQUIRED},
    "int_uniform": _BOUNDS,
    "uniform": _BOUNDS,
    "q_uniform": _BOUNDS | _STEP,
    "log_uniform": _BOUNDS,
    "log_uniform_values": _BOUNDS,
    "q_log_uniform": _BOUNDS | _STEP,
    "q_log_uniform_values": _BOUNDS | _STEP,
    "inv_log_uniform": _BOUNDS,
    "inv_log_uniform_values": _BOUNDS,
    "normal": _NORMAL,
    "q_normal": _NORMAL | _STEP,
    "log_normal": _NORMAL,
    "q_log_normal": _NORMAL | _STEP,
    "beta": _BETA,
    "q_beta": _BETA | _STEP,
}
"""The settings of each of W&B's distributions, with W&B's defaults."""
GRID_KINDS = ("constant", "categorical", "int_uniform", "q_uniform")
"""The distributions that W&B allows in a grid."""
MAX_CHOICES = 100_000
"""A range with more values than this has no `choices`."""

_KEYS = sorted({key for settings in SETTINGS.values() for key in settings} | {"distribution", "parameters"})
_BELOW_ONE = 1 - 2**-53
_ABOVE_ZERO = 2**-53

SpecError = tuple[str, str]
"""The key inside the parameter ("" for the whole parameter), and the error message."""


@dataclass(frozen=True)
class Distribution:
    """The distribution of one parameter.

    Args:
        kind: W&B's name of the distribution, a key of SETTINGS.
        settings: All settings that SETTINGS lists for the kind, including defaults.
    """

    kind: str
    settings: Mapping[str, Any]

    @property
    def constant(self) -> bool:
        return self.kind == "constant"

    @property
    def choices(self) -> list[Any] | None:
        """The list of all values; None for a continuous distribution and for a range of more than MAX_CHOICES values.

        A grid uses exactly these values. For q_uniform they are min, min + q, ... below max, as in W&B, whereas
        `quantile` rounds to multiples of q. A categorical distribution with probabilities has choices too, although W&B
        does not allow it in a grid (GRID_KINDS).
        """
        match self.kind:
            case "constant":
                return [self.settings["value"]]
            case "categorical" | "categorical_w_probabilities":
                return list(self.settings["values"])
            case "int_uniform":
                low, high = self.settings["min"], self.settings["max"]
                return list(range(low, high + 1)) if high - low < MAX_CHOICES else None
            case "q_uniform":
                low, high, step = (_int_if_whole(self.settings[key]) for key in ("min", "max", "q"))
                return np.arange(low, high, step).tolist() if (high - low) / step <= MAX_CHOICES else None
        return None

    @property
    def probabilities(self) -> list[float] | None:
        """The probabilities of the choices, in their order; None if they are not given."""
        given = self.settings.get("probabilities")
        return None if given is None else list(given)

    def quantile(self, u: float) -> Any:
        """Returns the u-quantile: the value below which the share `u` of all draws lies.

        For a list of choices, [0, 1) is divided by their probabilities, and the choice of the interval that contains
        `u` is returned. A distribution with q rounds to multiples of q, so that a value can lie up to q/2 outside min
        and max, as in W&B.

        Args:
            u: Number in [0, 1]. 1 is replaced by the largest number below 1, so that the quantile is finite.

        Raises:
            ValueError: u is outside [0, 1].
        """
        if not 0 <= u <= 1:
            raise ValueError(f"the quantile {u} is outside [0, 1]")
        u = min(float(u), _BELOW_ONE)
        match self.kind:
            case "constant":
                return self.settings["value"]
            case "categorical":
                values = self.settings["values"]
                return values[int(u * len(values))]
            case "categorical_w_probabilities":
                return self.settings["values"][_interval(self.settings["probabilities"], u)]
            case "int_uniform":
                low, high = self.settings["min"], self.settings["max"]
                return low + int(u * (high - low + 1))
        value = _CONTINUOUS[self.kind.removeprefix("q_")](self.settings, u)
        if "q" not in self.settings:
            return value
        return round(value / self.settings["q"]) * _int_if_whole(self.settings["q"])


def _interval(probabilities: list[float], u: float) -> int:
    """Returns the index of the interval that contains u if the probabilities divide [0, 1); never an empty one."""
    edges = np.cumsum(probabilities)
    return int(np.searchsorted(edges, u * edges[-1], side="right"))


def _int_if_whole(number: float) -> float:
    """Returns 2.0 as 2, as W&B's server does, because jsonargparse does not accept 2.0 for an integer."""
    return int(number) if float(number).is_integer() else number


def _uniform(settings: Mapping[str, Any], u: float) -> float:
    return float(settings["min"] + u * (settings["max"] - settings["min"]))


def _log_uniform(settings: Mapping[str, Any], u: float) -> float:
    return math.exp(_uniform(settings, u))


def _log_uniform_values(settings: Mapping[str, Any], u: float) -> float:
    value = _log_uniform({key: math.log(settings[key]) for key in ("min", "max")}, u)
    return min(max(value, float(settings["min"])), float(settings["max"]))


def _inv_log_uniform(settings: Mapping[str, Any], u: float) -> float:
    """log(1/X) is uniform between min and max, so X lies between exp(-max) and exp(-min)."""
    return math.exp(-_uniform(settings, 1 - u))


def _normal(settings: Mapping[str, Any], u: float) -> float:
    return float(settings["mu"] + settings["sigma"] * special.ndtri(max(u, _ABOVE_ZERO)))


def _log_normal(settings: Mapping[str, Any], u: float) -> float:
    return math.exp(_normal(settings, u))


def _beta(settings: Mapping[str, Any], u: float) -> float:
    # betaincinv of scipy 1.17 is NaN for u as small as 1e-300
    return float(special.betaincinv(settings["a"], settings["b"], max(u, _ABOVE_ZERO)))


_CONTINUOUS: dict[str, Callable[[Mapping[str, Any], float], float]] = {
    "uniform": _uniform,
    "log_uniform": _log_uniform,
    "log_uniform_values": _log_uniform_values,
    "inv_log_uniform": _inv_log_uniform,
    # log(1/X) uniform between log(1/max) and log(1/min) is log(X) uniform between log(min) and log(max)
    "inv_log_uniform_values": _log_uniform_values,
    "normal": _normal,
    "log_normal": _log_normal,
    "beta": _beta,
}


def read_distribution(spec: Mapping[str, Any]) -> Distribution:
    """Returns the distribution of one parameter of a sweep's YAML, with defaults filled in.

    Raises:
        ValueError: `spec_errors` finds an error.
    """
    errors = spec_errors(spec)
    if errors:
        raise ValueError("; ".join(message for _, message in errors))
    return _with_defaults(spec)


def _with_defaults(spec: Mapping[str, Any]) -> Distribution:
    kind = _kind(spec)
    return Distribution(kind, {key: spec.get(key, default) for key, default in SETTINGS[kind].items()})


def _kind(spec: Mapping[str, Any]) -> Any:
    """Returns the named distribution, or the one that W&B assumes if none is named; None if W&B would assume none."""
    if "distribution" in spec:
        return spec["distribution"]
    if "values" in spec:
        return "categorical_w_probabilities" if "probabilities" in spec else "categorical"
    if "value" in spec:
        return "constant"
    if "min" in spec or "max" in spec:
        whole = all(isinstance(spec.get(key), int | None) for key in ("min", "max"))
        return "int_uniform" if whole else "uniform"
    return None


def spec_errors(spec: Any) -> list[SpecError]:
    """Returns all errors of one parameter of a sweep's YAML; an empty list for a valid one."""
    if not isinstance(spec, Mapping):
        return [("", "must be a mapping such as {value: 1} or {values: [1, 2]}")]
    if "value" in spec and "values" in spec:
        return [("values", "both value and values are given; keep one")]
    unknown = [(key, f"unknown key {key!r}{did_you_mean(key, _KEYS)}") for key in spec if key not in _KEYS]
    kind = _kind(spec)
    if kind is None:
        return unknown or [("", "is empty: give value, values, min and max, or a distribution")]
    if kind not in list(SETTINGS):
        return [*unknown, ("distribution", f"unknown distribution {kind!r}{did_you_mean(kind, SETTINGS)}")]
    needed = SETTINGS[kind]
    errors = [
        (key, f"{key} does not belong to {kind}, which takes {' and '.join(needed)}")
        for key in spec
        if key in _KEYS and key not in needed and key != "distribution"
    ]
    errors += [_missing(kind, key, spec) for key in needed if needed[key] is REQUIRED and key not in spec]
    for key in needed:
        if key in spec:
            errors += [(key, message) for message in _setting_errors(kind, key, spec[key])]
    return unknown + (errors or _combination_errors(_with_defaults(spec)))


def _missing(kind: str, key: str, spec: Mapping[str, Any]) -> SpecError:
    other = {"min": "max", "max": "min"}.get(key)
    return (other, f"{other} is given without {key}") if other in spec and other else ("", f"{kind} needs {key}")


def _setting_errors(kind: str, key: str, value: Any) -> list[str]:
    """Returns the errors of one setting, regardless of the other settings."""
    if key == "value":
        return []
    if key in ("values", "probabilities"):
        return _list_errors(key, value)
    errors = number_errors(key, value)
    if not errors and kind == "int_uniform" and not isinstance(value, int):
        return [f"{key} {value} is not an integer, which int_uniform needs"]
    if not errors and key in ("sigma", "q", "a", "b") and value <= 0:
        return [f"{key} {value} is not above 0"]
    return errors


def _list_errors(key: str, value: Any) -> list[str]:
    if not isinstance(value, list):
        return [f"{key} must be a list"]
    if not value:
        return [f"{key} is empty"]
    return [text for item in value for text in number_errors("probability", item)] if key == "probabilities" else []


def number_errors(key: str, value: Any) -> list[str]:
    """Returns why a value is not a finite number and how to write it; an empty list for a number."""
    if isinstance(value, bool):
        text = str(value).lower()
        return [f"{key} is the boolean {text} (YAML reads yes, no, on and off as booleans), not a number"]
    if isinstance(value, int | float):
        return [] if math.isfinite(value) else [f"{key} {value} is not finite"]
    return [f"{key} {value!r} is not a number{_yaml_number_hint(value)}"]


def _yaml_number_hint(value: Any) -> str:
    """Returns how to write a number such as 1e-3 in YAML 1.1, where an exponent needs a decimal point and a sign."""
    found = re.fullmatch(r"([-+]?\d+)(\.\d*)?[eE]([-+]?)(\d+)", str(value))
    if not found:
        return ""
    whole, point, sign, exponent = found.groups()
    return f" in YAML; write {whole}{point or '.0'}e{sign or '+'}{exponent}"


def _combination_errors(distribution: Distribution) -> list[SpecError]:
    """Returns the errors of settings that are valid one by one but not together."""
    settings = distribution.settings
    if "probabilities" in settings:
        return _probability_errors(settings["values"], settings["probabilities"])
    if "min" in settings:
        errors = _bound_errors(distribution.kind, settings["min"], settings["max"])
        if errors:
            return errors
    try:
        ends = [distribution.quantile(u) for u in (0, 1)] if distribution.kind.removeprefix("q_") in _CONTINUOUS else []
        finite = all(math.isfinite(end) for end in ends)
    except OverflowError:
        finite = False
    return [] if finite else [("", f"{distribution.kind} would give values too large for a number")]


def _probability_errors(values: list[Any], probabilities: list[float]) -> list[SpecError]:
    errors = []
    if len(values) != len(probabilities):
        errors.append(f"{len(probabilities)} probabilities are given for {len(values)} values")
    errors += [f"probability {share} is negative" for share in probabilities if share < 0]
    if not errors and not math.isclose(sum(probabilities), 1, rel_tol=1e-5):
        errors.append(f"probabilities sum to {sum(probabilities):g}, not to 1")
    return [("probabilities", message) for message in errors]


def _bound_errors(kind: str, low: float, high: float) -> list[SpecError]:
    if low > high:
        return [("min", f"min {low} is above max {high}")]
    if low == high:
        return [("min", f"min and max are both {low}; write value: {low}")]
    if kind.endswith("_values") and low <= 0:
        return [("min", f"min {low} is not above 0, which {kind} needs")]
    if kind in ("log_uniform", "q_log_uniform") and low > 0 and high <= 1:
        drawn = f"{math.exp(low):.4g} to {math.exp(high):.4g}"
        return [("min", f"{kind} takes exponents of e, so this draws from {drawn}; write {kind}_values")]
    return []
