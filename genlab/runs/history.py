"""metrics.csv: the history of a run as a table, one row per logging event. A resumed run appends to it."""

import csv
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning import Trainer
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.trainer.connectors.logger_connector import _LoggerConnector
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from genlab.runs.clock import SECONDS, Clock
from genlab.runs.folder import write_atomically

INDEX_COLUMNS = ["step", "epoch"]


def with_epoch_from_one(metrics: Mapping[str, float]) -> dict[str, float]:
    """Counts the epoch of logged metrics from 1, as the progress bar does; Lightning counts from 0.

    After the training, Lightning's number is that of the completed epochs, so that test metrics keep theirs.
    """
    if "epoch" not in metrics or any(name.startswith("test/") for name in metrics):
        return dict(metrics)
    return {**metrics, "epoch": metrics["epoch"] + 1}


def count_epochs_from_one(trainer: Trainer) -> None:
    """Has the trainer give all its loggers epochs that are counted from 1."""
    trainer._logger_connector.__class__ = _EpochsFromOne


class _EpochsFromOne(_LoggerConnector):
    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        if metrics and step is None and not metrics.keys() & {"epoch", "step"}:
            metrics = with_epoch_from_one({**metrics, "epoch": self.trainer.current_epoch})
        super().log_metrics(metrics, step)


class MetricsCSV(Logger):
    """Lightning logger that writes each event at once, so that a killed run keeps its history.

    Args:
        folder: The run folder.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.path = folder / "metrics.csv"
        self._clock = Clock(folder / SECONDS)
        self._columns: list[str] = []
        self._count: int | None = None

    @property
    def name(self) -> str:
        return "metrics"

    @property
    def version(self) -> str:
        return ""

    @property
    def save_dir(self) -> str:
        return str(self.path.parent)

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """The config is in config.yaml and summary.json."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        count = self.count()
        row = {"step": step or 0, **metrics}
        if row.keys() <= set(self._columns):
            with open(self.path, "a", newline="", encoding="utf-8") as file:
                csv.DictWriter(file, self._columns).writerow(row)
            self._count = count + 1
        else:
            self._rewrite([*self._rows(), row])
        self._clock.append()

    def count(self) -> int:
        """The number of rows."""
        if self._count is None:
            self._count = len(self._rows())
        return self._count

    def next_step(self) -> int:
        """The step after that of the last row; 0 without rows."""
        rows = self._rows()
        return int(rows[-1]["step"]) + 1 if rows else 0

    @rank_zero_only
    def resume(self, count: int, last: Mapping[str, Any] | None) -> None:
        """Deletes the rows that a resumed run will write again.

        Args:
            count: The number of rows at the checkpoint.
            last: The last one of them if it was written after the checkpoint, so that a killed run may lack it.
        """
        rows = self._rows()[:count]
        if last is not None and len(rows) >= count - 1:
            rows[count - 1 :] = [dict(last)]
        self._rewrite(rows)
        self._clock.resume(len(rows))

    def _rows(self) -> list[dict[str, str]]:
        if not self.path.exists():
            return []
        with open(self.path, newline="", encoding="utf-8") as file:
            return [row for row in csv.DictReader(file) if None not in row and None not in row.values()]

    def _rewrite(self, rows: list[dict[str, Any]]) -> None:
        filled = (column for row in rows for column, value in row.items() if value != "")
        self._columns = list(dict.fromkeys([*INDEX_COLUMNS, *filled]))
        self._count = len(rows)
        lines = [self._columns, *([str(row.get(column, "")) for column in self._columns] for row in rows)]
        write_atomically(self.path, "".join(",".join(_quote(cell) for cell in line) + "\n" for line in lines))


def _quote(cell: str) -> str:
    return '"' + cell.replace('"', '""') + '"' if any(mark in cell for mark in ',"\n') else cell
