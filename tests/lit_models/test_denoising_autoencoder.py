import math
from pathlib import Path

import pytest
import torch
from lightning import Trainer
from torchmetrics.functional.image import peak_signal_noise_ratio

from datamodules import DigitsDataModule
from genlab.callbacks.denoising import Denoising
from lit_models.common.corruptions import Blur, ColoredBlob, GaussianNoise, LaplaceNoise, Masking
from lit_models.common.encoder_decoders import MLPNetworks
from lit_models.denoising_autoencoder import DenoisingAutoencoder
from lit_models.losses.distortion import psnr

NETWORKS = MLPNetworks((16,))


def measured(model: DenoisingAutoencoder, folder: Path) -> dict[str, float]:
    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        callbacks=[Denoising(4)],
        default_root_dir=folder,
    )
    [found] = trainer.test(model, datamodule=DigitsDataModule(batch_size=20), verbose=False)
    return dict(found)


def test_psnr_is_torchmetrics():
    generator = torch.Generator().manual_seed(0)
    a, b = torch.rand(2, 5, 3, 8, 8, generator=generator)
    each = [peak_signal_noise_ratio(x[None], y[None], data_range=1.0).item() for x, y in zip(a, b, strict=True)]
    assert psnr(a, b).tolist() == pytest.approx(each, rel=1e-5)
    assert psnr(a, a).tolist() == pytest.approx([100.0] * 5)


@pytest.mark.parametrize(
    ("corruption", "likelihood", "kind"),
    [
        (GaussianNoise(), None, "gaussian"),
        (LaplaceNoise(), None, "laplace"),
        (Masking(), "bernoulli", "bernoulli"),
        (None, None, "gaussian"),
    ],
)
def test_the_loss_is_the_likelihood_of_the_clean_image_given_the_corrupted_one(corruption, likelihood, kind: str):
    model = DenoisingAutoencoder(4, corruption, Blur(), NETWORKS, likelihood, likelihood_scale=0.2)
    x = torch.rand(6, 1, 28, 28)
    torch.manual_seed(5)
    terms = model.loss_terms((x, None))
    torch.manual_seed(5)
    corrupted = x if corruption is None else corruption(x)
    mean = model.reconstruct(corrupted)
    distribution = {
        "gaussian": torch.distributions.Normal(mean, 0.2),
        "laplace": torch.distributions.Laplace(mean, 0.2),
        "bernoulli": torch.distributions.Bernoulli(mean, validate_args=False),
    }[kind]
    by_hand = -distribution.log_prob(x).flatten(1).sum(dim=1).mean()
    assert terms["loss"].item() == pytest.approx(by_hand.item(), rel=1e-4)
    assert terms["mse"].item() == pytest.approx((mean - x).square().mean().item(), rel=1e-5)


def test_a_model_that_gives_back_its_input_gains_nothing():
    """And the corrupted image's own error is the noise's, -20 log10 of its deviation, where nothing is cut off."""

    class Copy(DigitsDataModule):
        def examples(self, *args, **kwargs):
            images, labels = super().examples(*args, **kwargs)
            return images * 0.2 + 0.4, labels

        def _loader(self, *args, **kwargs):
            loader = super()._loader(*args, **kwargs)
            loader.augmentation = lambda images, generator: images * 0.2 + 0.4
            return loader

    model = DenoisingAutoencoder(4, GaussianNoise(0.05), networks=NETWORKS)
    model.encoder, model.decoder = torch.nn.Identity(), Logit()
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    [found] = trainer.test(model, datamodule=Copy(batch_size=20), verbose=False)
    assert found["test/psnr_gain"] == pytest.approx(0, abs=1e-3)
    assert found["test/psnr_corrupted"] == pytest.approx(-20 * math.log10(0.05), abs=0.05)


class Logit(torch.nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.logit()


def test_the_test_corrupts_alike_each_time_and_leaves_a_picture(tmp_path: Path):
    model = DenoisingAutoencoder(4, GaussianNoise(0.3), networks=NETWORKS)
    torch.manual_seed(1)
    first = measured(model, tmp_path)
    torch.manual_seed(2)
    assert measured(model, tmp_path) == first
    assert (tmp_path / "media" / "denoising.png").stat().st_size > 100
    assert first["test/psnr_gain"] == pytest.approx(first["test/psnr"] - first["test/psnr_corrupted"], abs=1e-4)


def test_a_model_of_clean_images_is_tested_on_corrupted_ones(tmp_path: Path):
    torch.manual_seed(0)
    model = DenoisingAutoencoder(4, None, ColoredBlob(0.4), NETWORKS)
    x = torch.rand(3, 1, 28, 28)
    assert model.loss_terms((x, None))["mse"] == torch.nn.functional.mse_loss(model.reconstruct(x), x)
    assert not torch.equal(model.corrupt(x), x)
    assert measured(model, tmp_path)["test/psnr_corrupted"] < 25


@pytest.mark.parametrize("test_corruption", [None, ColoredBlob(0.4)])
def test_corruptions_are_rebuilt_from_a_checkpoint(test_corruption, tmp_path: Path):
    model = DenoisingAutoencoder(4, Masking(0.7), test_corruption, NETWORKS)
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, max_steps=1, limit_val_batches=0)
    trainer.fit(model, datamodule=DigitsDataModule(batch_size=20))
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    loaded = DenoisingAutoencoder.load(tmp_path / "a.ckpt")
    assert isinstance(loaded.corruption, Masking) and loaded.corruption.strength == 0.7
    assert type(loaded.test_corruption) is type(test_corruption)
    x = torch.rand(3, 1, 28, 28)
    same = [made.corrupt(x, torch.Generator().manual_seed(0)) for made in (model, loaded)]
    assert torch.equal(*same)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({}, "no images are corrupted"),
        ({"corruption": Masking(), "latent_dim": 0}, "latent_dim is 0"),
        ({"corruption": Masking(), "likelihood_scale": 0.0}, "likelihood_scale 0.0"),
    ],
)
def test_invalid_arguments_raise_an_error(arguments: dict, complaint: str):
    with pytest.raises(ValueError, match=complaint):
        DenoisingAutoencoder(**arguments)
