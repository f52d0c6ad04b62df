import inspect
from typing import Optional, Union, get_args, get_type_hints

from lightning import Trainer

from genlab.cli import lightning_cli  # noqa: F401  it orders the hints of the trainer
from genlab.cli.integers_first import integers_first


def test_whole_numbers_are_integers_whatever_was_imported_before():
    def function(a: Optional[Union[float, int]], b: float | str, c: int | float): ...  # noqa: UP007, UP045

    integers_first(function)
    assert [get_args(hint) for hint in get_type_hints(function).values()] == [
        (int, float, type(None)),
        (float, str),
        (int, float),
    ]
    hints = [get_args(parameter.annotation) for parameter in inspect.signature(Trainer).parameters.values()]
    both = [kinds for kinds in hints if {int, float} <= set(kinds)]
    assert both and all(kinds[0] is int for kinds in both)
