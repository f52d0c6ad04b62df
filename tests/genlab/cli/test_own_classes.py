"""A model and a data module of somebody else's package, in a folder that holds nothing else."""

import os
import subprocess
from pathlib import Path

import pytest

from genlab.runs.folder import read_summary
from tests import HANG_SECONDS, preloaded

MODEL = '''
import torch
from torch import nn
from torch.nn import functional as F
from lit_models.common.autoencoder_base import AutoencoderBase


class MyModel(AutoencoderBase):
    """Linear encoder and decoder.

    Args:
        width: Width of the code.
        image_shape: Channels, height, width.
        optimizer: Optimizer.
    """

    monitor = ("val/l1", "min")

    def __init__(self, width=3, image_shape=(1, 28, 28), optimizer=torch.optim.Adam):
        super().__init__(optimizer)
        self.save_hyperparameters()
        pixels = image_shape[0] * image_shape[1] * image_shape[2]
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(pixels, width))
        self.decoder = nn.Sequential(nn.Linear(width, pixels), nn.Unflatten(1, image_shape))

    def loss_terms(self, batch):
        return {"l1": F.l1_loss(self.reconstruct(batch[0]), batch[0])}
'''.replace("image_shape=(1, 28, 28)", "image_shape: tuple[int, int, int] = (1, 28, 28)").replace(
    "width=3", "width: int = 3"
)
DATA = '''
import numpy as np
from datamodules import ImageDataModule


class MyDataModule(ImageDataModule):
    """Squares of two brightnesses."""

    name, image_shape, classes = "squares", (1, 8, 8), ("dark", "bright")

    def read(self):
        y = np.arange(200) % 2
        x = np.broadcast_to((50 + 150 * y)[:, None, None], (200, 8, 8)).astype(np.uint8)
        return {"x_train": x, "y_train": y, "x_test": x, "y_test": y}
'''
SHORT = ["--trainer.max_epochs=1", "--trainer.accelerator=cpu", "--run.pictures=false", "--data.val_size=40"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty folder but for the package `my_package`, where a run was trained."""
    folder = tmp_path_factory.mktemp("empty")
    package = folder / "my_package"
    package.mkdir()
    (package / "__init__.py").write_text(
        "from my_package.data import MyDataModule\nfrom my_package.model import MyModel\n"
    )
    (package / "model.py").write_text(MODEL)
    (package / "data.py").write_text(DATA)
    said = program(folder, "train.py", "fit", "--model=my_package.MyModel", "--data=my_package.MyDataModule", *SHORT)
    assert "test/l1" in said
    return folder


def program(folder: Path, name: str, *args: str, status: int = 0) -> str:
    done = subprocess.run(
        [preloaded.python(), str(preloaded.ROOT / name), *args],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(preloaded.ROOT)},
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
        check=False,
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def checkpoint(folder: Path, name: str = "best.ckpt") -> str:
    [path] = folder.glob(f"runs/mymodel_my/*/checkpoints/{name}")
    return str(path.relative_to(folder))


def test_it_is_tested(folder: Path):
    assert "test/l1" in program(folder, "train.py", "test", f"--ckpt_path={checkpoint(folder)}")


def test_it_is_resumed(folder: Path):
    last = checkpoint(folder, "last.ckpt")
    program(folder, "train.py", "fit", f"--ckpt_path={last}", "--trainer.max_epochs=2")
    summary = read_summary(folder / last.partition("/checkpoints")[0])
    assert summary is not None and summary["state"] == "finished" and summary["images_seen"] == 2 * 128


def test_it_is_sampled_once_it_is_imported(folder: Path):
    sampled = [checkpoint(folder), "--count=4", "--output=grid.png"]
    refused = program(folder, "sample.py", *sampled, status=2)
    assert (
        "my_package.model.MyModel is no imported model; add --import my_package," in refused
        and refused.count("\n") == 1
    )
    program(folder, "sample.py", *sampled, "--import=my_package")
    assert (folder / "grid.png").is_file()


def test_short_names_do_where_the_package_is_imported(folder: Path):
    args = ["--import=my_package", "--model=MyModel", "--data=MyDataModule", "--run.name=short"]
    program(folder, "train.py", "fit", *args, *SHORT)
    path = "runs/mymodel_my/short"
    assert "import: my_package" in (folder / path / "config.yaml").read_text()
    program(folder, "train.py", "test", f"--ckpt_path={path}/checkpoints/best.ckpt")
    summary = read_summary(folder / path)
    assert summary is not None and "import" not in summary["config"]


def test_it_is_in_no_list(folder: Path):
    for command in ("models", "data"):
        listed = program(folder, "genlab/__main__.py", command)
        assert "Data" in listed or "VAE" in listed
        assert "MyModel" not in listed and "MyDataModule" not in listed


def test_its_options_have_help_and_suggestions(folder: Path):
    assert "Width of the code." in program(folder, "train.py", "fit", "--model.help=my_package.MyModel")
    args = ["--model=my_package.MyModel", "--data=my_package.MyDataModule", "--model.widht=3"]
    wrong = program(folder, "train.py", "fit", *args, status=2)
    assert "there is no option --model.widht of MyModel; did you mean --model.width?" in wrong
