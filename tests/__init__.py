"""The tests of genlab."""

import time
from collections.abc import Callable

HANG_SECONDS = 240.0
"""Far longer than anything takes on a slow and busy machine, so that what hangs fails its test, and only that."""


def wait_for(condition: Callable[[], object], missing: str = "it never came") -> None:
    deadline = time.monotonic() + HANG_SECONDS
    while not condition():
        assert time.monotonic() < deadline, missing
        time.sleep(0.02)
