"""The table of a comparison: a row for each configuration or value of a key, a column for each metric or value."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from genlab.report.compare.comparability import Key, is_known, metric_of
from genlab.report.compare.folding import Configuration, Fold, mean_or_texts
from genlab.report.compare.interval import Difference, welch
from genlab.report.compare.runs import FACTS, short_text

MAX_RANGES = 100
"""Number of characters up to which the rows that compare are listed."""


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Args:
        title: What is shown above it.
        metric: The metric of its cells.
        holds: Whether a configuration belongs to the column.
    """

    title: str
    metric: str
    holds: Callable[[Configuration], bool] = lambda configuration: True


@dataclass
class Cell:
    """A cell of a table.

    Args:
        fold: The values: one for each seed, or the mean of each configuration if there are several.
        group: What a value must have in common with this one to be compared with it.
        configurations: Number of configurations in the cell.
        best: Whether it is the best of those that compare with it, which are not all equal.
        baseline: Whether it is the baseline itself.
        difference: Its difference to the baseline, if they compare.
    """

    fold: Fold
    group: Key
    configurations: int = 1
    best: bool = False
    baseline: bool = False
    difference: Difference | None = None


@dataclass
class Row:
    """A row of a table.

    Args:
        values: Its values of the table's keys.
        configurations: Its configurations.
        cells: Its cells, one for each column; None for an empty one.
    """

    values: list[Any]
    configurations: list[Configuration]
    cells: list[Cell | None] = field(default_factory=list)

    @property
    def seeds(self) -> int | None:
        """Number of seeds of its only configuration; None if it has several."""
        return len(self.configurations[0].seeds) if len(self.configurations) == 1 else None

    def fact(self, name: str) -> Any:
        """Returns a number that was recorded, such as seconds, as the mean over configurations, or the texts."""
        return mean_or_texts([value for c in self.configurations if (value := c.fact(name)) is not None])


@dataclass
class Table:
    """A comparison.

    Args:
        keys: The config keys that name the rows.
        columns: The columns with metrics.
        rows: The rows.
        facts: What else is shown of each row, such as seconds.
        baseline: The baseline, if there is one.
        notes: What a reader must know, one line each.
        title: What the table shows; empty if its columns say it.
        bare: Whether the numbers of rows and the numbers of seeds are left out.
        texts: Metric or fact -> how a single value is written, where it is not written with a fixed number of digits.
    """

    keys: list[str]
    columns: list[Column]
    rows: list[Row]
    facts: list[str] = field(default_factory=list)
    baseline: Configuration | None = None
    notes: list[str] = field(default_factory=list)
    title: str = ""
    bare: bool = False
    texts: Mapping[str, Callable[[float], str]] = field(default_factory=dict)


def build(
    keys: list[str],
    groups: Iterable[tuple[list[Any], list[Configuration]]],
    columns: Sequence[Column],
    baseline: Configuration | None = None,
    facts: bool = True,
    title: str = "",
) -> Table:
    """Builds a table.

    Args:
        keys: The config keys that name the rows.
        groups: For each row, in their order, its values of these keys and its configurations.
        columns: The columns.
        baseline: The configuration to which differences are given.
        facts: Whether to show what is recorded beside metrics, such as seconds.
        title: What the table shows; empty if its columns say it.
    """
    rows = [Row(values, members) for values, members in groups]
    table = Table(keys, list(columns), rows, baseline=baseline, title=title)
    mixed = set()
    for row in rows:
        for column in columns:
            members = [member for member in row.configurations if column.holds(member)]
            cell, several = _cell(members, column.metric)
            row.cells.append(cell)
            if cell is not None and baseline is not None and baseline in members:
                cell.baseline = cell.configurations == 1 and baseline.fold(column.metric) == cell.fold
            if several:
                mixed.add(f"{column.title} of {', '.join(map(short_text, row.values))}")
    for metric in dict.fromkeys(column.metric for column in columns):
        _mark_best(table, metric)
        _add_differences(table, metric)
    table.notes = _notes(table)
    if facts:
        table.facts = [name for name in FACTS if any(row.fact(name) is not None for row in rows)]
    if mixed:
        table.notes.append(f"empty, as its configurations do not compare with each other: {'; '.join(sorted(mixed))}")
    return table


def comparable_metrics(configurations: Sequence[Configuration], metrics: Iterable[str]) -> tuple[list[str], list[str]]:
    """Returns the metrics that at least two configurations can be compared by, and the others."""
    kept: list[str] = []
    others: list[str] = []
    for metric in metrics:
        groups = [c.group(metric) for c in configurations if c.fold(metric) is not None]
        (kept if len(set(groups)) < len(groups) else others).append(metric)
    return kept, others


def sort_key(value: Any) -> tuple[int, float, str]:
    """Returns a key that sorts numbers by size, then texts, then no value."""
    if value is None:
        return 2, 0.0, ""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return (0, float(value), "") if number else (1, 0.0, short_text(value))


def _cell(members: list[Configuration], metric: str) -> tuple[Cell | None, bool]:
    """Returns the cell of some configurations, and whether they have values that do not compare with each other."""
    found = [(member, fold) for member in members if (fold := member.fold(metric)) is not None]
    groups = {member.group(metric) for member, _ in found}
    if len(groups) != 1:
        return None, len(groups) > 1
    [group] = groups
    if len(found) == 1:
        return Cell(found[0][1], group), False
    return Cell(Fold(tuple(fold.mean for _, fold in found), len(found)), group, len(found)), False


def _cells(table: Table, metric: str) -> list[tuple[int, Cell]]:
    """Returns the cells of a metric, each with the index of its row."""
    at = [index for index, column in enumerate(table.columns) if column.metric == metric]
    return [(i, cell) for i, row in enumerate(table.rows) for j in at if (cell := row.cells[j]) is not None]


def _mark_best(table: Table, metric: str) -> None:
    better = metric_of(metric).better
    if better is None:
        return
    groups: dict[Key, list[Cell]] = {}
    for _, cell in _cells(table, metric):
        groups.setdefault(cell.group, []).append(cell)
    for cells in groups.values():
        means = {cell.fold.mean for cell in cells}
        best = (min if better == "lower" else max)(means)
        for cell in cells:
            cell.best = len(means) > 1 and cell.fold.mean == best


def _add_differences(table: Table, metric: str) -> None:
    base = table.baseline.fold(metric) if table.baseline else None
    if base is None or table.baseline is None:
        return
    group = table.baseline.group(metric)
    for _, cell in _cells(table, metric):
        if cell.group == group and not cell.baseline:
            compared = welch(cell.fold.values, base.values)
            cell.difference = compared if cell.configurations == 1 else Difference(compared.value)


def _notes(table: Table) -> list[str]:
    """Says which metrics are not known, and which rows compare by a metric if not all of them do."""
    metrics = list(dict.fromkeys(column.metric for column in table.columns))
    unknown = [metric for metric in metrics if not is_known(metric)]
    notes = [f"not in the table of metrics, so that neither direction is better: {', '.join(unknown)}"] * bool(unknown)
    same: dict[tuple[str, str], list[str]] = {}
    for metric in metrics:
        rows: dict[Key, list[int]] = {}
        for index, cell in _cells(table, metric):
            rows.setdefault(cell.group, []).append(index + 1)
        if len(rows) > 1:
            single = sum(column.metric == metric for column in table.columns) == 1
            shown = _groups(list(rows.values())) if single else f"{len(rows)} groups"
            same.setdefault((metric_of(metric).scope.text, shown), []).append(metric)
    return notes + [
        f"{', '.join(names)}: only runs with {text} compare ({shown})" for (text, shown), names in same.items()
    ]


def _groups(groups: list[list[int]]) -> str:
    """Names the rows that compare: rows 1-3; rows 4, 6; no others."""
    several = [f"rows {_ranges(rows)}" for rows in groups if len(rows) > 1]
    text = "; ".join([*several, "no others"][: None if len(several) < len(groups) else -1])
    return text if len(text) <= MAX_RANGES else f"{len(groups)} groups"


def _ranges(numbers: Sequence[int]) -> str:
    """Formats row numbers: 1-3, 5."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ", ".join(str(part[0]) if len(part) == 1 else f"{part[0]}-{part[-1]}" for part in parts)
