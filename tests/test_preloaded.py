"""The preloaded Python of the tests behaves like Python."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests import HANG_SECONDS, preloaded, wait_for

PROGRAM = """
import os, sys, threading, time
text = sys.stdin.read()
print(sys.argv, os.getcwd(), os.environ["GENLAB_WORD"], text, __name__, sys.path[0])
threading.Timer(0.2, lambda: print("the last thread")).start()
print("wrong", file=sys.stderr)
"""
ENDS = [
    ("pass", 0),
    ("import sys; sys.exit(3)", 3),
    ("import sys; sys.exit('no')", 1),
    ("raise SystemExit", 0),
    ("import os; os._exit(5)", 5),
    ("1 / 0", 1),
    ("raise KeyboardInterrupt", -signal.SIGINT),
    ("import os; os.kill(os.getpid(), 9)", -signal.SIGKILL),
    ("import os; os.kill(os.getpid(), 15)", -signal.SIGTERM),
]
WAITS = """
import os, time
open("pid", "w").write(str(os.getpid()))
os.rename("pid", "here")
time.sleep(1000)
"""


def run_python(python: str, folder: Path, *args: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [python, *args],
        cwd=folder,
        env={**os.environ, "GENLAB_WORD": "word"},
        input="a question",
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("how", [["program.py", "a", "-b"], ["-c", PROGRAM, "a"], ["-m", "program", "a"]])
def test_it_prints_what_python_prints(how: list[str], tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    ours = run_python(preloaded.python(), tmp_path, *how)
    expected = run_python(sys.executable, tmp_path, *how)
    assert ours[0] == 0 and "a question" in ours[1] and "the last thread" in ours[1] and ours[2] == "wrong\n"
    first = str(tmp_path)  # with -c it is empty, which means the same folder
    assert [ours[0], ours[1].replace(first, ""), ours[2]] == [expected[0], expected[1].replace(first, ""), expected[2]]


@pytest.mark.parametrize(("program", "status"), ENDS)
def test_it_exits_like_python(program: str, status: int, tmp_path: Path) -> None:
    assert run_python(preloaded.python(), tmp_path, "-c", program)[0] == status


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_signal_reaches_it(number: signal.Signals, tmp_path: Path) -> None:
    process = subprocess.Popen([preloaded.python(), "-c", WAITS], cwd=tmp_path, stderr=subprocess.DEVNULL)
    wait_for((tmp_path / "here").exists)
    pid = int((tmp_path / "here").read_text())
    process.send_signal(number)
    assert process.wait(HANG_SECONDS) == -number
    wait_for(lambda: not Path(f"/proc/{pid}").exists(), "the process still exists")


def test_other_options_are_passed_to_python(tmp_path: Path) -> None:
    status, output, _ = run_python(preloaded.python(), tmp_path, "--version")
    assert status == 0 and output.startswith("Python 3")
