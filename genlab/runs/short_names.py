"""Short names of classes and config keys, for tables, charts and names of runs."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

MODULE_PREFIX = re.compile(r"^([A-Za-z_]\w*\.)+(?=[A-Z]\w*$)")
"""The modules before the name of a class."""


def short_class(value: Any) -> str:
    """Returns a value as text, the name of a class without its modules.

    >>> short_class("lit_models.VAE"), short_class("runs/a.b/last.ckpt")
    ('VAE', 'runs/a.b/last.ckpt')
    """
    return MODULE_PREFIX.sub("", str(value))


def last_word(key: str) -> str:
    """Returns the last word of a dotted key."""
    return key.rpartition(".")[2]


def short_labels(keys: Iterable[str]) -> dict[str, str]:
    """Returns the last word of each key, or the whole key where several keys have the same last word."""
    return unambiguous({key: last_word(key) for key in keys})


def short_classes(values: Iterable[str]) -> dict[str, str]:
    """Returns the name of each class without its modules, or the whole text where two names are the same."""
    return unambiguous({value: short_class(value) for value in values})


def unambiguous(short: Mapping[str, str]) -> dict[str, str]:
    """Returns short names by whole ones, with the whole name in the place of each short one that is not unique."""
    names = list(short.values())
    return {whole: name if names.count(name) == 1 else whole for whole, name in short.items()}
