"""Ctrl-C at any moment: one line."""

import signal
import subprocess
import sys

import pytest

from tests import HANG_SECONDS

INTERRUPT = "os.kill(os.getpid(), signal.SIGINT)"


@pytest.mark.parametrize(
    "code",
    [
        INTERRUPT,
        f"try: {INTERRUPT}\nfinally: {INTERRUPT}",
        f"import atexit; atexit.register(lambda: [{INTERRUPT}, time.sleep(9)]); {INTERRUPT}",
    ],
    ids=["once", "twice", "again at the end"],
)
def test_a_program_that_is_interrupted_ends_with_one_line(code: str):
    # A shell may have the signal ignored.
    start = "import os, signal, time; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    start += "from genlab.interrupts import end_quietly_on_interrupt as quiet; quiet()\n"
    done = subprocess.run(
        [sys.executable, "-c", start + code], capture_output=True, text=True, timeout=HANG_SECONDS, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "stopped\n")
