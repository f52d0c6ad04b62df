"""Each distribution against scipy.stats or a closed form; errors against parts of their messages."""

import math

import numpy as np
import pytest
from scipy import stats

from genlab.sweep.distributions import SETTINGS, read_distribution, spec_errors

DRAWS = 4000
MIN_P_VALUE = 1e-4
"""Below this p-value a statistical test fails. The draws are seeded, so that it fails always or never."""

CONTINUOUS = {
    "uniform": ({"min": -2.0, "max": 3.5}, stats.uniform(-2, 5.5)),
    "log_uniform": ({"min": -6, "max": 2}, stats.loguniform(math.exp(-6), math.exp(2))),
    "log_uniform_values": ({"min": 1e-4, "max": 0.1}, stats.loguniform(1e-4, 0.1)),
    "inv_log_uniform": ({"min": 1, "max": 4}, stats.loguniform(math.exp(-4), math.exp(-1))),
    "inv_log_uniform_values": ({"min": 0.01, "max": 5}, stats.loguniform(0.01, 5)),
    "normal": ({"mu": 3, "sigma": 0.5}, stats.norm(3, 0.5)),
    "log_normal": ({"mu": -1, "sigma": 0.7}, stats.lognorm(0.7, scale=math.exp(-1))),
    "beta": ({"a": 2, "b": 5}, stats.beta(2, 5)),
}
QUANTIZED = {f"q_{kind}": kind for kind in CONTINUOUS if not kind.startswith("inv")}


def distribution(kind: str, **settings):
    return read_distribution({"distribution": kind, **settings})


def uniforms(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(DRAWS)


def test_every_documented_distribution_is_tested_here():
    listed = ("constant", "categorical", "categorical_w_probabilities", "int_uniform")
    assert set(SETTINGS) == {*listed, *CONTINUOUS, *QUANTIZED}


@pytest.mark.parametrize("kind", CONTINUOUS)
def test_draws_follow_the_distribution(kind: str):
    settings, truth = CONTINUOUS[kind]
    draws = [distribution(kind, **settings).quantile(u) for u in uniforms()]
    assert all(type(draw) is float for draw in draws)
    assert stats.kstest(draws, truth.cdf).pvalue > MIN_P_VALUE


@pytest.mark.parametrize("kind", CONTINUOUS)
def test_the_quantile_inverts_the_distribution_function(kind: str):
    settings, truth = CONTINUOUS[kind]
    for u in (0.001, 0.1, 0.5, 0.73, 0.999):
        assert truth.cdf(distribution(kind, **settings).quantile(u)) == pytest.approx(u, rel=1e-9)


@pytest.mark.parametrize("kind", ["inv_log_uniform", "inv_log_uniform_values"])
def test_an_inverse_distribution_is_uniform_in_the_log_of_the_inverse(kind: str):
    """W&B's page: log(1/X) is uniform between min and max, or between log(1/max) and log(1/min)."""
    low, high = (1.0, 4.0) if kind == "inv_log_uniform" else (math.log(1 / 0.9), math.log(1 / 0.2))
    settings = {"min": 1, "max": 4} if kind == "inv_log_uniform" else {"min": 0.2, "max": 0.9}
    logs = [math.log(1 / distribution(kind, **settings).quantile(u)) for u in uniforms(1)]
    assert stats.kstest(logs, stats.uniform(low, high - low).cdf).pvalue > MIN_P_VALUE


@pytest.mark.parametrize("kind", QUANTIZED)
@pytest.mark.parametrize("q", [1, 3, 4.0, 0.25])
def test_a_quantized_distribution_rounds_the_values_of_its_base(kind: str, q: float):
    settings, truth = CONTINUOUS[QUANTIZED[kind]]
    for u in uniforms(2)[:300]:
        value = distribution(kind, **settings, q=q).quantile(u)
        assert value == pytest.approx(np.round(truth.ppf(u) / q) * q)
        assert type(value) is (float if q == 0.25 else int)


@pytest.mark.parametrize("kind", [*CONTINUOUS, *QUANTIZED, "int_uniform"])
def test_the_quantile_is_monotonic_and_finite_at_both_ends(kind: str):
    settings = {"min": -3, "max": 9} if kind == "int_uniform" else CONTINUOUS[kind.removeprefix("q_")][0]
    step = {"q": 0.05} if kind.startswith("q_") else {}
    values = [distribution(kind, **settings, **step).quantile(u) for u in (0, 1e-300, *np.linspace(1e-3, 1, 500))]
    assert all(math.isfinite(value) for value in values)
    assert sorted(values) == values and values[-1] > values[0]


@pytest.mark.parametrize("kind", ["uniform", "log_uniform_values", "inv_log_uniform_values"])
def test_the_extreme_quantiles_are_the_bounds(kind: str):
    ends = distribution(kind, min=0.1, max=0.7)
    assert 0.1 <= ends.quantile(0) < 0.1 + 1e-12 and 0.7 - 1e-12 < ends.quantile(1) <= 0.7


@pytest.mark.parametrize("u", [-1e-9, 1.0000001, float("nan")])
def test_a_quantile_outside_the_unit_interval_is_an_error(u: float):
    with pytest.raises(ValueError, match="outside"):
        distribution("uniform", min=0, max=1).quantile(u)


@pytest.mark.parametrize(
    ("spec", "values", "shares"),
    [
        ({"values": ["a", 2, None]}, ["a", 2, None], [1 / 3, 1 / 3, 1 / 3]),
        ({"values": [1, 2, 3], "probabilities": [0.7, 0.1, 0.2]}, [1, 2, 3], [0.7, 0.1, 0.2]),
        ({"min": -1, "max": 2}, [-1, 0, 1, 2], [0.25] * 4),
    ],
)
def test_choices_have_their_probabilities(spec, values, shares):
    drawn = [read_distribution(spec).quantile(u) for u in uniforms(3)]
    counts = [drawn.count(value) for value in values]
    assert sum(counts) == DRAWS
    assert stats.chisquare(counts, np.array(shares) * DRAWS).pvalue > MIN_P_VALUE


def test_a_choice_of_probability_0_is_never_drawn():
    rare = read_distribution({"values": [0, 1, 2, 3], "probabilities": [0, 0.5, 0.5, 0]})
    assert {rare.quantile(u) for u in (0, *uniforms(4), 1)} == {1, 2}
    thirds = read_distribution({"values": list(range(10)), "probabilities": [0.1] * 10})
    assert thirds.quantile(1) == 9
    for total in (1 - 5e-6, 1 + 5e-6):
        assert read_distribution({"values": [0, 1, 2], "probabilities": [0.5, total - 0.5, 0]}).quantile(1) == 1


@pytest.mark.parametrize(
    ("spec", "kind"),
    [
        ({"value": None}, "constant"),
        ({"values": [1.5]}, "categorical"),
        ({"values": [1, 2], "probabilities": [0.5, 0.5]}, "categorical_w_probabilities"),
        ({"min": 1, "max": 3}, "int_uniform"),
        ({"min": 1, "max": 3.0}, "uniform"),
        ({"min": 1.0, "max": 3}, "uniform"),
    ],
)
def test_the_default_distribution(spec, kind):
    assert read_distribution(spec).kind == kind and read_distribution(spec) == read_distribution(
        {"distribution": kind, **spec}
    )


def test_defaults_are_those_of_wandb():
    for kind in SETTINGS:
        if kind.endswith("normal"):
            assert distribution(kind) == distribution(kind, mu=0, sigma=1)
        if kind.endswith("beta"):
            assert distribution(kind) == distribution(kind, a=1, b=1)
        if kind.startswith("q_"):
            settings = CONTINUOUS[kind[2:]][0]
            assert distribution(kind, **settings) == distribution(kind, **settings, q=1)


@pytest.mark.parametrize(
    ("spec", "choices"),
    [
        ({"value": [1, 2]}, [[1, 2]]),
        ({"values": [3, 1, 3]}, [3, 1, 3]),
        ({"values": [3, 1], "probabilities": [0.5, 0.5]}, [3, 1]),
        ({"min": 2, "max": 5}, [2, 3, 4, 5]),
        ({"distribution": "q_uniform", "min": 1, "max": 7, "q": 2}, [1, 3, 5]),
        ({"distribution": "q_uniform", "min": 1, "max": 7, "q": 4.0}, [1, 5]),
        ({"distribution": "q_uniform", "min": 0, "max": 1, "q": 0.25}, [0, 0.25, 0.5, 0.75]),
        ({"min": 0, "max": 99_999}, list(range(100_000))),
        ({"min": 0, "max": 100_000}, None),
        ({"min": 0.0, "max": 1}, None),
        ({"distribution": "normal"}, None),
    ],
)
def test_choices(spec, choices):
    assert read_distribution(spec).choices == choices
    assert choices is None or all(type(choice) is not np.float64 for choice in read_distribution(spec).choices)
    assert read_distribution(spec).constant == ("value" in spec)
    assert read_distribution(spec).probabilities == spec.get("probabilities")


@pytest.mark.parametrize(
    ("spec", "key", "message"),
    [
        (0.1, "", "must be a mapping"),
        ({}, "", "is empty"),
        ({"q": 1}, "", "is empty"),
        ({"vlaues": [1]}, "vlaues", "unknown key 'vlaues'; did you mean values?"),
        ({"value": 1, "values": [1]}, "values", "both value and values"),
        ({"values": []}, "values", "values is empty"),
        ({"values": 3}, "values", "values must be a list"),
        ({"values": [1, 2], "probabilities": [1.0]}, "probabilities", "1 probabilities are given for 2 values"),
        ({"values": [1, 2], "probabilities": [1.5, -0.5]}, "probabilities", "-0.5 is negative"),
        ({"values": [1, 2], "probabilities": [0.5, 0.4]}, "probabilities", "sum to 0.9"),
        ({"values": [1, 2], "probabilities": ["x", 0.4]}, "probabilities", "probability 'x' is not a number"),
        ({"distribution": "categorical_w_probabilities", "values": [1]}, "", "needs probabilities"),
        ({"distribution": "categorical", "values": [1], "q": 1}, "q", "q does not belong to categorical, which"),
        ({"distribution": "normal", "q": 2}, "q", "does not belong to normal"),
        ({"distribution": "log_unifrom", "min": 1}, "distribution", "did you mean log_uniform?"),
        ({"distribution": ["normal"]}, "distribution", "unknown distribution"),
        ({"min": 1}, "min", "min is given without max"),
        ({"max": 1.0}, "max", "max is given without min"),
        ({"distribution": "constant"}, "", "constant needs value"),
        ({"min": 0.1, "max": 0.01}, "min", "min 0.1 is above max 0.01"),
        ({"min": 3, "max": 3}, "min", "write value: 3"),
        ({"min": "1e-3", "max": 0.1}, "min", "write 1.0e-3"),
        ({"min": 0.5, "max": "2.5E4"}, "max", "write 2.5e+4"),
        ({"min": 0.1, "max": "much"}, "max", "max 'much' is not a number"),
        ({"min": True, "max": 4}, "min", "is the boolean true"),
        ({"min": None, "max": 4}, "min", "min None is not a number"),
        ({"min": 0.0, "max": math.inf}, "max", "is not finite"),
        ({"distribution": "int_uniform", "min": 1.0, "max": 4}, "min", "min 1.0 is not an integer"),
        ({"distribution": "log_uniform", "min": 0.0001, "max": 0.1}, "min", "1 to 1.105; write log_uniform_values"),
        ({"distribution": "q_log_uniform", "min": 0.5, "max": 1}, "min", "write q_log_uniform_values"),
        ({"distribution": "log_uniform_values", "min": 0, "max": 1}, "min", "min 0 is not above 0"),
        ({"distribution": "q_log_uniform_values", "min": -1, "max": 1}, "min", "min -1 is not above 0"),
        ({"distribution": "inv_log_uniform_values", "min": 0.0, "max": 1}, "min", "min 0.0 is not above 0"),
        ({"distribution": "normal", "sigma": 0}, "sigma", "sigma 0 is not above 0"),
        ({"distribution": "q_normal", "q": -1}, "q", "q -1 is not above 0"),
        ({"distribution": "beta", "a": 0}, "a", "a 0 is not above 0"),
        ({"distribution": "q_beta", "b": -2.0}, "b", "b -2.0 is not above 0"),
        ({"distribution": "log_uniform", "min": 1, "max": 1000}, "", "too large for a number"),
        ({"distribution": "q_log_normal", "mu": 800}, "", "too large for a number"),
        ({"distribution": "uniform", "min": -1e308, "max": 1.5e308}, "", "too large for a number"),
    ],
)
def test_an_invalid_parameter_is_reported(spec, key: str, message: str):
    found = spec_errors(spec)
    assert len(found) == 1 and found[0][0] == key and message in found[0][1], found
    if isinstance(spec, dict):
        with pytest.raises(ValueError) as caught:
            read_distribution(spec)
        assert message in str(caught.value)


def test_all_errors_of_a_parameter_are_reported():
    spec = {"distribution": "q_normal", "mu": "x", "sigma": -1, "q": 0, "min": 3, "stigma": 2}
    assert [key for key, _ in spec_errors(spec)] == ["stigma", "min", "mu", "sigma", "q"]


def test_bounds_of_log_uniform_that_can_be_exponents_are_valid():
    assert not spec_errors({"distribution": "log_uniform", "min": -9.2, "max": -2.3})
    assert not spec_errors({"distribution": "log_uniform", "min": 0, "max": 1})
    assert not spec_errors({"distribution": "q_log_uniform", "min": 0.5, "max": 2})
    assert not spec_errors({"distribution": "inv_log_uniform", "min": 0.0001, "max": 0.1})
