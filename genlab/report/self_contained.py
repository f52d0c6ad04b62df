"""Writes HTML pages that contain plotly.js and all their data, load nothing, and run only the project's own scripts."""

import base64
import hashlib
import html
import json
import math
from collections.abc import Sequence
from pathlib import Path
from string import Template
from typing import Any

import pandas as pd
from plotly.offline import get_plotlyjs

from genlab.report.axes import is_log, levels_of, numbers_of
from genlab.report.records import as_text
from genlab.runs.folder import write_atomically

PAGE = Path(__file__).parent / "page"
"""What the pages share: the HTML around their bodies, scripts and styles."""


def write_self_contained(
    path: Path,
    title: str,
    body: Path,
    scripts: Sequence[Path],
    data: Any,
    styles: Sequence[Path] = (),
    **parts: str,
) -> Path:
    """Writes a page. Its content security policy allows only scripts with the given hashes.

    Args:
        path: The HTML file.
        title: The title, which is not yet escaped.
        body: The HTML in the body, with $title, $curve_controls and the other parts.
        scripts: The JavaScript files, in the order in which they run; the first one reads the data.
        data: JSON values.
        styles: CSS files beside page.css.
        **parts: The other parts, as HTML.
    """
    plotly = get_plotlyjs()
    script = "".join(file.read_text(encoding="utf-8") for file in scripts)
    escaped = html.escape(title)
    text = _filled(
        PAGE / "shell.html",
        title=escaped,
        hashes=" ".join(_hash(text) for text in (plotly, script)),
        style="".join(file.read_text(encoding="utf-8") for file in (PAGE / "page.css", *styles)),
        data=_json(data),
        plotly=plotly,
        script=script,
        body=_filled(body, title=escaped, curve_controls=_filled(PAGE / "curve_controls.html"), **parts),
    )
    write_atomically(path, text.encode("utf-8", "xmlcharrefreplace").decode("utf-8"))
    return path


def _filled(template: Path, **parts: str) -> str:
    return Template(template.read_text(encoding="utf-8")).substitute(parts)


def axis(column: pd.Series, scale: str | None = None) -> dict[str, Any]:
    """Returns the sorted values of a column, the index of each row's value, and `numbers` if it is numeric.

    Args:
        column: The value of each row, such as a run.
        scale: The scale in the sweep, log or linear; None if the sweep does not tell.
    """
    levels = levels_of(column)
    at = {text: i for i, text in enumerate(levels)}
    numbers = numbers_of(column)
    return {
        "levels": levels,
        "at": [at[as_text(value)] for value in column],
        "numbers": None if numbers is None else [rounded(v) for v in numbers],
        "log": numbers is not None and is_log(numbers, scale),
    }


def rounded(value: Any) -> float | None:
    """Rounds a number to six digits; returns None for a missing or infinite value."""
    return float(f"{value:.6g}") if value is not None and math.isfinite(value) else None


def _json(value: Any) -> str:
    """Returns JSON without `<`, so that it cannot end the script element around it."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
