"""Writes the table of a comparison as text, Markdown, LaTeX, HTML or CSV."""

import csv
import html
import io
import math
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from genlab.report.compare.comparability import metric_of
from genlab.report.compare.folding import Fold
from genlab.report.compare.interval import CONFIDENCE, Difference
from genlab.report.compare.runs import short_text
from genlab.report.compare.table import Cell, Column, Row, Table

ARROWS = {"lower": "↓", "higher": "↑", None: ""}
ONE_SEED = "one seed"
FOUR_DIGITS: Callable[[float], str] = "{:.4g}".format
ROUNDING = 1e-12
"""A deviation of this share of the mean, or less, is one of rounding."""
MAX_PLACES = 8
"""Digits before or behind the decimal point beyond which a mean is written with an exponent."""
TEX = {
    **{char: f"\\{char}" for char in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": "$<$", ">": "$>$"},
    **{"|": r"\textbar{}", "±": r"$\pm$", "↓": r"$\downarrow$", "↑": r"$\uparrow$", "Δ": r"$\Delta$"},
}
MARKDOWN = re.compile(r"[\\|*`]")
MINUS = re.compile(r"(?<![\w.-])-(?=\d)")


@dataclass(frozen=True)
class Text:
    """A cell as text.

    Args:
        text: The text.
        number: Whether it is a number, which is aligned to the right.
        best: Whether it is the best of its column.
    """

    text: str
    number: bool = False
    best: bool = False


@dataclass
class Grid:
    """A table of texts.

    Args:
        title: What is shown above it; may be empty.
        head: The head row.
        rows: The other rows.
        notes: Lines below it.
    """

    title: str
    head: list[Text]
    rows: list[list[Text]]
    notes: list[str]


def grid(table: Table) -> Grid:
    """Formats a table: a number for each row, its keys, its number of seeds, its metrics, and what else it recorded."""
    seeds = [row.seeds for row in table.rows]
    single = all(number is not None for number in seeds) and not table.title
    counted = single and not table.bare
    number = [] if table.bare else [Text("#", True)]
    head = [*number, *map(Text, table.keys), *([Text("seeds")] if counted else [])]
    for column in table.columns:
        head.append(Text(_title(column), True))
        if table.baseline:
            head.append(Text(f"Δ {column.title}", True))
    head += [Text(name, name != "hardware") for name in table.facts]
    rows = []
    for index, row in enumerate(table.rows):
        number = [] if table.bare else [Text(str(index + 1), True)]
        cells = [*number, *(Text(short_text(value)) for value in row.values)]
        if counted:
            cells.append(Text(str(row.seeds) if row.seeds != 1 else ONE_SEED))
        for column, cell in zip(table.columns, row.cells, strict=True):
            cells.append(_value(cell, single, table.texts.get(column.metric, FOUR_DIGITS)))
            if table.baseline:
                cells.append(_difference(cell))
        rows.append([*cells, *(_fact(row, name, table.texts.get(name, _fact_text)) for name in table.facts)])
    return Grid(table.title, head, rows, [*filter(None, [legend(table)]), *table.notes])


def _title(column: Column) -> str:
    known = metric_of(column.metric)
    return " ".join(part for part in (column.title, known.unit, ARROWS[known.better]) if part)


def legend(table: Table) -> str:
    """Explains the signs of a table; empty if it has none."""
    cells = [cell for row in table.rows for cell in row.cells if cell]
    parts = []
    if any(cell.fold.deviation is not None for cell in cells):
        parts.append("± one standard deviation over seeds (n - 1)")
    if any(cell.best for cell in cells):
        parts.append("* best of those that compare")
    if any(cell.configurations > 1 for cell in cells):
        parts.append("of several configurations: the mean and the deviation of their means")
    if table.baseline:
        parts.append(
            f"Δ difference to {table.baseline.runs[0]} with Welch's {CONFIDENCE:.0%} interval over seeds, each interval"
            " on its own"
        )
    return "; ".join(parts)


def _value(cell: Cell | None, single: bool, text: Callable[[float], str]) -> Text:
    if cell is None:
        return Text("-", True)
    fold = cell.fold
    number = format_fold(fold, text)
    if cell.configurations > 1:
        number += f" ({cell.configurations} configurations)"
    elif len(fold.values) < fold.seeds:
        number += f" ({len(fold.values)} of {fold.seeds})"
    elif not single:
        number += f" ({len(fold.values) if fold.seeds > 1 else ONE_SEED})"
    return Text(number, True, cell.best)


def format_fold(fold: Fold, text: Callable[[float], str] = FOUR_DIGITS) -> str:
    """Formats a mean and its deviation, with as many digits as two digits of the deviation have.

    A deviation that is no more than the rounding of the mean is 0.

    Args:
        fold: The values.
        text: How a mean without a deviation is written.

    >>> format_fold(Fold((0.0121, 0.0125), 2))
    '0.01230 ± 0.00028'
    >>> format_fold(Fold((1.0e-11, 3.0e-11), 2))
    '2.000e-11 ± 1.4e-11'
    """
    deviation = fold.deviation
    if not deviation or deviation <= ROUNDING * abs(fold.mean):
        return text(fold.mean) + ("" if deviation is None else " ± 0")
    places = max(0, 1 - math.floor(math.log10(deviation)))
    if places > MAX_PLACES or abs(fold.mean) >= 10**MAX_PLACES:
        return f"{fold.mean:.3e} ± {deviation:.1e}"
    return f"{fold.mean:.{places}f} ± {deviation:.{places}f}"


def _difference(cell: Cell | None) -> Text:
    if cell is not None and cell.baseline:
        return Text("baseline", True)
    if cell is None or cell.difference is None:
        return Text("-", True)
    return Text(_format_difference(cell.difference, cell.configurations), True)


def _format_difference(difference: Difference, configurations: int) -> str:
    if difference.low is None or difference.high is None:
        return f"{difference.value:+.3g} ({ONE_SEED if configurations == 1 else 'several configurations'})"
    return f"{difference.value:+.3g} [{difference.low:+.3g}, {difference.high:+.3g}]"


def _fact(row: Row, name: str, text: Callable[[float], str]) -> Text:
    value = row.fact(name)
    if isinstance(value, int | float):
        return Text(text(value), True)
    return Text(short_text(value) if value is not None else "-")


def _fact_text(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def as_text(tables: Sequence[Table], width: int | None = None) -> str:
    """Formats tables with aligned columns; one that is wider than `width` in blocks of columns."""
    parts = []
    for made in map(grid, tables):
        lines = [[text.text + "*" * text.best for text in row] for row in (made.head, *made.rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        blocks = [_aligned(lines, widths, made.head, block) for block in _blocks(widths, width)]
        parts.append("\n\n".join([*([made.title] if made.title else []), *blocks, "\n".join(made.notes)]))
    return "\n\n".join(parts)


def _aligned(lines: list[list[str]], widths: list[int], head: list[Text], block: list[int]) -> str:
    rows = []
    for line in lines:
        cells = [line[i].rjust(widths[i]) if head[i].number else line[i].ljust(widths[i]) for i in block]
        rows.append("  ".join(cells).rstrip())
    return "\n".join([rows[0], "-" * max(map(len, rows)), *rows[1:]])


def _blocks(widths: Sequence[int], limit: int | None) -> list[list[int]]:
    """Divides the columns into blocks of at most `limit` characters. Each begins with the number of the row."""
    blocks, used = [[0]], widths[0]
    for index, width in enumerate(widths[1:], 1):
        if limit is not None and used + 2 + width > limit and len(blocks[-1]) > 1:
            blocks.append([0])
            used = widths[0]
        blocks[-1].append(index)
        used += 2 + width
    return blocks


def screen_width() -> int | None:
    """Returns the width of the terminal; None if the output is not shown at one."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def as_markdown(tables: Sequence[Table]) -> str:
    """Formats tables in Markdown, the best values in bold."""
    return "\n\n".join(markdown(grid(table)) for table in tables)


def markdown(made: Grid) -> str:
    """Formats a table of texts in Markdown."""

    def cell(text: Text) -> str:
        escaped = escape_markdown(text.text)
        return f"**{escaped}**" if text.best else escaped

    rule = ["---:" if text.number else "---" for text in made.head]
    lines = [list(map(cell, made.head)), rule, *(list(map(cell, row)) for row in made.rows)]
    rows = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    parts = [f"**{made.title}**" if made.title else "", rows, _bullets(made.notes, "**bold** best")]
    return "\n\n".join(filter(None, parts))


def _bullets(notes: Iterable[str], best: str) -> str:
    return "\n".join(f"- {escape_markdown(note).replace(escape_markdown('* best'), best)}" for note in notes)


def escape_markdown(text: str) -> str:
    r"""Escapes a text for Markdown, except links.

    >>> escape_markdown("a|b <c>")
    'a\\|b &lt;c>'
    """
    return MARKDOWN.sub(r"\\\g<0>", text).replace("<", "&lt;")


def as_latex(tables: Sequence[Table]) -> str:
    r"""Formats tables in LaTeX with the rules of booktabs (`\usepackage{booktabs}`), the best values in bold."""

    def cell(text: Text) -> str:
        escaped = MINUS.sub("$-$", escape_latex(text.text)) if text.number else escape_latex(text.text)
        return rf"\textbf{{{escaped}}}" if text.best else escaped

    parts = []
    for made in map(grid, tables):
        align = "".join("r" if text.number else "l" for text in made.head)
        rows = [" & ".join(map(cell, row)) + r" \\" for row in made.rows]
        head = " & ".join(map(cell, made.head)) + r" \\"
        lines = [rf"\begin{{tabular}}{{{align}}}", r"\toprule", head, r"\midrule", *rows, r"\bottomrule"]
        comments = [f"% {line}" for line in [*([made.title] if made.title else []), *made.notes]]
        parts.append("\n".join([*comments, *lines, r"\end{tabular}"]))
    return "\n\n".join(parts)


def escape_latex(text: str) -> str:
    r"""Escapes a text for LaTeX.

    >>> escape_latex("latent_dim 50 %")
    'latent\\_dim 50 \\%'
    """
    return "".join(TEX.get(char, char) for char in text)


def html_table(table: Table) -> str:
    """Formats a table in HTML, with the notes below it."""

    def cell(text: Text, tag: str) -> str:
        classes = " ".join(name for name in ("number", "best") if getattr(text, name))
        return f'<{tag} class="{classes}">{html.escape(text.text)}</{tag}>'

    made = grid(table)
    lines = [f"<tr>{''.join(cell(text, 'td') for text in row)}</tr>" for row in made.rows]
    caption = f"<caption>{html.escape(made.title)}</caption>" if made.title else ""
    head = "".join(cell(text, "th") for text in made.head)
    notes = "".join(f"<li>{html.escape(note.replace('* best', 'bold: best'))}</li>" for note in made.notes)
    body = f"<thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody>"
    return f'<table class="static">{caption}{body}</table><ul class="caption">{notes}</ul>'


def as_csv(tables: Sequence[Table]) -> str:
    """Formats tables as CSV with all digits: of each column the mean, the deviation and the number of seeds.

    With a baseline, difference, low and high follow. Several tables have a column with the name of the metric.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    parts: list[tuple[str, Callable[[Cell], object]]] = [
        ("", lambda cell: cell.fold.mean),
        (" deviation", lambda cell: cell.fold.deviation),
        (" n", lambda cell: len(cell.fold.values)),
        (" best", lambda cell: int(cell.best)),
    ]
    if tables[0].baseline:
        parts += [
            (" difference", lambda cell: cell.difference and cell.difference.value),
            (" low", lambda cell: cell.difference and cell.difference.low),
            (" high", lambda cell: cell.difference and cell.difference.high),
        ]
    for number, table in enumerate(tables):
        titled = ["metric"] if table.title else []
        if number == 0:
            columns = [f"{column.title}{name}" for column in table.columns for name, _ in parts]
            writer.writerow([*titled, *table.keys, "seeds", *columns, *table.facts])
        for row in table.rows:
            cells = [None if cell is None else of(cell) for cell in row.cells for _, of in parts]
            facts = [row.fact(name) for name in table.facts]
            metric = [table.columns[0].metric] if titled else []
            values = [short_text(value) if isinstance(value, str) else value for value in row.values]
            writer.writerow([*metric, *values, row.seeds, *cells, *facts])
    return out.getvalue()
