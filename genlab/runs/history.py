"""metrics.csv: the history of a run as a table, one row per logging event. A resumed run appends to it."""

import csv
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from genlab.runs.folder import write_atomically

INDEX_COLUMNS = ["step", "epoch"]


class MetricsCSV(Logger):
    """Lightning logger that writes each event at once, so that a killed run keeps its history.

    A resumed run deletes the rows that it will write again: those at or after its first new step.

    Args:
        folder: The run folder.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.path = folder / "metrics.csv"
        self._columns: list[str] = []
        self._started = False

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
        step = step or 0
        if not self._started:
            self._start(step)
        row = {"step": step, **metrics}
        new = [column for column in row if column not in self._columns]
        if new:
            kept = self._rows()
            self._columns += new
            self._rewrite([*kept, row])
        else:
            with open(self.path, "a", newline="", encoding="utf-8") as file:
                csv.DictWriter(file, self._columns).writerow(row)

    def _start(self, step: int) -> None:
        self._started = True
        self._columns = list(INDEX_COLUMNS)
        if self.path.exists():
            rows = self._rows()
            self._columns = list(rows[0]) if rows else self._columns
            self._rewrite([row for row in rows if row["step"].isdigit() and int(row["step"]) < step])

    def _rows(self) -> list[dict[str, str]]:
        if not self.path.exists():
            return []
        with open(self.path, newline="", encoding="utf-8") as file:
            return [row for row in csv.DictReader(file) if None not in row and None not in row.values()]

    def _rewrite(self, rows: list[dict[str, Any]]) -> None:
        lines = [self._columns, *([str(row.get(column, "")) for column in self._columns] for row in rows)]
        write_atomically(self.path, "".join(",".join(_quote(cell) for cell in line) + "\n" for line in lines))


def _quote(cell: str) -> str:
    return '"' + cell.replace('"', '""') + '"' if any(mark in cell for mark in ',"\n') else cell
