"""Checks that a sweep fits its program: it accepts every parameter and value, and it logs the metric."""

from collections.abc import Callable
from typing import Any

from genlab.runs.errors import UsageError
from genlab.sweep.definition import Definition, Point
from genlab.sweep.parser import LineError, format_errors
from genlab.sweep.worker import Worker

NEARLY_ONE = 1 - 1e-9

Arguments = Callable[[Point], list[str]]


def check_program(sweep: Definition, worker: Worker, arguments: Arguments) -> None:
    """Passes the values of each parameter to the program's command line, then asks for the metrics of the first point.

    Args:
        sweep: The definition.
        worker: A worker process of the program.
        arguments: Returns the program's arguments for a point, or for a part of one.

    Raises:
        UsageError: The sweep does not fit the program. The message lists all errors with their lines.
    """
    errors = _command_errors(sweep, worker, arguments) or _metric_errors(sweep, worker, arguments)
    if errors:
        raise UsageError(format_errors(sweep.path, errors))


def _command_errors(sweep: Definition, worker: Worker, arguments: Arguments) -> list[LineError]:
    [error] = worker.check([arguments({})])
    if error is not None:
        return [_at_line(sweep, "command", error)]
    tried = [(key, value) for key in sweep.distributions for value in _values_to_try(sweep, key)]
    first = worker.check([arguments({key: value}) for key, value in tried])
    rejected = [(key, value, error) for (key, value), error in zip(tried, first, strict=True) if error is not None]
    # An option can depend on the class that another parameter selects, so try again with the accepted parameters.
    accepted = set(sweep.distributions) - {key for key, _, _ in rejected}
    context = {key: value for key, value in first_point(sweep).items() if key in accepted}
    second = worker.check([arguments({**context, key: value}) for key, value, _ in rejected])
    errors: dict[str, list[str]] = {}
    for (key, _, error), again in zip(rejected, second, strict=True):
        if again is not None:
            errors.setdefault(key, []).append(f"{key}: {error}")
    all_wrong = {key for key in errors if len(errors[key]) == len(_values_to_try(sweep, key))}  # report one of them
    return [_at_line(sweep, key, text) for key in errors for text in errors[key][: 1 if key in all_wrong else None]]


def _values_to_try(sweep: Definition, key: str) -> list[Any]:
    """Returns all values of a list, or the ends of a range."""
    distribution = sweep.distributions[key]
    if distribution.choices is not None and not distribution.kind.startswith(("int_", "q_")):
        return distribution.choices
    return (
        [distribution.quantile(0.5)]
        if distribution.kind.endswith(("normal", "beta"))
        else [distribution.quantile(0.0), distribution.quantile(NEARLY_ONE)]
    )


def first_point(sweep: Definition) -> Point:
    """Returns the first point of a grid, or the point of the medians of any other search."""
    if sweep.method == "grid":
        return next(sweep.points())
    return sweep.draw({key: 0.5 for key, distribution in sweep.distributions.items() if not distribution.constant})


def _metric_errors(sweep: Definition, worker: Worker, arguments: Arguments) -> list[LineError]:
    logged = worker.logged(arguments(first_point(sweep)))
    if logged is None:
        return []
    if error := logged.get("error"):
        return [(None, f"its first run cannot start: {error}")]
    if sweep.metric not in logged["end"]:
        return [_at_line(sweep, "metric", f"the runs do not log {sweep.metric}; they log {', '.join(logged['end'])}")]
    if sweep.early_terminate is not None and sweep.metric not in logged["epoch"]:
        each = ", ".join(logged["epoch"])
        message = f"{sweep.metric} is logged only at the end of a run; each epoch logs {each}"
        return [_at_line(sweep, "early_terminate", message)]
    return []


def _at_line(sweep: Definition, key: str, text: str) -> LineError:
    return sweep.line(key), text
