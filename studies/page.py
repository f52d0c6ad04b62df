"""Parts of the pages that are written by a script: tables and notes, between two marker comments."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

from genlab.runs.errors import UsageError
from genlab.runs.folder import write_whole


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows))


def wrapped(text: str) -> str:
    """Each line of a text in lines of at most 120 characters; of a list, each point."""
    lines = text.strip().split("\n")
    return "\n".join(
        textwrap.fill(line, 120, subsequent_indent="  " * line.startswith("- "), break_on_hyphens=False)
        for line in lines
    )


def put(page: Path, name: str, text: str) -> None:
    """Writes text between `<!-- name -->` and `<!-- /name -->` of a page, in the place of what is there.

    Raises:
        UsageError: the page has not one of each, in this order.
    """
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    before = page.read_text(encoding="utf-8")
    first, last = before.find(begin), before.find(end)
    if before.count(begin) != 1 or before.count(end) != 1 or last < first:
        raise UsageError(f"{page} has no place for the table; put the lines {begin} and {end} where it belongs")
    write_whole(page, f"{before[:first]}{begin}\n{text.strip()}\n{before[last:]}")
