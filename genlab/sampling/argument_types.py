"""Types of the arguments of sample.py."""

import argparse
import math
import os
from collections.abc import Callable
from pathlib import Path


def path(text: str) -> Path:
    return Path(text).expanduser()


def is_folder_name(text: str) -> bool:
    """Whether a path names a folder: it ends in a slash, or has no suffix, or there is a folder."""
    return text.endswith(("/", os.sep)) or not Path(text).suffix or path(text).is_dir()


def steps(text: str) -> int:
    if not text.isdecimal() or int(text) < 2:
        raise argparse.ArgumentTypeError("an interpolation has at least 2 steps")
    return int(text)


def not_negative(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of at least 0")
    return number


def value_range(text: str) -> tuple[float, float]:
    try:
        low, high = map(float, text.split(","))
    except ValueError:
        low = high = math.nan
    if not -math.inf < low < high < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not two numbers of which the second is larger, such as 0,4095")
    return low, high


def seed(text: str) -> int:
    if not text.isdecimal() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to 2^32 - 1")
    return int(text)


def classes(text: str) -> list[str]:
    parts = [part.strip() for part in text.split(",")]
    if not all(parts):
        raise argparse.ArgumentTypeError(f"{text!r} is not a class, such as 3 or star, or several, such as 3,5,7")
    return parts


def file_with(*suffixes: str) -> Callable[[str], Path]:
    """A path that ends in one of these suffixes."""

    def file(text: str) -> Path:
        if path(text).suffix not in suffixes:
            raise argparse.ArgumentTypeError(f"'{text}' ends in none of {', '.join(suffixes)}")
        return path(text)

    return file
