"""The files of a comparison, by the endings of their names."""

from collections.abc import Sequence
from pathlib import Path

from genlab.report.compare.rendering import as_csv, as_latex, as_markdown
from genlab.report.compare.table import Table
from genlab.runs.errors import UsageError
from genlab.runs.folder import write_atomically

TEXTS = {".csv": as_csv, ".md": as_markdown, ".tex": as_latex}
PICTURES = (".png", ".svg")
TITLE = "Comparison"


def check_outputs(paths: Sequence[Path], metrics: Sequence[str]) -> None:
    """Checks that the endings are known, before anything is read.

    Raises:
        UsageError: An ending is unknown, or a picture is asked for without exactly one metric.
    """
    for path in paths:
        if path.suffix not in (*TEXTS, ".html", *PICTURES):
            endings = ", ".join((".html", *TEXTS, *PICTURES))
            raise UsageError(f"--output {path}: the ending says what is written; it must be one of {endings}")
        if path.suffix in PICTURES and len(metrics) != 1:
            raise UsageError(f"--output {path} draws one metric: name it with --metric")
        if path.is_dir():
            raise UsageError(f"--output {path} is a folder; give the name of a file")


def write_output(tables: Sequence[Table], path: Path) -> None:
    """Writes tables to a file, or draws the metric of the first one.

    Raises:
        OSError: The file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix in TEXTS:
        write_atomically(path, TEXTS[path.suffix](tables).rstrip("\n") + "\n")
    elif path.suffix == ".html":
        from genlab.report.compare.page import write_page

        write_page(tables, TITLE, path)
    else:
        from genlab.report.compare.chart import bars, picture

        write_atomically(path, picture(bars(tables[0], tables[0].columns[0].metric), path.suffix[1:]))
