"""The files of a comparison, by the endings of their names."""

from collections.abc import Sequence
from pathlib import Path

from genlab.report.compare.comparison import of_all_metrics
from genlab.report.compare.page_media import Logged
from genlab.report.compare.quantities import Chart
from genlab.report.compare.rendering import as_csv, as_latex, as_markdown
from genlab.report.compare.table import Table
from genlab.runs.errors import UsageError
from genlab.runs.folder import write_atomically

TEXTS = {".csv": as_csv, ".md": as_markdown, ".tex": as_latex}
PICTURES = (".png", ".svg")
TITLE = "Comparison"


def check_outputs(
    paths: Sequence[Path], metrics: Sequence[str], x: str | None = None, more: Sequence[str] = ()
) -> None:
    """Checks that the endings are known and the options of a chart fit together, before anything is read.

    Args:
        paths: The files.
        metrics: The metrics that are asked for.
        x: What a scatter chart has on its x-axis.
        more: The other options of a scatter chart that are given.

    Raises:
        UsageError: An ending is unknown, or a picture is asked for without exactly one metric.
    """
    if more and not x:
        raise UsageError(f"{more[0]} is for a scatter chart: name what is on its x-axis, such as --x seconds")
    if x and not any(path.suffix in (".html", *PICTURES) for path in paths):
        raise UsageError(f"--x {x} draws a chart: add --output chart.png, or .svg or .html")
    for path in paths:
        if path.suffix not in (*TEXTS, ".html", *PICTURES):
            endings = ", ".join((".html", *TEXTS, *PICTURES))
            raise UsageError(f"--output {path}: the ending says what is written; it must be one of {endings}")
        if path.suffix in PICTURES and len(metrics) != 1:
            raise UsageError(f"--output {path} draws one metric: name it with --metric")
        if path.is_dir():
            raise UsageError(f"--output {path} is a folder; give the name of a file")


def write_output(tables: Sequence[Table], path: Path, chart: Chart | None = None, logged: Logged | None = None) -> None:
    """Writes tables to a file, or draws a chart: the scatter chart, or else bars of the first table's metric.

    Args:
        tables: The tables.
        path: The file.
        chart: What the scatter chart shows.
        logged: What the runs logged in training, for a page.

    Raises:
        UsageError: The file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(tables, path, chart, logged or Logged())
    except OSError as error:
        raise UsageError(f"--output {path} cannot be written ({error.strerror or error})") from error


def _write(tables: Sequence[Table], path: Path, chart: Chart | None, logged: Logged) -> None:
    if path.suffix in TEXTS:
        write_atomically(path, TEXTS[path.suffix](tables).rstrip("\n") + "\n")
    elif path.suffix == ".html":
        from genlab.report.compare.page import write_page

        write_page(tables, TITLE, path, logged, chart)
    else:
        from genlab.report.compare.chart import bars, picture
        from genlab.report.compare.scatter import scatter

        configurations = [row.configurations[0] for row in of_all_metrics(tables).rows]
        figure = scatter(configurations, chart) if chart else bars(tables[0], tables[0].columns[0].metric)
        write_atomically(path, picture(figure, path.suffix[1:]))
