"""The pages that the studies write: where they are, and the parts of them that a command replaces."""

import textwrap
from pathlib import Path

from genlab.runs.errors import UsageError
from genlab.runs.folder import write_atomically

REPOSITORY = Path(__file__).resolve().parent.parent
README = REPOSITORY / "README.md"
DOCS = REPOSITORY / "docs"
RESULTS = DOCS / "results.md"


def check_docs() -> None:
    """
    Raises:
        UsageError: The folder docs/ is not beside the folder studies/.
    """
    if not DOCS.is_dir():
        raise UsageError(f"there is no folder {DOCS} to write to; run this command from a checkout of the repository")


def wrap_text(text: str) -> str:
    """Wraps each line of a Markdown text, or each point of a list, at 120 characters."""
    lines = text.strip().split("\n")
    return "\n".join(
        textwrap.fill(line, 120, subsequent_indent="  " * line.startswith("- "), break_on_hyphens=False)
        for line in lines
    )


def replace_section(page: Path, name: str, text: str) -> None:
    """Replaces the text between the lines `<!-- name -->` and `<!-- /name -->` of a page.

    Raises:
        UsageError: The page does not have exactly one of each line, in this order.
    """
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    before = page.read_text(encoding="utf-8")
    first, last = before.find(begin), before.find(end)
    if before.count(begin) != 1 or before.count(end) != 1 or last < first:
        raise UsageError(f"{page} has no place for the table {name}; add the lines {begin} and {end} to it")
    write_atomically(page, f"{before[:first]}{begin}\n{text.strip()}\n{before[last:]}")
