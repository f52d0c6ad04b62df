from pathlib import Path

import torch

from datamodules import BinarizedMNISTDataModule, MNISTDataModule


def test_pixels_are_black_or_white(data_root: Path):
    data = BinarizedMNISTDataModule(root=str(data_root), val_size=50)
    for split in ("train", "val", "test"):
        assert set(data.examples(split, 100)[0].unique().tolist()) == {0.0, 1.0}  # type: ignore[arg-type]


def test_each_pixel_is_white_as_often_as_it_is_bright(data_root: Path):
    """Over 2,000 epochs each frequency is within 5.5 standard deviations: a chance of 3e-4 for 8,000 pixels."""
    images, labels = MNISTDataModule(root=str(data_root), val_size=50).examples("test", 10)
    transform = BinarizedMNISTDataModule(seed=0).batch_transform("train")
    index, epochs = torch.arange(10), 2000
    share = torch.stack([transform(images, labels, index, epoch)[0] for epoch in range(epochs)]).mean(dim=0)
    deviation = (images * (1 - images) / epochs).sqrt()
    assert ((share - images).abs() <= 5.5 * deviation).all()


def test_black_stays_black_and_white_white():
    images = torch.stack([torch.zeros(1, 28, 28), torch.ones(1, 28, 28)]).repeat(500, 1, 1, 1)
    made, _ = BinarizedMNISTDataModule(seed=0).batch_transform("train")(
        images, torch.zeros(1000), torch.arange(1000), 0
    )
    assert torch.equal(made, images)


def test_labels_are_the_digits(data_root: Path):
    options = {"root": str(data_root), "val_size": 50, "seed": 0}
    plain, binary = (kind(**options).examples("test", 50)[1] for kind in (MNISTDataModule, BinarizedMNISTDataModule))
    assert torch.equal(plain, binary)
