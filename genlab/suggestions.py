"""Suggestions for names that do not exist."""

import difflib
from collections.abc import Iterable


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """The end of a sentence, `; did you mean VAE?`, with the known name that is nearest; empty where none is near.

    >>> did_you_mean("MyVAE", ["GAN", "VAE"])
    '; did you mean VAE?'
    """
    names = {name.casefold(): name for name in known}
    near = difflib.get_close_matches(str(word).casefold(), names, n=1)
    return f"; did you mean {names[near[0]]}?" if near else ""
