"""Classes that the command line gives by name or by number."""

from collections.abc import Sequence

from genlab.runs.errors import UsageError
from genlab.suggestions import did_you_mean

MAX_LISTED = 20
"""Largest number of classes that an error lists."""


def class_numbers(given: Sequence[str], names: Sequence[str]) -> list[int]:
    """The numbers of classes, each of which is given by its name, in upper or lower case, or by its number.

    Args:
        given: Names or numbers. A name counts first where a class has a number as its name.
        names: Names of all classes; empty if they are not known.

    Raises:
        UsageError: There is no class of this name, or one class is given twice.

    >>> class_numbers(["Star", "0"], ["moon", "star"])
    [1, 0]
    """
    numbers = [_class_number(text, names) for text in given]
    for place, number in enumerate(numbers):
        if number in numbers[:place]:
            raise UsageError(f"--class {','.join(given)} gives class {given[place]} twice; give each class once")
    return numbers


def _class_number(text: str, names: Sequence[str]) -> int:
    folded = [number for number, name in enumerate(names) if name.casefold() == text.casefold()]
    found = [number for number in folded if names[number] == text] or folded
    if len(found) == 1:
        return found[0]
    if text.isdecimal():
        return int(text)
    if not names:
        raise UsageError(
            f"the names of the classes are not known, so there is no class {text}; give the number of the class, or"
            " name the data with --data"
        )
    listed = ", ".join(names) if len(names) <= MAX_LISTED else f"{names[0]} to {names[-1]}"
    raise UsageError(f"there is no class {text}{did_you_mean(text, names) or f'; the classes are {listed}'}")
