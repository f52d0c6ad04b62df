"""Checks that a sweep fits its program: it accepts every parameter and value, and it logs the metric."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice, product
from typing import Any

from genlab.packaged import find_program
from genlab.runs.config import short_key
from genlab.runs.errors import UsageError
from genlab.suggestions import did_you_mean
from genlab.sweep.definition import Definition, Point
from genlab.sweep.parser import DefinitionError, LineError, format_errors
from genlab.sweep.worker import Worker

NEARLY_ONE = 1 - 1e-9
MAX_CLASSES = 50
"""The number of combinations of a model and data that are checked."""

Arguments = Callable[[Point], list[str]]


def check_program(sweep: Definition, worker: Worker, arguments: Arguments) -> None:
    """Passes the values of each parameter to the program's command line, then asks for the metrics of the first point.

    If the sweep varies the model or the data, this is done for each combination of them.

    Args:
        sweep: The definition.
        worker: A worker process of the program.
        arguments: Returns the program's arguments for a point, or for a part of one.

    Raises:
        UsageError: The sweep does not fit the program. The message lists all errors with their lines.
    """
    if errors := _program_errors(sweep, worker, arguments, doubtful=False):
        raise UsageError(format_errors(sweep.path, errors))


def with_program_errors(error: DefinitionError) -> UsageError:
    """Returns the error of a definition together with those that its program finds in what is valid of it."""
    sweep = error.valid
    if sweep is None:
        return error
    found = list(error.errors)
    try:
        worker = Worker(find_program(sweep.program, sweep.path))
    except UsageError as missing:
        found.append(_at_line(sweep, "program", str(missing)))
    else:
        try:
            if sweep.command:
                print(f"{sweep.name}: checking what is valid of it with {sweep.program}", flush=True)
                doubtful = sweep.paths.keys() != sweep.distributions.keys() or any(
                    text.startswith("command") for _, text in error.errors
                )
                found += _program_errors(replace(sweep, method="random"), worker, sweep.arguments, doubtful)
        finally:
            worker.close()
    return UsageError(format_errors(sweep.path, found))


def _program_errors(sweep: Definition, worker: Worker, arguments: Arguments, doubtful: bool) -> list[LineError]:
    """Returns what the program finds.

    Args:
        sweep: The definition.
        worker: A worker process of the program.
        arguments: Returns the program's arguments for a point, or for a part of one.
        doubtful: Whether parameters or the command have errors, from which further errors may follow.
    """
    found: dict[LineError, list[Point]] = {}
    combinations = _classes(sweep)
    for classes in combinations:
        errors, accepted = _command_errors(sweep, worker, arguments, classes, doubtful)
        if accepted is not None:
            errors += _metric_errors(sweep, worker, arguments(accepted), doubtful or bool(errors))
        for error in errors:
            found.setdefault(error, []).append(classes)
    every = len(combinations)
    return [(line, text + _with(text, of if len(of) < every else [])) for (line, text), of in found.items()]


def _with(text: str, combinations: Sequence[Point]) -> str:
    """Returns the classes with which an error occurs, where its text does not name them."""
    named = [", ".join(f"{key} {value}" for key, value in classes.items()) for classes in combinations]
    told = all(any(str(value) in text for value in classes.values()) for classes in combinations)
    return "" if told else f" (with {'; '.join(named)})"


def _classes(sweep: Definition) -> list[Point]:
    """Returns the combinations of a model and data that the runs have; one empty point if the sweep varies neither."""
    keys = [key for key in sweep.distributions if short_key(key) in ("model", "data")]
    combinations = product(*(_values_to_try(sweep, key) for key in keys))
    return [dict(zip(keys, values, strict=True)) for values in islice(combinations, MAX_CLASSES)]


def _command_errors(
    sweep: Definition, worker: Worker, arguments: Arguments, classes: Point, doubtful: bool
) -> tuple[list[LineError], Point | None]:
    """Returns the errors of the command and of all values with some classes of model and data.

    The second result is a point without these errors; None if there is no such point.
    """
    point = {**first_point(sweep), **classes}
    alone, together = worker.check([arguments(classes), arguments(point)])
    if alone is not None and together is not None:  # a class may need another parameter
        named = (key for key, value in classes.items() if str(value) in alone)
        key = next(named, "command")
        if key != "command":
            return [_at_line(sweep, key, f"{key}: {alone}")], None
        return [] if doubtful else [_at_line(sweep, key, alone)], None
    base = classes if alone is None else point
    tried = [(key, value) for key in sweep.distributions if key not in classes for value in _values_to_try(sweep, key)]
    first = worker.check([arguments({**base, key: value}) for key, value in tried])
    rejected = [(key, value, error) for (key, value), error in zip(tried, first, strict=True) if error is not None]
    # An option can depend on the class that another parameter selects, so try again with the accepted parameters.
    accepted = {key: value for key, value in point.items() if key not in {key for key, _, _ in rejected}}
    second = worker.check([arguments({**accepted, key: value}) for key, value, _ in rejected])
    errors: dict[str, list[str]] = {}
    for (key, value, error), again in zip(rejected, second, strict=True):
        if again is not None:
            errors.setdefault(key, []).append(f"{key}: {error}")
        else:
            accepted.setdefault(key, value)
    all_wrong = {key for key in errors if len(errors[key]) == len(_values_to_try(sweep, key))}  # report one of them
    lines = [_at_line(sweep, key, text) for key in errors for text in errors[key][: 1 if key in all_wrong else None]]
    return lines, accepted if lines else point


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
    if not sweep.metric:  # it has errors
        return []
    if sweep.metric not in logged["end"]:
        near = did_you_mean(sweep.metric, logged["end"])
        message = f"the runs do not log {sweep.metric}{near or ';'} they log {', '.join(logged['end'])}"
        return [_at_line(sweep, "metric", message)]
    if sweep.early_terminate is not None and sweep.metric not in logged["epoch"]:
        each = ", ".join(logged["epoch"])
        message = f"{sweep.metric} is logged only at the end of a run; each epoch logs {each}"
        return [_at_line(sweep, "early_terminate", message)]
    return []


def _at_line(sweep: Definition, key: str, text: str) -> LineError:
    return sweep.line(key), text
