from pathlib import Path

import numpy as np
import pytest
import torch

from datamodules import AnomalyMNISTDataModule, DataError, DigitsDataModule, MNISTDataModule
from datamodules.anomaly_mnist import MAX_PER_KIND
from datamodules.letters import FONTS, LETTERS, letters
from tests.helpers import write_npz


@pytest.fixture
def data(data_root: Path) -> AnomalyMNISTDataModule:
    return AnomalyMNISTDataModule(root=str(data_root), val_size=50)


def of_kind(data: AnomalyMNISTDataModule, name: str) -> np.ndarray:
    tensors = data._tensors(torch.device("cpu"))
    return tensors["x_test"][tensors["y_test"] == data.classes.index(name), 0].numpy()


def originals(root: Path) -> tuple[np.ndarray, np.ndarray]:
    with np.load(root / "mnist.npz") as file:
        return file["x_test"], file["y_test"]


def found(images: np.ndarray, among: np.ndarray) -> np.ndarray:
    """For each image, the number of the same one among the others; -1 for none."""
    same = (images[:, None] == among[None]).all(axis=(2, 3))
    return np.where(same.any(axis=1), same.argmax(axis=1), -1)


def test_training_and_validation_are_normal_and_the_test_begins_with_the_normal_images(data, data_root: Path):
    data.setup()
    plain = MNISTDataModule(root=str(data_root), val_size=50)
    plain.setup()
    for split in ("train", "val"):
        assert torch.equal(data.examples(split, 999)[0].sum(0), plain.examples(split, 999)[0].sum(0))
        assert data.examples(split, 999)[1].unique().tolist() == [0]
    labels = torch.cat([labels for _, labels in data.test_dataloader()])
    assert labels.tolist() == sorted(labels.tolist()) and labels.bincount().tolist() == [100] * 5
    assert np.array_equal(of_kind(data, "normal"), originals(data_root)[0])


def test_at_most_a_thousand_images_of_each_anomaly_are_made(tmp_path: Path):
    write_npz(tmp_path / "mnist.npz", (28, 28), n_train=20, n_test=1500)
    labels = AnomalyMNISTDataModule(root=str(tmp_path))._tensors(torch.device("cpu"))["y_test"]
    assert labels.bincount().tolist() == [1500] + [MAX_PER_KIND] * 4


def test_inverted_images_are_inverted_test_images(data, data_root: Path):
    assert np.array_equal(255 - of_kind(data, "inverted"), originals(data_root)[0])


def test_rotated_images_are_rotated_test_images_that_do_not_look_like_digits(data, data_root: Path):
    images, digits = originals(data_root)
    turned = of_kind(data, "rotated")
    quarter = found(np.rot90(turned[:50], -1, (1, 2)), images)
    half = found(np.rot90(turned[50:], 2, (1, 2)), images)
    assert (quarter >= 0).all() and 0 not in digits[quarter]
    assert (half >= 0).all() and set(digits[half]) <= {3, 4, 7}


def test_anomalous_digits_are_those_of_scikit_learn(data):
    tensors = DigitsDataModule()._tensors(torch.device("cpu"))
    every = torch.cat([tensors["x_train"], tensors["x_test"]])[:, 0].numpy()
    assert (found(of_kind(data, "digits"), every) >= 0).all()


def test_letters_have_the_size_and_the_centre_of_mnist():
    images = letters(200).astype(np.float64)
    rows, columns = np.mgrid[:28, :28]
    for image in images:
        there = np.argwhere(image > 0)
        height, width = there.max(axis=0) - there.min(axis=0) + 1
        assert 15 <= max(height, width) <= 20
        centre = [(image * axis).sum() / image.sum() for axis in (rows, columns)]
        assert np.abs(np.array(centre) - 13.5).max() <= 1.5 + 1e-9  # half a pixel of rounding, one of shift


def test_letters_do_not_look_like_digits_and_all_differ():
    assert len(set(LETTERS)) == len(LETTERS) == 18 and not set(LETTERS) & set("BDGIOQSZ")
    assert len(np.unique(letters(400).reshape(400, -1), axis=0)) > 395


def test_letters_are_the_same_every_time_and_more_do_not_change_the_first():
    assert np.array_equal(letters(30), letters(50)[:30])


def test_the_fonts_come_with_matplotlib():
    import matplotlib

    assert len(FONTS) == 12
    assert all(Path(matplotlib.get_data_path(), "fonts", "ttf", name).is_file() for name in FONTS)


def test_few_shot_is_refused_as_anomalies_have_no_training_images(data_root: Path):
    with pytest.raises(DataError, match="0 training images of class inverted"):
        AnomalyMNISTDataModule(root=str(data_root), val_size=50, labels_per_class=1).setup()
