"""The pictures and the learning curves in the page of a comparison."""

import base64
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from genlab.report.compare.comparability import metric_of
from genlab.report.compare.runs import Run
from genlab.report.curves import learning_curves
from genlab.report.records import PICTURE_TYPES, read_history
from genlab.runs.errors import UsageError

MAX_EMBEDDED = 50 * 2**20
"""The largest size of all pictures in a page, in bytes."""


def pictures_of(runs: Sequence[Run], folder: Path, embed: bool = False) -> dict[str, dict[int, str]]:
    """Returns name of a picture -> index of a run -> its address.

    Args:
        runs: The runs; those of W&B have no pictures here.
        folder: The folder of the page, to which links are relative.
        embed: Whether an address contains the picture itself.
    """
    files = [(index, path) for index, run in enumerate(runs) for path in _media(run)]
    found: dict[str, dict[int, str]] = {}
    for index, path in files:
        address = _data(path) if embed else quote(os.path.relpath(path, folder))
        found.setdefault(path.name.removesuffix(".png"), {})[index] = address
    return dict(sorted(found.items()))


def check_embedded(runs: Sequence[Run]) -> None:
    """Checks that the pictures of the runs can be in one page.

    Raises:
        UsageError: They are too large.
    """
    size = sum(path.stat().st_size for run in runs for path in _media(run))
    if size > MAX_EMBEDDED:
        raise UsageError(
            f"--embed-pictures: the pictures have {size / 2**20:.0f} MiB, and a page may contain"
            f" {MAX_EMBEDDED / 2**20:.0f} MiB; choose fewer runs with --where, or leave the option out to link them"
        )


def _media(run: Run) -> list[Path]:
    if run.folder is None:
        return []
    media = run.folder / "media"
    inside = media.resolve()
    return [
        path for path in sorted(media.glob("*")) if path.suffix in PICTURE_TYPES and path.resolve().parent == inside
    ]


def _data(path: Path) -> str:
    return f"data:{PICTURE_TYPES[path.suffix]};base64,{base64.b64encode(path.read_bytes()).decode()}"


def curves_of(runs: Sequence[Run]) -> dict[str, Any]:
    """Returns the learning curves by the index of the run, and for each metric what runs must have in common."""
    histories = {str(i): read_history(run.folder / "metrics.csv") for i, run in enumerate(runs) if run.folder}
    curves = learning_curves(histories, list(histories))
    return {**curves, "scopes": {metric: metric_of(metric).scope.text for metric in curves["metrics"]}}
