"""Every config fits, for one batch of small data, and says at its head how it is run."""

from pathlib import Path

import pytest
import yaml

import train
from lit_models import Classifier
from tests.helpers import fit, saved, small_autoencoder

CONFIGS = sorted(Path("configs").glob("*.yaml"))
CODE_WIDTH = 3
OF_PICTURES = {"texture": "TextureSynthesis", "inversion": "FeatureInversion", "style": "StyleTransfer"}
"""Configs of images by descent, which are not named after the model and the data."""


def colour_encoder(data_root: Path, folder: Path) -> Path:
    """The checkpoint of a small autoencoder of coloured images."""
    small = [*small_autoencoder(), "--data=CIFAR10DataModule", f"--data.root={data_root}", "--data.val_size=20"]
    result = train.main(["fit", *small, "--trainer.max_epochs=1", f"--run.root={folder / 'encoder'}"])
    return result.folder / "checkpoints" / "best.ckpt"


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_config_fits(path: Path, data_root: Path, encoder_checkpoint: Path, tmp_path: Path):
    small = ["--data.size=32", "--data.steps_per_epoch=1"]
    if path.stem not in OF_PICTURES:
        small = [f"--data.root={data_root}", "--data.val_size=20", "--data.batch_size=20"]
    args = [f"--config={path}", *small]
    if "Probe" in path.read_text():
        encoder = colour_encoder(data_root, tmp_path) if "CIFAR10" in path.read_text() else encoder_checkpoint
        args += [f"--model.encoder_checkpoint={encoder}", f"--model.latent_dim={CODE_WIDTH}"]
    else:
        args.append("--trainer.limit_val_batches=1")
    if "ClassifierFeatures" in path.read_text():
        shape = (3, 32, 32) if "CIFAR10" in path.read_text() else (1, 28, 28)
        judge = saved(Classifier(channels=(4,), feature_dim=8, image_shape=shape), tmp_path / "judge.ckpt")
        args.append(f"--model.perceptual.checkpoint={judge}")
    result = fit(
        tmp_path,
        *args,
        "--trainer.max_epochs=1",
        "--trainer.limit_train_batches=1",
        "--trainer.limit_test_batches=1",
        "--run.pictures=false",
    )
    assert result.metrics and result.folder.parent.name == path.stem


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_config_names_its_command(path: Path):
    head = [line for line in path.read_text().splitlines() if line.startswith("#")]
    assert any(f"python train.py fit --config {path}" in line for line in head)
    kind = yaml.safe_load(path.read_text())["model"]["class_path"]
    assert kind == OF_PICTURES.get(path.stem, kind) and path.stem.split("_")[0] in (kind.lower(), *OF_PICTURES)
