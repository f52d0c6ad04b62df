import io
import os
import pty
import subprocess
from pathlib import Path

from tests import HANG_SECONDS, preloaded
from tests.helpers import fit, small_autoencoder

ROOT = Path(__file__).parent.parent.parent.parent


def test_plain_lines_without_a_terminal(tmp_path: Path, capsys):
    fit(tmp_path)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Autoencoder of ") and str(tmp_path) in lines[0]
    assert any(line.startswith("epoch 2/2  train/mse 0.") and " val/mse 0." in line for line in lines)
    assert lines[-1].startswith("test/mse 0.") and "\x1b" not in "".join(lines)


def test_a_bar_on_a_terminal(tmp_path: Path):
    main, other = pty.openpty()
    process = subprocess.Popen(
        [preloaded.python(), "train.py", "fit", *small_autoencoder(), f"--run.root={tmp_path}"],
        cwd=ROOT,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
        stdin=other,
        stdout=other,
        stderr=other,
    )
    os.close(other)
    output = io.BytesIO()
    while True:
        try:
            chunk = os.read(main, 4096)
        except OSError:  # the other end was closed
            break
        if not chunk:
            break
        output.write(chunk)
    assert process.wait(HANG_SECONDS) == 0, output.getvalue().decode()
    text = output.getvalue().decode()
    assert "Epoch 1/2" in text and "Epoch 2/2" in text and "Epoch 0" not in text and "━" in text and "val/mse" in text
