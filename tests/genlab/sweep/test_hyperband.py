"""Early termination against examples computed by hand."""

import pytest

from genlab.sweep.definition import Hyperband
from genlab.sweep.hyperband import brackets, should_stop


def rule(**given: object) -> Hyperband:
    return Hyperband(**{"min_iter": None, "max_iter": None, "s": None, "eta": 3, "strict": False} | given)


def test_bands():
    assert brackets(rule(min_iter=3))[:3] == [3, 9, 27]
    assert brackets(rule(min_iter=2, eta=2))[:4] == [2, 4, 8, 16]
    assert brackets(rule(max_iter=27, s=2)) == [3, 9]
    assert brackets(rule(max_iter=5, s=2, eta=2)) == [1, 2]
    assert brackets(rule(max_iter=4, s=5, eta=2)) == [1, 2]


RUNS = {"a": [10, 9], "c": [10, 8, 8], "d": [10, 7, 7], "e": [10, 6, 6]}


@pytest.mark.parametrize(
    ("history", "stopped"),
    [
        ([10], False),  # before the first bracket
        ([10, 10], True),  # the worst of five at bracket 1: above the third best, 8
        ([10, 8], False),  # equal to the third best
        ([10, 8, 8], False),  # at bracket 2 the values are 6 7 8 8, of which the third is 8
        ([10, 8, 9], True),  # 6 7 8 9
        ([10, 6, 5], False),
    ],
)
def test_a_run_stops_when_it_is_not_among_the_best(history: list[float], stopped: bool):
    others = list(RUNS.values())
    halves = rule(max_iter=5, s=2, eta=2)
    assert should_stop(halves, "minimize", history, others) is stopped
    assert should_stop(halves, "maximize", [-v for v in history], [[-v for v in run] for run in others]) is stopped


def test_a_run_without_others_is_not_stopped():
    assert not should_stop(rule(min_iter=1), "minimize", [5, 4, 3, 2, 1], [])


def test_strict_compares_at_all_brackets():
    late = [10, 9, 1]  # bad at bracket 1, best at bracket 2
    others = [[10, 5, 4], [10, 6, 3], [10, 7, 2]]
    halves = rule(min_iter=1, eta=2)
    assert not should_stop(halves, "minimize", late, others)
    assert should_stop(rule(min_iter=1, eta=2, strict=True), "minimize", late, others)
