"""What docstrings say of classes."""

import inspect
import re

END_OF_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z`])")


def first_sentence(docstring: str | None) -> str:
    """The first sentence of a docstring in one line.

    >>> first_sentence("Variational autoencoder (Kingma et al. 2014).\\n\\n    Longer.")
    'Variational autoencoder (Kingma et al. 2014).'
    """
    paragraph = " ".join(inspect.cleandoc(docstring or "").split("\n\n")[0].split())
    return END_OF_SENTENCE.split(paragraph)[0]


def summary(of: type) -> str:
    """The first sentence of a class's own docstring, or of the nearest base that has one."""
    return first_sentence(inspect.getdoc(of))
