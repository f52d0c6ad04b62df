"""Suggestions for names that do not exist."""

import difflib
from collections.abc import Iterable


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """The end of a sentence, `; did you mean VAE?`, with the known name that is nearest or contains it; else empty.

    >>> did_you_mean("MyVAE", ["GAN", "VAE"])
    '; did you mean VAE?'
    """
    names = {name.casefold(): name for name in sorted(known, key=len)}
    text = str(word).casefold()
    near = difflib.get_close_matches(text, names, n=1) or [name for name in names if len(text) > 2 and text in name]
    return f"; did you mean {names[near[0]]}?" if near else ""
