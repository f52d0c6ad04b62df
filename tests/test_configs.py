"""Every config fits for one batch of small data, and has a head with source, command, time and expected score."""

import itertools
import re
from pathlib import Path

import pytest
import yaml

import train
from lit_models import VAE, VQVAE, Classifier, FlowMatching
from lit_models.common.map_networks import MapNetworks
from lit_models.common.noise_predictors import MLPNoisePredictor
from lit_models.common.quantizers import VectorQuantizer
from studies.page import RESULTS
from tests.helpers import fit, saved, small_autoencoder, write_images
from tests.studies.test_pages import anchors

CONFIGS = sorted(Path("configs").glob("*.yaml"))
CODE_WIDTH = 3
OPTIMIZED = {"texture": "TextureSynthesis", "inversion": "FeatureInversion", "style": "StyleTransfer"}
"""Configs of image optimization, which are not named after the model and the data."""


def colour_encoder(data_root: Path, folder: Path) -> Path:
    """The checkpoint of a small autoencoder of coloured images."""
    small = [*small_autoencoder(), "--data=CIFAR10DataModule", f"--data.root={data_root}", "--data.val_size=20"]
    result = train.main(["fit", *small, "--trainer.max_epochs=1", f"--run.root={folder / 'encoder'}"])
    return result.folder / "checkpoints" / "best.ckpt"


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of images in two classes."""
    folder = tmp_path_factory.mktemp("photos")
    write_images(folder, ("cat", "dog"), n=10)
    return folder


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_config_fits(path: Path, data_root: Path, photos: Path, encoder_checkpoint: Path, tmp_path: Path):
    small = ["--data.size=32", "--data.steps_per_epoch=1"]
    if "ImageFolderDataModule" in path.read_text():
        small = [f"--data.folder={photos}", "--data.cache=null", "--data.val_size=4", "--data.batch_size=4"]
        small.append("--quality.num_images=0")
    elif path.stem not in OPTIMIZED:
        small = [f"--data.root={data_root}", "--data.val_size=20", "--data.batch_size=20"]
    args = [f"--config={path}", *small]
    if "DDPM" in path.read_text():
        args.append("--model.bound_draws=1")
    if "importance_samples" in path.read_text():
        args.append("--model.importance_samples=2")
    if "ODELikelihood" in path.read_text():
        args += ["--model.likelihood.num_images=2", "--model.likelihood.solver=Euler"]
        args.append("--model.likelihood.solver.steps=1")
    if "Reflow" in path.read_text():
        first = saved(FlowMatching(MLPNoisePredictor((4,))), tmp_path / "first.ckpt")
        args += [f"--model.coupling.checkpoint={first}", "--model.coupling.num_pairs=20"]
    if "tokenizer:" in path.read_text():
        shape = (3, 64, 64) if "ImageFolderDataModule" in path.read_text() else (1, 28, 28)
        vqvae = VQVAE(MapNetworks(2, 4), VectorQuantizer(8, 3), image_shape=shape)
        args.append(f"--model.tokenizer={saved(vqvae, tmp_path / 'vqvae.ckpt')}")
    if "GatedPixelCNN" in path.read_text():
        args += ["--model.network.width=4", "--data.batch_size=5"]
    if "class_path: GLO" in path.read_text():
        args.append("--model.encode_steps=2")
    if "Probe" in path.read_text():
        encoder = colour_encoder(data_root, tmp_path) if "CIFAR10" in path.read_text() else encoder_checkpoint
        args += [f"--model.encoder_checkpoint={encoder}", f"--model.latent_dim={CODE_WIDTH}"]
    else:
        args.append("--trainer.limit_val_batches=1")
    if "    autoencoder:" in path.read_text():
        shape = (1, 28, 28) if "mnist" in path.stem else (3, 32, 32) if "cifar10" in path.stem else (3, 64, 64)
        autoencoder = VAE(98 if shape[1] == 28 else 256, networks=MapNetworks(2, 4), image_shape=shape)
        args.append(f"--model.autoencoder={saved(autoencoder, tmp_path / 'autoencoder.ckpt')}")
    if "ClassifierFeatures" in path.read_text():
        shape = (3, 32, 32) if "CIFAR10" in path.read_text() else (1, 28, 28)
        classifier = saved(Classifier(channels=(4,), feature_dim=8, image_shape=shape), tmp_path / "classifier.ckpt")
        args.append(f"--model.perceptual.checkpoint={classifier}")
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
def test_a_config_has_a_head(path: Path):
    """The head says what the config is, its source, command, time and expected score, with links to the results."""
    text = path.read_text()
    head = list(itertools.takewhile(lambda line: line.startswith("#"), text.splitlines()))
    fields = re.findall(r"^# (Source|Command|Needs|Time|Expect|Note): \S", "\n".join(head), flags=re.MULTILINE)
    assert [field for field in fields if field not in ("Needs", "Note")] == ["Source", "Command", "Time", "Expect"]
    assert not head[0].startswith("# Source") and head[0].endswith(".")
    assert any(line.startswith(f"# Command: python train.py fit --config {path}") for line in head)
    linked = set(re.findall(r"docs/results\.md#([\w-]+)", text))
    assert linked <= set(anchors(RESULTS)), sorted(linked)
    kind = yaml.safe_load(text)["model"]["class_path"]
    assert kind == OPTIMIZED.get(path.stem, kind) and path.stem.split("_")[0] in (kind.lower(), *OPTIMIZED)
