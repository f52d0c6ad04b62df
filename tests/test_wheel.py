"""The wheel, installed into an empty environment, works from an empty folder that holds modules of the same names."""

import json
import os
import site
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from tests import HANG_SECONDS

ROOT = Path(__file__).parent.parent
SOURCES = (
    "genlab",
    "lit_models",
    "datamodules",
    "configs",
    "sweeps",
    "pyproject.toml",
    "setup.py",
    "README.md",
    "LICENSE",
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, as a build leaves files in its folder."""
    folder = tmp_path_factory.mktemp("wheel")
    copy = folder / "source"
    copy.mkdir()
    subprocess.run(["cp", "-r", *SOURCES, copy], cwd=ROOT, check=True)
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", folder, copy]
    subprocess.run(build, check=True, timeout=HANG_SECONDS)
    return next(folder.glob("*.whl"))


def test_it_holds_the_packages_the_configs_and_the_sweeps(wheel: Path):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {
        "genlab",
        "lit_models",
        "datamodules",
    }
    assert any(name.endswith("licenses/LICENSE") for name in names)
    for kind in ("configs", "sweeps"):
        packed = {Path(name).name for name in names if name.startswith(f"genlab/{kind}/")}
        assert packed == {path.name for path in (ROOT / kind).glob("*.yaml")}
    modules = {name for name in names if name.endswith(".py")}
    ours = {path.relative_to(ROOT) for folder in SOURCES[:3] for path in (ROOT / folder).rglob("*.py")}
    assert modules == {str(path) for path in ours}
    assert {"genlab/report/page/main.js", "genlab/report/compare/page/main.js"} <= set(names)


class Environment:
    """An environment with nothing but the wheel and what it depends on, and an empty folder to work in.

    Both lie in a folder that has commits of its own.
    """

    def __init__(self, root: Path, wheel: Path) -> None:
        git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org", "-C", str(root)]
        subprocess.run([*git, "init", "--quiet"], check=True)
        subprocess.run([*git, "commit", "--quiet", "--allow-empty", "-m", "another project"], check=True)
        venv.create(root / "venv")
        self.bin = root / "venv" / "bin"
        python = self.bin / "python"
        pip = [
            sys.executable,
            "-m",
            "pip",
            f"--python={python}",
            "install",
            "--quiet",
            "--no-deps",
            "--no-index",
            wheel,
        ]
        subprocess.run(pip, check=True, timeout=HANG_SECONDS)
        packages = subprocess.run(
            [python, "-c", "import site; print(site.getsitepackages()[0])"], capture_output=True, text=True, check=True
        )
        (Path(packages.stdout.strip()) / "dependencies.pth").write_text("\n".join(site.getsitepackages()) + "\n")
        self.folder = root / "work"
        self.folder.mkdir()
        for name in ("metrics", "callbacks", "harness", "train", "sweep", "sample"):
            (self.folder / f"{name}.py").write_text(f"raise RuntimeError('the {name} of the user was imported')\n")

    def run(self, *command: str, status: int = 0) -> str:
        hidden = ("PYTHONPATH", "VIRTUAL_ENV")
        environment = {key: value for key, value in os.environ.items() if key not in hidden}
        done = subprocess.run(
            [self.bin / command[0], *command[1:]],
            cwd=self.folder,
            env=environment | {"WANDB_MODE": "disabled"},
            capture_output=True,
            text=True,
            timeout=HANG_SECONDS,
            check=False,
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    return Environment(tmp_path_factory.mktemp("installed"), wheel)


def test_it_is_the_installed_package_that_runs(installed: Environment):
    where = installed.run(
        "python", "-P", "-c", "import genlab, genlab.packaged as p; print(p.packaged_folder('configs'))"
    )
    assert where.strip().startswith(str(installed.bin.parent))
    assert "Autoencoder" in installed.run("genlab", "models") and "genlab sweep run" in installed.run("genlab")


def test_it_trains_sweeps_and_samples(installed: Environment):
    overrides = [f"--override={text}" for text in ("model.latent_dim=2,3", "model.depth=1", "model.channel_factor=2")]
    overrides += ["--override=trainer.max_epochs=1", "--override=run.pictures=false"]
    swept = installed.run("genlab", "sweep", "run", "quickstart", *overrides)
    assert "quickstart: 2 runs finished" in swept
    study = installed.folder / "runs" / "quickstart"
    assert (study / "report" / "index.html").is_file()
    for checkpoint in study.glob("*/checkpoints/best.ckpt"):
        summary = json.loads((checkpoint.parents[1] / "summary.json").read_text())
        assert summary["state"] == "finished" and summary["commit"] is None and "test/mse" in summary["metrics"]
    installed.run("genlab", "sample", checkpoint, "--count=4", "--output=grid.png")
    assert (installed.folder / "grid.png").is_file()
    empty = installed.run("genlab", "sweep", "report", "runs/vae_color", status=2)
    assert "`genlab sweep run vae_color` creates them" in empty and empty.count("\n") == 1
    missing = installed.run("genlab", "sample", "runs/vae_digits/default/checkpoints/best.ckpt", status=2)
    assert "`genlab fit --config vae_digits` makes it" in missing and missing.count("\n") == 1


def test_a_sweep_of_the_users_own_runs_the_program_beside_it(installed: Environment):
    (installed.folder / "own.yaml").write_text(
        "program: train.py\nmethod: grid\nmetric: {name: loss}\nparameters: {a: {values: [1, 2]}}\n"
        "command: ['${program}', '${args}']\n"
    )
    refused = installed.run("genlab", "sweep", "run", "own.yaml", status=2)
    assert "train.py cannot be loaded: RuntimeError: the train of the user was imported" in refused
    (installed.folder / "train.py").write_text("print('a script without a function')\n")
    refused = installed.run("genlab", "sweep", "run", "own.yaml", status=2)
    assert "train.py cannot be loaded: it has no function main(args, report)" in refused
    assert not (installed.folder / "runs" / "own").exists()
    (installed.folder / "train.py").write_text(
        "from types import SimpleNamespace\n\n"
        "def main(args, report):\n    return SimpleNamespace(metrics={'loss': 1.0}, folder='runs/own/a')\n"
    )
    assert "own: 2 runs finished" in installed.run("genlab", "sweep", "run", "own.yaml", "--no-report")
