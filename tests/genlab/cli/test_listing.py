"""`genlab models` and `genlab data` list all that is importable, and nothing else."""

import inspect
import subprocess
import sys

import pytest

import datamodules
import lit_models
from genlab.cli.listing import entries
from genlab.packaged import packaged_names
from tests import preloaded


def test_every_model_is_listed():
    kinds = (getattr(lit_models, name) for name in lit_models.__all__)
    able = {k.__name__ for k in kinds if issubclass(k, lit_models.GenerativeModule) and not inspect.isabstract(k)}
    listed = entries("lit_models", "model")
    assert {entry.name for entry in listed} == able
    assert all(entry.sentence.endswith((".", "?")) for entry in listed)
    vae = next(entry for entry in listed if entry.name == "VAE")
    assert vae.paper.endswith("arXiv 1312.6114") and "vae_mnist" in vae.configs


def test_every_data_module_is_listed():
    assert {entry.name for entry in entries("datamodules", "data")} == set(datamodules.data_modules())


def test_every_config_is_listed_once():
    for package, key in (("lit_models", "model"), ("datamodules", "data")):
        assert sorted(name for entry in entries(package, key) for name in entry.configs) == packaged_names("configs")


def test_a_list_imports_no_torch():
    program = "import sys; from genlab.cli.main import main; main(['models']); sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "VAE\n" in done.stdout and "arXiv 1312.6114" in done.stdout


@pytest.mark.parametrize("args", [["models"], ["data"], ["fit", "--model.help"], ["--print_completion", "shtab-bash"]])
def test_a_reader_may_take_the_first_lines_only(args: list[str]):
    if "--print_completion" in args:
        pytest.importorskip("shtab")
    program = f"from genlab.cli.main import main; raise SystemExit(main({args}))"
    process = subprocess.Popen(
        [preloaded.python(), "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == "" and process.wait() == 0
