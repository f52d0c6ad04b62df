"""Whether a sweep fits its program: every parameter is known there, every value is taken, the metric is logged."""

from collections.abc import Callable
from typing import Any

from genlab.runs.errors import UsageError
from genlab.sweep.definition import Definition, Point
from genlab.sweep.definition_file import Fault, faults_text
from genlab.sweep.worker import Worker

NEARLY_ONE = 1 - 1e-9

Arguments = Callable[[Point], list[str]]


def check_program(sweep: Definition, worker: Worker, arguments: Arguments) -> None:
    """Tries every parameter's values on the program's command line, then one step of the first point for its metrics.

    Args:
        arguments: the program's arguments for a point, or for part of one.

    Raises:
        UsageError: all that does not fit, each with its line.
    """
    faults = _command_faults(sweep, worker, arguments) or _metric_faults(sweep, worker, arguments)
    if faults:
        raise UsageError(faults_text(sweep.path, faults))


def _command_faults(sweep: Definition, worker: Worker, arguments: Arguments) -> list[Fault]:
    [error] = worker.check([arguments({})])
    if error is not None:
        return [_fault(sweep, "command", error)]
    tried = [(key, value) for key in sweep.distributions for value in _values(sweep, key)]
    errors = worker.check([arguments({key: value}) for key, value in tried])
    doubtful = [(key, value, error) for (key, value), error in zip(tried, errors, strict=True) if error is not None]
    # An option may be known only where another parameter has chosen the class.
    good = set(sweep.distributions) - {key for key, _, _ in doubtful}
    known = {key: value for key, value in first_point(sweep).items() if key in good}
    still = worker.check([arguments({**known, key: value}) for key, value, _ in doubtful])
    faults: dict[str, list[str]] = {}
    for (key, _, error), again in zip(doubtful, still, strict=True):
        if again is not None:
            faults.setdefault(key, []).append(f"{key}: {error}")
    all_wrong = {key for key in faults if len(faults[key]) == len(_values(sweep, key))}  # then one is enough
    return [_fault(sweep, key, text) for key in faults for text in faults[key][: 1 if key in all_wrong else None]]


def _values(sweep: Definition, key: str) -> list[Any]:
    """The values to try of a parameter: all of a list, else the ends of its range."""
    distribution = sweep.distributions[key]
    if distribution.choices is not None and not distribution.kind.startswith(("int_", "q_")):
        return distribution.choices
    return (
        [distribution.quantile(0.5)]
        if distribution.kind.endswith(("normal", "beta"))
        else [distribution.quantile(0.0), distribution.quantile(NEARLY_ONE)]
    )


def first_point(sweep: Definition) -> Point:
    if sweep.method == "grid":
        return next(sweep.points())
    return sweep.draw({key: 0.5 for key, distribution in sweep.distributions.items() if not distribution.constant})


def _metric_faults(sweep: Definition, worker: Worker, arguments: Arguments) -> list[Fault]:
    logged = worker.logged(arguments(first_point(sweep)))
    if logged is None:
        return []
    if error := logged.get("error"):
        return [(None, f"its first run cannot be begun: {error}")]
    if sweep.metric not in logged["end"]:
        return [_fault(sweep, "metric", f"the run logs no {sweep.metric}; it logs {', '.join(logged['end'])}")]
    if sweep.early_terminate is not None and sweep.metric not in logged["epoch"]:
        each = ", ".join(logged["epoch"])
        return [_fault(sweep, "early_terminate", f"{sweep.metric} is known only at a run's end; each epoch has {each}")]
    return []


def _fault(sweep: Definition, key: str, text: str) -> Fault:
    return sweep.line(key), text
