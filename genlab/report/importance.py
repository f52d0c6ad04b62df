"""The importance of each hyperparameter for a metric, as in the parameter importance panel of W&B."""

import math
from collections.abc import Collection, Mapping

import numpy as np
import pandas as pd

from genlab.report.records import as_text

TREES = 100
MIN_RUNS = 4


def correlations(
    runs: pd.DataFrame, metrics: list[str], hyperparameters: list[str], ranks: bool = False
) -> pd.DataFrame:
    """Returns the correlation of each hyperparameter (row) with each metric (column).

    Booleans count as 0 and 1. Hyperparameters with texts as values are left out.

    Args:
        runs: The runs.
        metrics: The metrics.
        hyperparameters: The config keys.
        ranks: Spearman's correlation, of the ranks, in place of Pearson's.
    """
    correlation = spearman if ranks else pearson
    numeric = {name: column for name in hyperparameters if (column := as_numbers(runs[name])) is not None}
    table = {metric: [correlation(column, runs[metric]) for column in numeric.values()] for metric in metrics}
    return pd.DataFrame(table, index=list(numeric))


def importances(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Returns the importance of each hyperparameter (row) for each metric (column).

    Args:
        tables: Metric -> its `relations`.
    """
    return pd.DataFrame({metric: table["importance"].xs("", level="value") for metric, table in tables.items()})


def relations(runs: pd.DataFrame, metric: str, hyperparameters: list[str], first: Collection[str] = ()) -> pd.DataFrame:
    """Returns the importance and the correlations of each hyperparameter, the most important first.

    The index is (hyperparameter, value). Texts are encoded one-hot: each text has a row, and the row before them, with
    the value "", has the sum of their importances and no correlation.

    Args:
        runs: The runs.
        metric: The metric.
        hyperparameters: The config keys.
        first: Those of them that come before all others, such as the parameters of the sweep.
    """
    runs = runs[np.isfinite(runs[metric].astype(float))]
    target = runs[metric].astype(float)
    columns = {(name, value): column for name in hyperparameters for value, column in encoded(runs[name]).items()}
    weights = _forest(columns, target)
    rows: dict[tuple[str, str], tuple[float, float, float]] = {}
    totals = {name: sum(w for key, w in weights.items() if key[0] == name) for name in hyperparameters}
    for name in sorted(hyperparameters, key=lambda name: (name not in first, -totals[name])):
        own = [key for key in columns if key[0] == name]
        if own != [(name, "")]:
            rows[name, ""] = (totals[name], math.nan, math.nan)
        rows |= {key: (weights[key], pearson(columns[key], target), spearman(columns[key], target)) for key in own}
    index = pd.MultiIndex.from_tuples(list(rows), names=["hyperparameter", "value"])
    return pd.DataFrame(list(rows.values()), index=index, columns=["importance", "correlation", "spearman"])


def why_no_importance(runs: pd.DataFrame, metric: str) -> str | None:
    """Returns why no hyperparameter has an importance for a metric; None if they have one."""
    values = runs[metric].astype(float)
    values = values[np.isfinite(values)]
    if len(values) < MIN_RUNS:
        return f"importance needs {MIN_RUNS} finished runs with a finite {metric}; there are {len(values)}"
    if values.nunique() < 2:
        return f"{metric} is {values.iloc[0]:g} in all runs, so that nothing can be important for it"
    return None


def encoded(column: pd.Series) -> dict[str, pd.Series]:
    """Encodes a column: numbers as one feature with the name "", texts as one feature of 0 and 1 for each text."""
    numbers = as_numbers(column)
    if numbers is not None:
        return {"": numbers}
    texts = pd.Series([as_text(value) for value in column], index=column.index, dtype=object)
    return {text: (texts == text).astype(float) for text in sorted(texts.unique())}


def as_numbers(column: pd.Series) -> pd.Series | None:
    """Returns the column as floats, with NaN in empty cells; None if it contains texts."""
    numbers = pd.to_numeric(column, errors="coerce").astype(float)
    has_texts = (numbers.isna() & column.notna()).any() or numbers.isna().all()
    return None if has_texts else numbers.replace([np.inf, -np.inf], np.nan)


def pearson(a: pd.Series, b: pd.Series) -> float:
    """Returns the correlation over the rows that have both values; NaN if one of the columns does not vary."""
    return _correlation(_pairs(a, b))


def spearman(a: pd.Series, b: pd.Series) -> float:
    """Returns the correlation of the ranks over the rows that have both values; NaN if one column does not vary."""
    return _correlation(_pairs(a, b).rank())


def _pairs(a: pd.Series, b: pd.Series) -> pd.DataFrame:
    return pd.DataFrame({"a": a, "b": b.astype(float)}).replace([np.inf, -np.inf], np.nan).dropna()


def _correlation(both: pd.DataFrame) -> float:
    if both["a"].nunique() < 2 or both["b"].nunique() < 2:
        return math.nan
    return float(np.corrcoef(both["a"], both["b"])[0, 1])


def _forest(features: Mapping[tuple[str, str], pd.Series], target: pd.Series) -> dict[tuple[str, str], float]:
    """Returns the impurity importances of a random forest; NaN for few runs or a constant metric."""
    if not features or len(target) < MIN_RUNS or target.nunique() < 2:  # why_no_importance tells the user
        return dict.fromkeys(features, math.nan)
    from sklearn.ensemble import RandomForestRegressor  # its import takes a second

    table = np.column_stack([column.to_numpy(float) for column in features.values()])
    forest = RandomForestRegressor(TREES, random_state=0).fit(table, target.to_numpy())
    return dict(zip(features, map(float, forest.feature_importances_), strict=True))
