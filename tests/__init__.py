"""The tests of genlab."""

import time
from collections.abc import Callable

HANG_SECONDS = 240.0
"""A timeout far above any duration on a slow and busy machine, so that only a test that hangs fails by it."""


def wait_for(condition: Callable[[], object], missing: str = "it did not happen") -> None:
    """Waits until a condition is true."""
    deadline = time.monotonic() + HANG_SECONDS
    while not condition():
        assert time.monotonic() < deadline, missing
        time.sleep(0.02)
