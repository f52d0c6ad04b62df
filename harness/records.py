"""Finished runs as a table."""

from pathlib import Path
from typing import Any

import pandas as pd

from harness.errors import UsageError
from harness.run_folder import read_summary

SEED = "seed_everything"


def load_runs(folder: Path) -> pd.DataFrame:
    """One row a run of an experiment's folder: run, state, seconds, then config and metrics under their dotted keys.

    Raises:
        UsageError: the folder holds no run.
    """
    rows: list[dict[str, Any]] = []
    for path in sorted(folder.glob("*/summary.json")):
        summary = read_summary(path.parent)
        if summary is None:
            continue
        row = {"run": path.parent.name, "state": summary.get("state"), "seconds": summary.get("seconds")}
        config = {k: _cell(v) for k, v in summary.get("config", {}).items()}
        metrics = {k: float(v) for k, v in summary.get("metrics", {}).items()}  # "nan" and "inf" are words in JSON
        rows.append({**row, **config, **metrics})
    if not rows:
        raise UsageError(f"{folder} holds no runs; `python sweep.py run sweeps/{folder.name}.yaml` makes them")
    return pd.DataFrame(rows)


def varied(runs: pd.DataFrame) -> list[str]:
    """The config keys that differ between runs, the seed left out, numbers that go with another key left out too."""
    keys = [k for k in runs.columns if k.startswith(("model", "data.", "trainer.", "encoder.")) and k != SEED]
    found = [k for k in keys if runs[k].nunique(dropna=False) > 1]
    return [k for i, k in enumerate(found) if not any(_same_grouping(runs, k, other) for other in found[:i])]


def _same_grouping(runs: pd.DataFrame, a: str, b: str) -> bool:
    pairs = runs[[a, b]].drop_duplicates()
    return len(pairs) == runs[a].nunique(dropna=False) == runs[b].nunique(dropna=False)


def _cell(value: Any) -> Any:
    return str(value) if isinstance(value, list | dict) else value
