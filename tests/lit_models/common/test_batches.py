"""Batches of a DataLoader of the user's own, given to a plain Trainer."""

from typing import Any

import pytest
import torch
from lightning import Trainer
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch.utils.data import DataLoader, TensorDataset

from lit_models import DDPM, GAN, Autoencoder, Classifier, ConditionalGAN, Pix2Pix
from lit_models.common.batches import check_range
from lit_models.common.discriminators import MLPDiscriminator
from lit_models.common.generators import MLPGenerator
from lit_models.common.module import GenerativeModule

IMAGES = torch.rand(8, 1, 28, 28, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(8) % 4


def autoencoder() -> Autoencoder:
    return Autoencoder(latent_dim=2, depth=2, hidden_dim=8)


def gan() -> GAN:
    return GAN(latent_dim=2, generator=MLPGenerator((8,)), discriminator=MLPDiscriminator((8,)))


def fit(model: GenerativeModule, data: Any, validation: Any = None) -> None:
    trainer = Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False
    )
    trainer.fit(model, DataLoader(data, batch_size=4), validation and DataLoader(validation, batch_size=4))


@pytest.mark.parametrize("make", [autoencoder, gan])
@pytest.mark.parametrize("data", [TensorDataset(IMAGES), IMAGES])
def test_images_alone_train_a_model_that_uses_no_labels(make: Any, data: Any):
    model = make()
    before = [p.clone() for p in model.parameters()]
    fit(model, data)
    assert not all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


@pytest.mark.parametrize(
    ("make", "data", "message"),
    [
        (
            autoencoder,
            TensorDataset(255 * IMAGES, LABELS),
            r"are float32 from 0\.\d+ to 25\d, and Autoencoder takes floats",
        ),
        (autoencoder, TensorDataset((255 * IMAGES).byte(), LABELS), r"are uint8 from 0 to 25\d, and Autoencoder takes"),
        (autoencoder, TensorDataset(2 * IMAGES - 1, LABELS), r"from -\S+ to \S+, .*\[0, 1\]: scale them, such as"),
        (autoencoder, TensorDataset(IMAGES / 0, LABELS), r"are float32 from (nan|inf) to (nan|inf), and"),
        (
            autoencoder,
            [{"image": image} for image in IMAGES],
            r"a batch is a dict, and Autoencoder takes \(images, lab",
        ),
        (lambda: Classifier(channels=(4,)), IMAGES, r"has images only, and Classifier learns from \(images, labels\)"),
        (lambda: DDPM(conditional=True), TensorDataset(IMAGES), r"has images only, and DDPM learns from \(images, lab"),
        (lambda: ConditionalGAN(latent_dim=2), IMAGES, "has images only, and ConditionalGAN learns from"),
        (Pix2Pix, IMAGES, r"has images only, and Pix2Pix learns from \(source, target\)"),
    ],
)
def test_batches_that_a_model_cannot_learn_from_are_refused_in_one_line(make: Any, data: Any, message: str):
    with pytest.raises(MisconfigurationException, match=message) as caught:
        fit(make(), data)
    assert "\n" not in str(caught.value)


def test_validation_images_are_checked_too_and_each_fit_anew():
    model, good, bad = autoencoder(), TensorDataset(IMAGES, LABELS), TensorDataset(3 * IMAGES, LABELS)
    fit(model, good, good)
    for data, validation in ((good, bad), (bad, good)):
        with pytest.raises(MisconfigurationException, match=r"float32 from 0\.\d+ to [23]"):
            fit(model, data, validation)


def test_codes_and_labels_have_any_range():
    check_range((torch.randn(4, 9), LABELS), autoencoder())
