"""Reads the runs of a W&B project or sweep to compare them: their configs and summaries."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from genlab.report.compare.runs import Run, facts_of
from genlab.report.wandb_records import RUNS_PER_REQUEST, api_errors, config_of, connect, numbers, runs_table
from genlab.runs.errors import UsageError


def read_wandb(path: str) -> list[Run]:
    """Reads the runs of ENTITY/PROJECT or of the sweep ENTITY/PROJECT/SWEEP.

    Raises:
        UsageError: There is no key, no server, no such project or sweep, or it has no runs.
    """
    parts = path.strip("/").split("/")
    if len(parts) not in (2, 3) or not all(parts):
        raise UsageError(f"--wandb {path!r} is neither ENTITY/PROJECT nor ENTITY/PROJECT/SWEEP")
    api = connect()
    filters = {"$and": [{"sweep": parts[2]}]} if len(parts) == 3 else {}
    with api_errors(f"the runs of {path}"):
        found = list(api.runs("/".join(parts[:2]), filters, per_page=RUNS_PER_REQUEST, lazy=False))
    runs = wandb_runs(found)
    if not runs:
        raise UsageError(f"{path} has no runs with a config on W&B")
    return runs


def wandb_runs(found: Sequence[Any]) -> list[Run]:
    """Converts runs of W&B's public API. A group is an experiment. Runs without a config are left out."""
    rows = runs_table(found)[["run", "state", "seconds"]].to_dict("records")
    runs = []
    for run, row in zip(found, rows, strict=True):
        config = config_of(run)
        if not config:  # such as the run that `wandb artifact put` makes
            continue
        experiment = run.group or ""
        name = str(row["run"]).removeprefix(f"{experiment}/")
        seconds = {"seconds": row["seconds"]} if pd.notna(row["seconds"]) else {}
        facts = facts_of({**run.summary_metrics, **seconds}, config)
        state, metrics = str(row["state"]), numbers(run.summary_metrics)
        runs.append(Run(experiment, name, state, config, metrics, facts, remote=run, wandb_id=run.id))
    return runs
