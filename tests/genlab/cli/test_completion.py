"""Completion of the shell by shtab."""

import shutil
import subprocess
from pathlib import Path

import pytest

from genlab.cli.main import main

WORDS = {
    "s": {"sweep", "sample"},
    "sweep r": {"run", "report"},
    "sweep run --ov": {"--override"},
    "sample --guid": {"--guidance-scale"},
    "fit --trainer.max_e": {"--trainer.max_epochs"},
    "fit --model.recipe.n_c": {"--model.recipe.n_critic"},
    "test --run.ro": {"--run.root"},
}
ASK = """
source "$1"
COMP_WORDS=(genlab $2); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); COMP_LINE="genlab $2"; COMP_POINT=${#COMP_LINE}
_shtab_genlab
echo "${COMPREPLY[*]}"
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("shtab")
    path = tmp_path_factory.mktemp("completion") / "genlab.bash"
    with pytest.MonkeyPatch.context() as patch, open(path, "w") as file:
        patch.setattr("sys.argv", ["genlab"])
        patch.setattr("sys.stdout", file)
        with pytest.raises(SystemExit, match="0"):
            main(["--print_completion", "shtab-bash"])
    return path


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize("typed", WORDS)
def test_bash_completes_commands_and_options(typed: str, script: Path):
    done = subprocess.run(
        ["bash", "-c", ASK, "ask", str(script), typed], capture_output=True, text=True, check=True, timeout=60
    )
    assert set(done.stdout.split()) == WORDS[typed]


def test_the_script_is_small_enough_for_a_shell_to_start_with(script: Path):
    assert script.stat().st_size < 1_000_000


def test_without_shtab_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["--print_completion", "shtab-bash"]) == 2
    assert capsys.readouterr().err == "error: completion needs shtab; pip install 'genlab[completion]'\n"
