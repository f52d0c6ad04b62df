"""Tables of scores in docs/, made by the code of `sweep.py compare`, and the records that they are written from."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from genlab.report.compare.comparison import Question, compare
from genlab.report.compare.folding import Configuration
from genlab.report.compare.rendering import as_markdown
from genlab.report.compare.runs import Run
from genlab.report.compare.table import Column, Table, build
from genlab.runs.config import SEED
from genlab.runs.errors import UsageError
from genlab.runs.folder import write_atomically
from studies.page import REPOSITORY

MEASURED = REPOSITORY / "studies" / "measured"
SCORES = {name: f"test/{name}" for name in ("frechet_classifier", "precision", "recall", "modes", "modes_kl")}
"""Columns of a table, each with its metric."""


@dataclass
class Record:
    """What a study has measured, from which its pages can be written again without the runs.

    Args:
        setting: How it was measured, for the notes below the table.
        runs: The runs with their scores.
        reference: Real images in the place of the samples.
    """

    setting: dict[str, Any]
    runs: list[Run]
    reference: Run

    def write(self, path: Path) -> None:
        write_atomically(path, json.dumps(asdict(self), indent=1, default=str) + "\n")

    @classmethod
    def read(cls, path: Path) -> "Record":
        """
        Raises:
            UsageError: There is no such file.
        """
        if not path.is_file():
            raise UsageError(f"there is no {path}; measure first, with --write")
        read = json.loads(path.read_text(encoding="utf-8"))
        return cls(read["setting"], [Run(**run) for run in read["runs"]], Run(**read["reference"]))


def scores_table(
    runs: Sequence[Run],
    keys: Sequence[str],
    columns: Mapping[str, str],
    facts: Sequence[str],
    reference: Run | None = None,
) -> str:
    """Returns a Markdown table with a row for each run, in the order that is given, the best values in bold.

    Args:
        runs: The runs.
        keys: The config keys that name the rows.
        columns: The columns with metrics: head -> metric.
        facts: What else is shown of each run.
        reference: A last row, which is not among those of which the best is marked.
    """
    shown = [Column(head, metric) for head, metric in columns.items()]

    def table(rows: Sequence[Run]) -> Table:
        groups = [([run.config.get(key) for key in keys], [Configuration((run,))]) for run in rows]
        return build(list(keys), groups, shown)

    made = table(runs)
    made.bare = not made.notes  # the notes name rows by their numbers
    made.rows += table([reference]).rows if reference else []
    made.facts = list(facts)
    made.texts = TEXTS
    return as_markdown([made])


def compared(runs: Sequence[Run], metrics: Sequence[str], rows: str | None = None, columns: str | None = None) -> str:
    """Returns the comparison of runs by those of some metrics that they have, as `sweep.py compare` writes it."""
    logged = [metric for metric in metrics if any(metric in run.metrics for run in runs)]
    return as_markdown(compare(runs, Question(rows, columns, logged)))


def averaged(runs: Sequence[Run], *keys: str) -> list[Run]:
    """Returns runs that differ in some config keys and in the seed alone.

    The comparison then averages over the other keys within each seed, before the deviation over seeds.
    """
    kept = {*keys, SEED, "model", "data"}
    return [replace(run, config={key: value for key, value in run.config.items() if key in kept}) for run in runs]


def distance_text(distance: float) -> str:
    return f"{distance:.{1 if distance >= 10 else 2 if distance >= 0.1 else 3}f}"


def _divergence_text(divergence: float) -> str:
    return f"{divergence:.4f}" if divergence >= 1e-4 else "< 0.0001"


def _count_text(count: float) -> str:
    """Formats a number in three digits, with k or M."""
    unit, letter = (1e6, " M") if count >= 1e6 else (1e3, " k")
    return f"{count / unit:.3g}{letter}" if count >= 1e3 else f"{count:.0f}"


def _speed_text(speed: float) -> str:
    return f"{speed:,.0f}" if speed >= 10 else f"{speed:.1f}"


TEXTS: dict[str, Callable[[float], str]] = {
    SCORES["frechet_classifier"]: distance_text,
    SCORES["precision"]: "{:.2f}".format,
    SCORES["recall"]: "{:.2f}".format,
    SCORES["modes_kl"]: _divergence_text,
    "test/bits_per_dim": "{:.2f}".format,
    "image network": _count_text,
    "parameters": _count_text,
    "samples/s": _speed_text,
}
