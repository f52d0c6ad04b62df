"""For the documentation site: examples in docstrings become code blocks."""

import textwrap
from collections.abc import Iterator
from typing import Any

import griffe


class Examples(griffe.Extension):
    """Puts a fence around each example of a docstring, which Markdown would take for a quotation."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = "\n".join(fenced(obj.docstring.value.splitlines()))


def fenced(lines: list[str]) -> Iterator[str]:
    """The lines of a docstring, with a fence around each block that begins with `>>>` and ends with an empty line."""
    block: list[str] = []
    for line in [*lines, ""]:
        if block and not line.strip():
            indent = " " * (len(block[0]) - len(block[0].lstrip()))
            yield from textwrap.indent(
                "\n".join(["```python", *textwrap.dedent("\n".join(block)).splitlines(), "```"]), indent
            ).splitlines()
            block = []
        if block or line.lstrip().startswith(">>>"):
            block.append(line)
        else:
            yield line
