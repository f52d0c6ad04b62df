"""Learning curves of many runs, reduced to a number of points that a page can contain."""

from typing import Any

import numpy as np
import pandas as pd

MAX_POINTS = 250_000  # in all curves together
INDEX = ("step", "epoch", "seconds")
"""What a curve can be drawn against. Runs of earlier versions have no seconds."""
MIN_CURVE_POINTS, MAX_CURVE_POINTS = 12, 400


def learning_curves(histories: dict[str, pd.DataFrame], runs: list[str]) -> dict[str, Any]:
    """Returns the curves of all metrics that the runs logged more than once, against step, epoch and seconds.

    Returns:
        A dict with `axes`, the distinct lists of steps, epochs and seconds, which runs may share, and `metrics`: metric
        -> run -> [index of its axis, values].
    """
    found = [(run, histories[run]) for run in runs if len(histories.get(run, ())) > 0]
    logged = {metric for _, table in found for metric in _metrics(table) if table[metric].count() > 1}
    points = max(MIN_CURVE_POINTS, min(MAX_CURVE_POINTS, MAX_POINTS // max(1, len(found) * len(logged))))
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
            parts = np.array_split(there, min(points, len(there)))
            at = np.array([part[-1] for part in parts])
            values = [float(f"{columns[metric][part].mean():.5g}") for part in parts]
            key = tuple(of[at].tobytes() for of in index.values())
            if key not in axes:
                axes[key] = len(shared)
                shared.append({name: of[at].tolist() for name, of in index.items()})
            curves[metric][run] = [axes[key], values]
    return {"axes": shared, "metrics": curves}


def _floats(column: pd.Series) -> np.ndarray:
    return (column if column.dtype.kind in "fiu" else pd.to_numeric(column, errors="coerce")).to_numpy(float)


def _metrics(table: pd.DataFrame) -> list[str]:
    return [str(name) for name in table.columns if name not in INDEX]


def _order(metric: str) -> tuple[bool, str]:
    return (not metric.startswith("val/"), metric)
