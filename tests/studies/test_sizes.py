"""The table of models and sizes on the docs page."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.utils.parametrizations import _SpectralNorm

import train
from lit_models import CycleGAN, GenerativeModule
from lit_models.common.capabilities import Reconstructs, Samples, Translates
from lit_models.common.image_optimization import ImageOptimization
from lit_models.common.image_to_image_gan import ImageToImageGAN
from studies.sizes import ADVICE, PAGE, ROWS, SHAPES, Row, cell, name

FEW = {len(SHAPES) - 1}
SOME = {0, len(SHAPES) - 2, len(SHAPES) - 1}
SLOW = ("DDPM", "ScoreModel", "Probe", "AngleProbe", "EfficientNet")
"""Models that take long to build."""


def test_the_table_has_a_row_for_each_model():
    lines = re.findall(r"^\| (`\w.*?) \|", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert lines == [name(row) for row in ROWS], "run python -m studies.sizes"


@pytest.mark.parametrize("whole", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_table_is_what_the_code_does(whole: bool, monkeypatch: pytest.MonkeyPatch):
    """Not the whole one: a few sizes of each row, and all of those rows that have an advice."""
    monkeypatch.setattr(_SpectralNorm, "_power_method", lambda *_: None)  # takes most of the time
    text = PAGE.read_text(encoding="utf-8")
    for row in ROWS:
        (line,) = re.findall(rf"^\| {re.escape(name(row))} \| (.*) \|$", text, flags=re.MULTILINE)
        cells = line.split(" | ")
        checked = FEW if any(word in name(row) for word in SLOW) else SOME
        for place in range(len(SHAPES)) if whole or set(cells) != {"yes"} else checked:
            assert cells[place] == cell(row, SHAPES[place]), f"{name(row)}: run python -m studies.sizes"
        for advice in set(cells) - {"yes"}:
            side = int(ADVICE.search(advice)[1])  # type: ignore[index]
            assert cell(row, (1, side, side)) == cell(row, (3, side, side)) == "yes"


def options(row: Row, shape: tuple[int, int, int], folder: Path) -> list[str]:
    """Returns the options of train.py that train a model on 24 images of a shape."""
    channels, height, width = shape
    pixels = np.random.default_rng(0).integers(0, 256, (24, height, width, channels), np.uint8)
    np.savez(folder / "images.npz", x=pixels, y=np.arange(24) % 3)
    for number, image in enumerate(pixels):
        path = folder / "pairs" / "AB"[number % 2] / f"{number // 2}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.squeeze()).save(path)
    size = [f"--data.size=[{height}, {width}]", f"--data.grayscale={str(channels == 1).lower()}"]
    if issubclass(row.kind, ImageOptimization):
        two = ["--data=StyleTransferDataModule", f"--data.content={path}", f"--data.style={path}"]
        one = ["--data=ReferenceImagesDataModule", f"--data.images={path}"]
        return [*(two if row.model == "StyleTransfer" else one), *size, "--data.steps_per_epoch=1"]
    batches = ["--data.batch_size=2", "--data.eval_batch_size=2"]
    if issubclass(row.kind, CycleGAN | ImageToImageGAN):
        layout = "--data.layout=paired" if row.model == "Pix2Pix" else "--data.layout=unpaired"
        return ["--data=PairedFolderDataModule", f"--data.folder={folder / 'pairs'}", layout, *size, *batches]
    return ["--data=ArrayDataModule", f"--data.file={folder / 'images.npz'}", "--data.layout=NHWC", *batches]


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("row", ROWS, ids=name)
def test_a_model_learns_images_of_each_size(row: Row, shape: tuple[int, int, int], tmp_path: Path):
    """One step, validation, test, and images from the checkpoint."""
    if row.model in ("SRGAN", "AngleProbe") or cell(row, shape) != "yes":
        pytest.skip("no data module has such images of one's own, or the model does not take them")
    once = [f"--trainer.limit_{part}_batches=1" for part in ("train", "val", "test")]
    common = ["fit", *once, "--trainer.max_epochs=1", "--run.pictures=false", f"--run.root={tmp_path / 'runs'}"]
    data, encoder = options(row, shape, tmp_path), []
    if row.has_encoder:
        trained = train.main([*common, "--model=LinearAutoencoder", *data]).folder / "checkpoints" / "last.ckpt"
        encoder = [f"--model.encoder_checkpoint={trained}"]
    run = train.main([*common, *row.options, *encoder, *data])
    model = GenerativeModule.load(run.folder / "checkpoints" / "last.ckpt")
    if isinstance(model, Samples):
        assert model.sample(2).shape == (2, *shape)
    if isinstance(model, Reconstructs | Translates):
        assert model(torch.rand(2, *shape)).shape == (2, *shape)
