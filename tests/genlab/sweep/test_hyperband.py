"""Early termination against histories worked out by hand."""

import pytest

from genlab.sweep.definition import Hyperband
from genlab.sweep.hyperband import bands, stops


def rule(**given: object) -> Hyperband:
    return Hyperband(**{"min_iter": None, "max_iter": None, "s": None, "eta": 3, "strict": False} | given)


def test_bands():
    assert bands(rule(min_iter=3))[:3] == [3, 9, 27]
    assert bands(rule(min_iter=2, eta=2))[:4] == [2, 4, 8, 16]
    assert bands(rule(max_iter=27, s=2)) == [3, 9]
    assert bands(rule(max_iter=5, s=2, eta=2)) == [1, 2]
    assert bands(rule(max_iter=4, s=5, eta=2)) == [1, 2]


RUNS = {"a": [10, 9], "c": [10, 8, 8], "d": [10, 7, 7], "e": [10, 6, 6]}


@pytest.mark.parametrize(
    ("history", "stopped"),
    [
        ([10], False),  # before the first band
        ([10, 10], True),  # the worst of five at band 1: above the third best, 8
        ([10, 8], False),  # as good as the third best
        ([10, 8, 8], False),  # at band 2 the values are 6 7 8 8, of which the third is 8
        ([10, 8, 9], True),  # 6 7 8 9
        ([10, 6, 5], False),
    ],
)
def test_a_run_stops_when_it_is_not_among_the_best(history: list[float], stopped: bool):
    others = list(RUNS.values())
    halves = rule(max_iter=5, s=2, eta=2)
    assert stops(halves, "minimize", history, others) is stopped
    assert stops(halves, "maximize", [-v for v in history], [[-v for v in run] for run in others]) is stopped


def test_the_first_run_is_never_stopped_for_want_of_others():
    assert not stops(rule(min_iter=1), "minimize", [5, 4, 3, 2, 1], [])


def test_strict_looks_at_every_band_again():
    late = [10, 9, 1]  # bad at band 1, best at band 2
    others = [[10, 5, 4], [10, 6, 3], [10, 7, 2]]
    halves = rule(min_iter=1, eta=2)
    assert not stops(halves, "minimize", late, others)
    assert stops(rule(min_iter=1, eta=2, strict=True), "minimize", late, others)
