"""Early termination of runs, as in W&B's sweeps (after Li et al. 2018, Hyperband, arXiv 1603.06560).

The verdicts are those of `sweeps` 0.3.0 (https://github.com/wandb/sweeps), the package behind W&B's sweeps, with one
departure: W&B drops values that are not finite, so that it never stops a run of NaN alone. Here they count as the worst
value.
"""

import math
from collections.abc import Sequence

from genlab.sweep.definition import Hyperband

MAX_BRACKETS = 100


def brackets(rule: Hyperband, length: int) -> list[int]:
    """Returns after how many values of the metric, up to `length`, runs are compared.

    These are min_iter eta^k, or max_iter / eta^k for k from 1 to s.
    """
    found = []
    if rule.max_iter is not None:
        bracket = float(rule.max_iter)
        for _ in range(rule.s or 0):
            bracket /= rule.eta  # rounded at each step, as in W&B
            found.append(bracket)
    else:
        assert rule.min_iter is not None
        bracket = rule.min_iter
        while bracket < length + 1 and len(found) < MAX_BRACKETS:
            found.append(bracket)
            bracket *= rule.eta
    return sorted(int(bracket) for bracket in found if 1 <= bracket < length + 1)


def should_stop(rule: Hyperband, goal: str, history: Sequence[float], others: Sequence[Sequence[float]]) -> bool:
    """Returns whether a run is stopped: at the last bracket that it has reached, it is not among the best 1/eta.

    With `strict`, the run is judged by its value at the bracket, else by its best value so far. A run without any
    finite value is stopped at its first bracket.

    Args:
        rule: The rule of early termination.
        goal: minimize or maximize.
        history: The values of the run's metric so far.
        others: Those of all other runs of the sweep, running or ended.
    """
    costs = _costs(history, goal)
    reached = brackets(rule, len(costs))
    if not reached:
        return False
    last = reached[-1] - 1
    all_costs = sorted(run[last] for run in (costs, *(_costs(run, goal) for run in others)) if last < len(run))
    own = costs[last] if rule.strict else min(costs)
    return own == math.inf or own > all_costs[int(1 / rule.eta * len(all_costs))]


def _costs(history: Sequence[float], goal: str) -> list[float]:
    """Returns the values with the sign that makes lower better; infinity for values that are not finite."""
    sign = -1.0 if goal == "maximize" else 1.0
    return [sign * value if math.isfinite(value) else math.inf for value in history]
