"""Has whole numbers read as integers wherever an option takes integers and floats."""

import functools
import operator
from collections.abc import Callable
from typing import Any, get_args


def integers_first(function: Callable[..., Any]) -> None:
    """Puts int before float in the hints of a function, in place.

    jsonargparse tries the types of a union in their order, so that with float first it reads 2 as 2.0.
    `Optional[Union[float, int]]` and `Optional[Union[int, float]]` are equal and share an entry of typing's cache: the
    order in Lightning's hints depends on what else was imported before.

    >>> def train(batches: float | int | None = None): ...
    >>> integers_first(train)
    >>> train.__annotations__["batches"]
    int | float | None
    """
    for name, hint in function.__annotations__.items():
        kinds = get_args(hint)
        if float in kinds and int in kinds:
            ordered = sorted(kinds, key=lambda kind: kind is not int)
            function.__annotations__[name] = functools.reduce(operator.or_, ordered)
