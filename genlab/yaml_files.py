"""Reading YAML that may be broken or hostile: UTF-8 text of a bounded size, without a key that occurs twice."""

import codecs
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from genlab.runs.errors import UsageError

MAX_BYTES = 1_000_000
MAX_DEPTH = 50
MAX_VALUES = 100_000
"""The largest number of values in a document, of which an alias repeats those of its anchor."""
LOADER: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_OTHER_ENCODINGS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


def read_yaml(path: Path, kind: str = "config") -> Any:
    """Reads a YAML file.

    Args:
        path: The file.
        kind: What the file is called in an error message.

    Raises:
        UsageError: it cannot be read, or is no YAML within the bounds; says why, in one line.
    """
    text = read_text(path, kind)
    try:
        return load_yaml(text)
    except yaml.YAMLError as error:
        raise UsageError(f"cannot read the {kind} {path} ({describe(error)})") from error


def read_text(path: Path, kind: str = "config") -> str:
    """Reads a text file in UTF-8.

    Raises:
        UsageError: it is no file, or larger than a megabyte, or in another encoding.
    """
    problem = None
    try:
        # Opening a pipe would wait for a writer, and reading a device might never end.
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            problem = f"it is {'a folder' if stat.S_ISDIR(status.st_mode) else 'a pipe or a device'}; give a file"
        elif status.st_size > MAX_BYTES:
            problem = f"it has {status.st_size:,} bytes, and at most {MAX_BYTES:,} are read"
        else:
            return _decode(path.read_bytes())
    except OSError as error:
        problem = error.strerror or str(error)
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        problem = f"line {line} is not UTF-8 text; save the file as UTF-8"
    except ValueError as error:
        problem = str(error)
    raise UsageError(f"cannot read the {kind} {path} ({problem})")


def load_yaml(text: str, load: Callable[[str], Any] = lambda text: LOADER(text).get_single_data()) -> Any:
    """Returns the value of a YAML document.

    Args:
        text: The document.
        load: Builds the value, once the document is known to be within the bounds.

    Raises:
        YAMLError: it is no YAML within the bounds.
    """
    check_yaml(text)
    try:
        return load(text)
    except ValueError as error:  # such as the date 2020-02-31
        raise yaml.YAMLError(str(error)) from error


def check_yaml(text: str, repeated_keys: bool = False) -> None:
    """Checks a YAML document without building its values, which may be far more than its text.

    Args:
        text: The document.
        repeated_keys: Whether a key may occur twice in a mapping.

    Raises:
        YAMLError: it is no YAML, or nested too deeply, or has too many values, or a key that occurs twice.
    """
    outline = _Outline(repeated_keys)
    for event in yaml.parse(text, Loader=LOADER):
        outline.add(event)


def describe(error: yaml.YAMLError) -> str:
    """The message of an error in one line, with the line in the document."""
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None)
    if mark is None or problem is None:
        return " ".join(str(error).split())
    return f"line {mark.line + 1}: {problem}"


def _decode(content: bytes) -> str:
    """
    Raises:
        ValueError: it is no UTF-8 text.
    """
    for mark, encoding in _OTHER_ENCODINGS.items():
        if content.startswith(mark):
            raise ValueError(f"it is {encoding} text; save the file as UTF-8")
    if b"\0" in content:
        raise ValueError("it is no text file")
    return content.decode("utf-8-sig")


@dataclass
class _Collection:
    """A mapping or sequence whose end was not read yet."""

    anchor: str | None
    is_mapping: bool
    size: int = 1
    """Number of values in it so far, with itself."""
    items: int = 0
    """Number of its direct items so far; those of a mapping are keys and values in turn."""
    keys: dict[str, int] = field(default_factory=dict)
    """The line of each key."""


class _Outline:
    """Follows the events of a document and refuses what is out of bounds.

    Args:
        repeated_keys: Whether a key may occur twice in a mapping.
    """

    def __init__(self, repeated_keys: bool) -> None:
        self.repeated_keys = repeated_keys
        self.open: list[_Collection] = []
        self.sizes: dict[str | None, int] = {}
        """Number of values below each anchor."""

    def add(self, event: Any) -> None:
        """
        Raises:
            YAMLError: the document is out of bounds here.
        """
        if isinstance(event, yaml.CollectionStartEvent):
            self.open.append(_Collection(event.anchor, isinstance(event, yaml.MappingStartEvent)))
            if len(self.open) > MAX_DEPTH:
                raise _error(event, f"it is nested more than {MAX_DEPTH} levels deep")
        elif isinstance(event, yaml.CollectionEndEvent):
            ended = self.open.pop()
            self._count(event, ended.size, ended.anchor)
        elif isinstance(event, yaml.ScalarEvent):
            self._check_key(event)
            self._count(event, 1, event.anchor)
        elif isinstance(event, yaml.AliasEvent):
            if any(collection.anchor == event.anchor for collection in self.open):
                raise _error(event, f"&{event.anchor} contains itself")
            self._count(event, self.sizes.get(event.anchor, 1), None)

    def _count(self, event: Any, size: int, anchor: str | None) -> None:
        if anchor is not None:
            self.sizes[anchor] = size
        if self.open:
            self.open[-1].size += size
            self.open[-1].items += 1
            if self.open[-1].size > MAX_VALUES:
                raise _error(event, f"it has more than {MAX_VALUES:,} values, those of aliases counted each time")

    def _check_key(self, event: Any) -> None:
        holder = self.open[-1] if self.open else None
        if self.repeated_keys or holder is None or not holder.is_mapping or holder.items % 2 or event.value == "<<":
            return
        line = event.start_mark.line + 1
        if event.value in holder.keys:
            raise _error(event, f"key {event.value} occurs twice, first in line {holder.keys[event.value]}")
        holder.keys[event.value] = line


def _error(event: Any, problem: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)
