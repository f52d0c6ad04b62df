"""Early termination as W&B's sweeps do it (after Li et al. 2018, Hyperband, 1603.06560)."""

from collections.abc import Sequence

from genlab.sweep.definition import Hyperband

MOST_BANDS = 100


def bands(rule: Hyperband) -> list[int]:
    """After how many values of the metric runs are compared: min_iter x eta^k, or max_iter / eta^k for k up to s."""
    if rule.max_iter is not None:
        found = [int(rule.max_iter / rule.eta**k) for k in range(1, (rule.s or 0) + 1)]
    else:
        assert rule.min_iter is not None
        found = [int(rule.min_iter * rule.eta**k) for k in range(MOST_BANDS)]
    return sorted({band for band in found if band >= 1})


def stops(rule: Hyperband, goal: str, history: Sequence[float], others: Sequence[Sequence[float]]) -> bool:
    """Whether a run ends: at the last band that it has passed, it is not among the best 1/eta of all runs there.

    Args:
        history: the run's values of the metric so far.
        others: those of all other runs of the sweep, ended or not.
        goal: minimize or maximize.

    With `strict`, every band that the run has passed is looked at again, as others have come up since.
    """
    sign = -1.0 if goal == "maximize" else 1.0
    passed = [band for band in bands(rule) if band < len(history)]
    for band in passed if rule.strict else passed[-1:]:
        values = sorted(sign * run[band] for run in (history, *others) if band < len(run))
        if sign * history[band] > values[int(len(values) / rule.eta)]:
            return True
    return False
