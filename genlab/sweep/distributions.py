"""The distributions that a W&B sweep draws a parameter from: what may be written, the value at a quantile, the grid's values.

Sources: W&B, "Sweep configuration options", https://docs.wandb.ai/models/sweeps/sweep-config-keys; its reference
implementation, https://github.com/wandb/sweeps (params.py, config/schema.json, grid_search.py).
"""

import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

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
"""For each of W&B's distributions what it is set by, with W&B's defaults."""
GRID_KINDS = ("constant", "categorical", "int_uniform", "q_uniform")
"""The distributions that W&B lets a grid go through."""
MOST_CHOICES = 100_000
"""A range of more values than this has no `choices`."""

_KEYS = sorted({key for settings in SETTINGS.values() for key in settings} | {"distribution", "parameters"})
_BELOW_ONE = 1 - 2**-53
_ABOVE_ZERO = 2**-53

Fault = tuple[str, str]
"""The key inside the parameter ("" for the whole parameter), and what is wrong there."""


@dataclass(frozen=True)
class Distribution:
    """How one parameter's values are distributed.

    Args:
        kind: W&B's name of the distribution, a key of SETTINGS.
        settings: everything that SETTINGS lists for the kind, defaults included.
    """

    kind: str
    settings: Mapping[str, Any]

    @property
    def constant(self) -> bool:
        return self.kind == "constant"

    @property
    def choices(self) -> list[Any] | None:
        """The finite list of values; None for any other distribution and for a range of more than MOST_CHOICES values.

        A grid goes through exactly these. For q_uniform they are min, min + q, ... below max, as W&B has it, while
        `quantile` rounds to multiples of q. A categorical distribution with probabilities has choices too, though W&B allows
        it in no grid (GRID_KINDS).
        """
        match self.kind:
            case "constant":
                return [self.settings["value"]]
            case "categorical" | "categorical_w_probabilities":
                return list(self.settings["values"])
            case "int_uniform":
                low, high = self.settings["min"], self.settings["max"]
                return list(range(low, high + 1)) if high - low < MOST_CHOICES else None
            case "q_uniform":
                low, high, step = (_whole(self.settings[key]) for key in ("min", "max", "q"))
                return np.arange(low, high, step).tolist() if (high - low) / step <= MOST_CHOICES else None
        return None

    @property
    def probabilities(self) -> list[float] | None:
        """Of the choices, in their order; None where they are not given."""
        given = self.settings.get("probabilities")
        return None if given is None else list(given)

    def quantile(self, u: float) -> Any:
        """The value below which a share `u` of all draws lies; for choices, the one whose share holds `u`.

        A distribution with q is rounded to multiples of q, so a value may lie up to q/2 outside min and max, as W&B's do.

        Args:
            u: in [0, 1]; 1 is read as the largest number below it, and infinite values are never given.

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
                return self.settings["values"][_slot(self.settings["probabilities"], u)]
            case "int_uniform":
                low, high = self.settings["min"], self.settings["max"]
                return low + int(u * (high - low + 1))
        value = _CONTINUOUS[self.kind.removeprefix("q_")](self.settings, u)
        if "q" not in self.settings:
            return value
        return round(value / self.settings["q"]) * _whole(self.settings["q"])


def _slot(probabilities: list[float], u: float) -> int:
    """Where u falls when [0, 1) is cut into pieces of these lengths; never into an empty piece."""
    edges = np.cumsum(probabilities)
    return int(np.searchsorted(edges, u * edges[-1], side="right"))


def _whole(number: float) -> float:
    """2.0 as 2: W&B's server sends whole numbers so, and jsonargparse takes no 2.0 for an integer."""
    return int(number) if float(number).is_integer() else number


def _uniform(distribution: Mapping[str, Any], u: float) -> float:
    return float(distribution["min"] + u * (distribution["max"] - distribution["min"]))


def _log_uniform(distribution: Mapping[str, Any], u: float) -> float:
    return math.exp(_uniform(distribution, u))


def _log_uniform_values(distribution: Mapping[str, Any], u: float) -> float:
    value = _log_uniform({key: math.log(distribution[key]) for key in ("min", "max")}, u)
    return min(max(value, float(distribution["min"])), float(distribution["max"]))


def _inv_log_uniform(distribution: Mapping[str, Any], u: float) -> float:
    """log(1/X) is uniform between min and max, so X lies between exp(-max) and exp(-min)."""
    return math.exp(-_uniform(distribution, 1 - u))


def _normal(distribution: Mapping[str, Any], u: float) -> float:
    return float(distribution["mu"] + distribution["sigma"] * special.ndtri(max(u, _ABOVE_ZERO)))


def _log_normal(distribution: Mapping[str, Any], u: float) -> float:
    return math.exp(_normal(distribution, u))


def _beta(distribution: Mapping[str, Any], u: float) -> float:
    # scipy 1.17: betaincinv is NaN for u as small as 1e-300
    return float(special.betaincinv(distribution["a"], distribution["b"], max(u, _ABOVE_ZERO)))


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
    """The distribution that one parameter of a sweep's YAML stands for, defaults filled in.

    Raises:
        ValueError: `faults` finds something wrong with it.
    """
    wrong = faults(spec)
    if wrong:
        raise ValueError("; ".join(message for _, message in wrong))
    return _filled(spec)


def _filled(spec: Mapping[str, Any]) -> Distribution:
    kind = _kind(spec)
    return Distribution(kind, {key: spec.get(key, default) for key, default in SETTINGS[kind].items()})


def _kind(spec: Mapping[str, Any]) -> Any:
    """The distribution that is named, or the one that W&B takes when none is; None where it would take none."""
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


def faults(spec: Any) -> list[Fault]:
    """Everything that is wrong with one parameter as it stands in a sweep's YAML; empty for a good one."""
    if not isinstance(spec, Mapping):
        return [("", "must be a mapping such as {value: 1} or {values: [1, 2]}")]
    if "value" in spec and "values" in spec:
        return [("values", "both value and values are given; keep one")]
    unknown = [(key, f"unknown key {key!r}{did_you_mean(key, _KEYS)}") for key in spec if key not in _KEYS]
    kind = _kind(spec)
    if kind is None:
        return unknown or [("", "says nothing: give value, values, min and max, or a distribution")]
    if kind not in list(SETTINGS):
        return [*unknown, ("distribution", f"unknown distribution {kind!r}{did_you_mean(kind, SETTINGS)}")]
    needed = SETTINGS[kind]
    wrong = [
        (key, f"{key} does not belong to {kind}, which takes {' and '.join(needed)}")
        for key in spec
        if key in _KEYS and key not in needed and key != "distribution"
    ]
    wrong += [_missing(kind, key, spec) for key in needed if needed[key] is REQUIRED and key not in spec]
    for key in needed:
        if key in spec:
            wrong += [(key, message) for message in _value_faults(kind, key, spec[key])]
    return unknown + (wrong or _distribution_faults(_filled(spec)))


def _missing(kind: str, key: str, spec: Mapping[str, Any]) -> Fault:
    other = {"min": "max", "max": "min"}.get(key)
    return (other, f"{other} is given without {key}") if other in spec and other else ("", f"{kind} needs {key}")


def _value_faults(kind: str, key: str, value: Any) -> list[str]:
    """What is wrong with one setting by itself."""
    if key == "value":
        return []
    if key in ("values", "probabilities"):
        return _list_faults(key, value)
    wrong = number_faults(key, value)
    if not wrong and kind == "int_uniform" and not isinstance(value, int):
        return [f"{key} {value} is no integer, as int_uniform needs"]
    if not wrong and key in ("sigma", "q", "a", "b") and value <= 0:
        return [f"{key} {value} is not above 0"]
    return wrong


def _list_faults(key: str, value: Any) -> list[str]:
    if not isinstance(value, list):
        return [f"{key} must be a list"]
    if not value:
        return [f"{key} is empty"]
    return [text for item in value for text in number_faults("probability", item)] if key == "probabilities" else []


def number_faults(key: str, value: Any) -> list[str]:
    """Why a setting's value is no finite number, in words that tell how to write it; empty for a number."""
    if isinstance(value, bool):
        return [f"{key} is the boolean {str(value).lower()} (YAML reads yes, no, on and off so), not a number"]
    if isinstance(value, int | float):
        return [] if math.isfinite(value) else [f"{key} {value} is not finite"]
    return [f"{key} {value!r} is not a number{_as_number(value)}"]


def _as_number(value: Any) -> str:
    """How a text that was meant as a number is written in YAML 1.1, where an exponent needs a point and a sign."""
    found = re.fullmatch(r"([-+]?\d+)(\.\d*)?[eE]([-+]?)(\d+)", str(value))
    if not found:
        return ""
    whole, point, sign, exponent = found.groups()
    return f" in YAML; write {whole}{point or '.0'}e{sign or '+'}{exponent}"


def _distribution_faults(distribution: Distribution) -> list[Fault]:
    """What is wrong with settings that are each right by themselves."""
    settings = distribution.settings
    if "probabilities" in settings:
        return _probability_faults(settings["values"], settings["probabilities"])
    if "min" in settings:
        wrong = _bound_faults(distribution.kind, settings["min"], settings["max"])
        if wrong:
            return wrong
    try:
        ends = [distribution.quantile(u) for u in (0, 1)] if distribution.kind.removeprefix("q_") in _CONTINUOUS else []
        finite = all(math.isfinite(end) for end in ends)
    except OverflowError:
        finite = False
    return [] if finite else [("", f"{distribution.kind} would give values too large for a number")]


def _probability_faults(values: list[Any], probabilities: list[float]) -> list[Fault]:
    wrong = []
    if len(values) != len(probabilities):
        wrong.append(f"{len(probabilities)} probabilities are given for {len(values)} values")
    wrong += [f"probability {share} is negative" for share in probabilities if share < 0]
    if not wrong and not math.isclose(sum(probabilities), 1, rel_tol=1e-5):
        wrong.append(f"probabilities sum to {sum(probabilities):g}, not to 1")
    return [("probabilities", message) for message in wrong]


def _bound_faults(kind: str, low: float, high: float) -> list[Fault]:
    if low > high:
        return [("min", f"min {low} is above max {high}")]
    if low == high:
        return [("min", f"min and max are both {low}; write value: {low}")]
    if kind.endswith("_values") and low <= 0:
        return [("min", f"min {low} is not above 0, as {kind} needs")]
    if kind in ("log_uniform", "q_log_uniform") and low > 0 and high <= 1:
        drawn = f"{math.exp(low):.4g} to {math.exp(high):.4g}"
        return [("min", f"{kind} takes exponents of e, so this draws from {drawn}; write {kind}_values")]
    return []


def did_you_mean(word: Any, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the known word that is nearest, or nothing when none is near."""
    near = difflib.get_close_matches(str(word), list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
