"""Checks that a sweep fits its program: it accepts every parameter and value, and it logs the metric."""

from collections.abc import Callable
from itertools import islice, product
from typing import Any

from genlab.runs.config import short_key
from genlab.runs.errors import UsageError
from genlab.sweep.definition import Definition, Point
from genlab.sweep.parser import LineError, format_errors
from genlab.sweep.worker import Worker

NEARLY_ONE = 1 - 1e-9
MAX_CLASSES = 50
"""The number of combinations of a model and data that are tried to find one that the program accepts."""

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
    errors, accepted = _command_errors(sweep, worker, arguments)
    if accepted is not None:
        errors += _metric_errors(sweep, worker, arguments(accepted), bool(errors))
    if errors:
        raise UsageError(format_errors(sweep.path, errors))


def _command_errors(sweep: Definition, worker: Worker, arguments: Arguments) -> tuple[list[LineError], Point | None]:
    """Returns the errors of the command and of all values, and a point without them; None if there is no such point."""
    classes, problem = _classes(sweep, worker, arguments)
    if problem is not None:
        return [problem], None
    tried = [(key, value) for key in sweep.distributions for value in _values_to_try(sweep, key)]
    first = worker.check([arguments({**classes, key: value}) for key, value in tried])
    rejected = [(key, value, error) for (key, value), error in zip(tried, first, strict=True) if error is not None]
    # An option can depend on the class that another parameter selects, so try again with the accepted parameters.
    accepted = {key: value for key, value in first_point(sweep).items() if key not in {key for key, _, _ in rejected}}
    accepted = {**accepted, **classes}
    second = worker.check([arguments({**accepted, key: value}) for key, value, _ in rejected])
    errors: dict[str, list[str]] = {}
    for (key, value, error), again in zip(rejected, second, strict=True):
        if again is not None:
            errors.setdefault(key, []).append(f"{key}: {error}")
        else:
            accepted.setdefault(key, value)
    all_wrong = {key for key in errors if len(errors[key]) == len(_values_to_try(sweep, key))}  # report one of them
    lines = [_at_line(sweep, key, text) for key in errors for text in errors[key][: 1 if key in all_wrong else None]]
    return lines, accepted if lines else first_point(sweep)


def _classes(sweep: Definition, worker: Worker, arguments: Arguments) -> tuple[Point, LineError | None]:
    """Returns the classes of model and data that the command needs from the parameters, or else an error."""
    keys = [key for key in sweep.distributions if short_key(key) in ("model", "data")]
    combinations = islice(product(*(_values_to_try(sweep, key) for key in keys)), MAX_CLASSES)
    points: list[Point] = [{}, *(dict(zip(keys, values, strict=True)) for values in combinations)]
    errors = worker.check([arguments(point) for point in points])
    for point, error in zip(points, errors, strict=True):
        if error is None:
            return point, None
    message = str(errors[1])  # with the first classes, or with none where there are none
    named = (key for key, value in points[1].items() if str(value) in message)
    return {}, _at_line(sweep, next(named, "command"), message)


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


def _metric_errors(sweep: Definition, worker: Worker, args: list[str], more: bool) -> list[LineError]:
    """Returns the errors of the metric.

    Args:
        sweep: The definition.
        worker: A worker process of the program.
        args: The program's arguments for a point that it accepts.
        more: Whether there are other errors, from which a run that cannot start may follow.
    """
    logged = worker.logged(args)
    if logged is None:
        return []
    if error := logged.get("error"):
        return [] if more else [(None, f"its first run cannot start: {error}")]
    if sweep.metric not in logged["end"]:
        return [_at_line(sweep, "metric", f"the runs do not log {sweep.metric}; they log {', '.join(logged['end'])}")]
    if sweep.early_terminate is not None and sweep.metric not in logged["epoch"]:
        each = ", ".join(logged["epoch"])
        message = f"{sweep.metric} is logged only at the end of a run; each epoch logs {each}"
        return [_at_line(sweep, "early_terminate", message)]
    return []


def _at_line(sweep: Definition, key: str, text: str) -> LineError:
    return sweep.line(key), text
