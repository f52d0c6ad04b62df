"""Early termination of runs, as in W&B's sweeps (after Li et al. 2018, Hyperband, arXiv 1603.06560)."""

from collections.abc import Sequence

from genlab.sweep.definition import Hyperband

MAX_BRACKETS = 100


def brackets(rule: Hyperband) -> list[int]:
    """Returns after how many values of the metric runs are compared: min_iter eta^k, or max_iter / eta^k for k <= s."""
    if rule.max_iter is not None:
        found = [int(rule.max_iter / rule.eta**k) for k in range(1, (rule.s or 0) + 1)]
    else:
        assert rule.min_iter is not None
        found = [int(rule.min_iter * rule.eta**k) for k in range(MAX_BRACKETS)]
    return sorted({bracket for bracket in found if bracket >= 1})


def should_stop(rule: Hyperband, goal: str, history: Sequence[float], others: Sequence[Sequence[float]]) -> bool:
    """Returns whether a run is stopped: at the last bracket that it has passed, it is not among the best 1/eta.

    With `strict`, all brackets that the run has passed are compared again, because other runs have reached them since.

    Args:
        rule: The rule of early termination.
        goal: minimize or maximize.
        history: The values of the run's metric so far.
        others: Those of all other runs of the sweep, running or ended.
    """
    sign = -1.0 if goal == "maximize" else 1.0
    passed = [bracket for bracket in brackets(rule) if bracket < len(history)]
    for bracket in passed if rule.strict else passed[-1:]:
        values = sorted(sign * run[bracket] for run in (history, *others) if bracket < len(run))
        if sign * history[bracket] > values[int(len(values) / rule.eta)]:
            return True
    return False
