"""Learning curves of many runs, reduced to a number of points that a page can contain."""

from typing import Any

import numpy as np
import pandas as pd

MAX_NUMBERS = 350_000  # in all curves and their axes together, which is 3 MB
INDEX = ("step", "epoch", "seconds")
"""What a curve can be drawn against. Runs of earlier versions have no seconds."""
AXES_OF_RUN = 2
"""How many axes a run usually has: training and validation are logged at different times."""
MIN_CURVE_POINTS, MAX_CURVE_POINTS = 12, 400


def learning_curves(histories: dict[str, pd.DataFrame], runs: list[str]) -> dict[str, Any]:
    """Returns the curves of all metrics that the runs logged more than once, against step, epoch and seconds.

    Returns:
        A dict with `axes`, the distinct lists of steps, epochs and seconds, which runs may share, `metrics`: metric
        -> run -> [index of its axis, values], and `thinned_to`: how many points a longer history has been reduced to
        by means; None if none has been.
    """
    found = [(run, histories[run]) for run in runs if len(histories.get(run, ())) > 0]
    logged = {metric for _, table in found for metric in _metrics(table) if table[metric].count() > 1}
    lists = sum(len(logged & set(table.columns)) + len(INDEX) * AXES_OF_RUN for _, table in found)
    points = max(MIN_CURVE_POINTS, min(MAX_CURVE_POINTS, MAX_NUMBERS // max(1, lists)))
    is_thinned = False
    axes: dict[tuple[bytes, ...], int] = {}
    shared: list[dict[str, list[float]]] = []
    curves: dict[str, dict[str, list[Any]]] = {metric: {} for metric in sorted(logged, key=_order)}
    for run, table in found:
        columns = {str(name): _floats(table[name]) for name in table.columns}
        step = columns.get("step", np.arange(len(table), dtype=float))
        index = {"step": step, "epoch": columns.get("epoch", step)}
        if "seconds" in columns:
            index["seconds"] = columns["seconds"]
        known = np.isfinite(list(index.values())).all(axis=0)
        for metric in logged & columns.keys():
            there = np.flatnonzero(np.isfinite(columns[metric]) & known)
            if not len(there):
                continue
            is_thinned |= len(there) > points
            parts = np.array_split(there, min(points, len(there)))
            at = np.array([part[-1] for part in parts])
            values = [_short(float(f"{columns[metric][part].mean():.5g}")) for part in parts]
            key = tuple(of[at].tobytes() for of in index.values())
            if key not in axes:
                axes[key] = len(shared)
                shared.append({name: [_short(value) for value in of[at].tolist()] for name, of in index.items()})
            curves[metric][run] = [axes[key], values]
    return {"axes": shared, "metrics": curves, "thinned_to": points if is_thinned else None}


def _short(number: float) -> float:
    return int(number) if number.is_integer() else number


def _floats(column: pd.Series) -> np.ndarray:
    return (column if column.dtype.kind in "fiu" else pd.to_numeric(column, errors="coerce")).to_numpy(float)


def _metrics(table: pd.DataFrame) -> list[str]:
    return [str(name) for name in table.columns if name not in INDEX]


def _order(metric: str) -> tuple[bool, str]:
    return (not metric.startswith("val/"), metric)
