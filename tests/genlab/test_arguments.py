import argparse

import pytest

from genlab.arguments import positive


def test_whole_numbers_above_zero_are_taken():
    assert positive("1") == 1 and positive("070") == 70


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "", "one", "²"])
def test_anything_else_is_refused(text: str):
    with pytest.raises(argparse.ArgumentTypeError, match=f"'{text}' is not a whole number above 0"):
        positive(text)
