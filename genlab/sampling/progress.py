"""The progress bar of commands that take long."""

import sys

from rich.console import Console
from rich.progress import Progress


def progress() -> Progress:
    """A progress bar on the terminal, which disappears at the end; none where errors are not shown on a terminal."""
    return Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())
