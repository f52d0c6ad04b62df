"""Early termination against examples computed by hand, and against W&B's own package."""

import json
from collections.abc import Sequence
from math import inf, nan
from pathlib import Path

import pytest

from genlab.sweep.definition import Hyperband
from genlab.sweep.hyperband import brackets, should_stop

RECORDED = Path(__file__).with_name("hyperband_cases.json")


def rule(**given: object) -> Hyperband:
    return Hyperband(**{"min_iter": None, "max_iter": None, "s": None} | given)


def test_brackets():
    assert brackets(rule(min_iter=3), 80) == [3, 9, 27]
    assert brackets(rule(min_iter=2, eta=2), 16) == [2, 4, 8, 16]
    assert brackets(rule(max_iter=27, s=2), 100) == [3, 9]
    assert brackets(rule(max_iter=27, s=2), 8) == [3]
    assert brackets(rule(max_iter=5, s=2, eta=2), 100) == [1, 2]
    assert brackets(rule(max_iter=4, s=5, eta=2), 100) == [1, 2]


@pytest.mark.parametrize(
    ("history", "other", "strict", "stops"),
    [
        ([0.9, 0.8, 0.7], [0.9, 0.5, 0.3], {"strict": True}, True),
        ([0.9, 0.8, 0.7], [0.9, 0.5, 0.3], {}, True),
        ([0.9, 0.8], [0.9, 0.5, 0.3], {}, False),  # before the first bracket
        ([0.9, 0.2, 0.5, 0.5], [0.9, 0.5, 0.3, 0.3], {"strict": False}, False),  # its best so far counts
        ([0.9, 0.2, 0.5, 0.5], [0.9, 0.5, 0.3, 0.3], {}, True),
        ([0.9] * 4 + [0.1] * 3, [0.9, 0.5] + [0.3] * 5, {"strict": True}, False),  # only the last bracket, 6, counts
        ([0.9] * 4 + [0.1], [0.9, 0.5] + [0.3] * 5, {"strict": True}, True),  # the last bracket is 3
    ],
)
def test_a_run_among_three_equal_ones(history: list[float], other: list[float], strict: dict[str, bool], stops: bool):
    halves = rule(min_iter=3, eta=2, **strict)
    assert should_stop(halves, "minimize", history, [other] * 3) is stops
    assert should_stop(halves, "maximize", [-v for v in history], [[-v for v in other]] * 3) is stops


def test_the_verdicts_are_those_of_wandb():
    """The recorded verdicts are those of the package `sweeps` 0.3.0, which needs numpy 1, on random histories."""
    cases = json.loads(RECORDED.read_text())
    given = [should_stop(rule(**case["rule"]), case["goal"], case["history"], case["others"]) for case in cases]
    assert len(cases) == 300
    assert [case for case, stops in zip(cases, given, strict=True) if stops is not case["stops"]] == []


def test_a_run_without_others_is_not_stopped():
    assert not should_stop(rule(min_iter=1), "minimize", [5, 4, 3, 2, 1], [])


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("worst", [nan, inf, -inf])
@pytest.mark.parametrize("goal", ["minimize", "maximize"])
def test_a_value_that_is_not_finite_is_the_worst(worst: float, goal: str, strict: bool):
    def stops(history: Sequence[float], *others: Sequence[float]) -> bool:
        return should_stop(rule(min_iter=2, eta=2, strict=strict), goal, history, others)

    assert not stops([worst])
    assert stops([worst, worst]) and stops([worst, worst], [worst, worst]) and stops([worst, worst], [1, 2])
    assert stops([0, worst]) is strict  # its best so far is finite
    assert not stops([1, 2], [worst, worst], [worst, worst])
