import math
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from lit_models import Probe
from lit_models.common.capabilities import HasLatentBlocks, LatentBlock, Samples
from lit_models.common.encoder_decoders import MLPNetworks, StridedNetworks
from lit_models.losses.mmd import mmd
from lit_models.wae import WAE
from tests.helpers import fit

SMALL = MLPNetworks((16,))


def wae(**arguments: object) -> WAE:
    torch.manual_seed(0)
    return WAE(**{"latent_dim": 3, "networks": SMALL, "image_shape": (1, 8, 8), **arguments})  # type: ignore[arg-type]


def batch(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.rand(n, 1, 8, 8), torch.arange(n)


@pytest.mark.parametrize("kernel", ["imq", "rbf"])
def test_the_loss_is_the_papers(kernel: str):
    """Cross-entropy of an image in nats, and lambda times the MMD of its batch's codes and as many prior draws."""
    model, (images, labels) = wae(kernel=kernel, regularization=7.0), batch(12)
    torch.manual_seed(1)
    terms = model.loss_terms((images, labels))
    torch.manual_seed(1)
    distance = mmd(kernel, model.encode(images), torch.randn(12, 3))  # type: ignore[arg-type]
    means = model.reconstruct(images)
    entropy = -(images * means.log() + (1 - images) * (1 - means).log()).sum() / 12
    assert next(iter(terms)) == "loss" and terms["mmd"].item() == pytest.approx(distance.item(), abs=1e-6)
    assert terms["reconstruction"].item() == pytest.approx(entropy.item(), rel=1e-5)
    assert terms["loss"].item() == pytest.approx((entropy + 7 * distance).item(), rel=1e-5)
    assert terms["mse"].item() == pytest.approx(F.mse_loss(means, images).item(), rel=1e-5)


def test_a_gaussian_likelihood_is_the_squared_distance():
    """|x - x'|^2 / (2 s^2) and a constant of the number of pixels."""
    model, (images, labels) = wae(likelihood="gaussian", likelihood_scale=0.5), batch(6)
    terms = model.loss_terms((images, labels))
    squared = (images - model.reconstruct(images)).square().sum() / 6
    constant = 64 * math.log(0.5 * math.sqrt(2 * math.pi))
    assert terms["reconstruction"].item() == pytest.approx((squared / (2 * 0.25)).item() + constant, rel=1e-5)


def test_the_codes_approach_the_prior():
    """Of images that say nothing of one another, codes are moved to N(0, I) by the MMD alone."""
    model, images = wae(regularization=1e4, networks=MLPNetworks((64,))), torch.rand(128, 1, 8, 8)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    far = model.loss_terms((images, images))["mmd"]
    for _ in range(120):
        optimizer.zero_grad()
        model.loss_terms((images, images))["loss"].backward()
        optimizer.step()
    codes = model.encode(images)
    assert model.loss_terms((images, images))["mmd"] < 0.05 * far
    assert codes.mean(dim=0).abs().max() < 0.3 and (codes.std(dim=0) - 1).abs().max() < 0.3


def test_a_last_batch_of_one_image_has_no_distance():
    terms = wae().loss_terms(batch(1))
    assert terms["mmd"] == 0 and terms["loss"] == terms["reconstruction"]
    assert torch.isfinite(torch.stack(list(wae().loss_terms(batch(2)).values()))).all()


def test_a_single_image_is_trained_on():
    wae().loss_terms(batch(1))["loss"].backward()


def test_its_codes_are_real_numbers_and_its_prior_is_standard_normal():
    """Means and variances of 20,000 draws, within 4.5 standard errors."""
    model = wae()
    assert isinstance(model, HasLatentBlocks) and isinstance(model, Samples)
    assert model.latent_blocks() == [LatentBlock("continuous", 0, 3)]
    codes = model.sample_prior(20_000)
    assert codes.shape == (20_000, 3)
    assert codes.mean(dim=0).abs().max() < 4.5 / math.sqrt(20_000)
    assert (codes.var(dim=0) - 1).abs().max() < 4.5 * math.sqrt(2 / 20_000)


def test_samples_are_decoded_prior_codes():
    model = wae().eval()
    torch.manual_seed(3)
    codes = model.sample_prior(5)
    torch.manual_seed(3)
    assert torch.equal(model.sample(5), model.decode(codes))


def test_invalid_arguments_raise_an_error():
    for bad in ({"latent_dim": 0}, {"regularization": -1.0}, {"likelihood_scale": 0.0}):
        [(name, value)] = bad.items()
        with pytest.raises(ValueError, match=f"{name} (is )?{value}"):
            wae(**bad)


def test_train_measures_it_and_a_probe_takes_its_encoder(tmp_path: Path):
    options = ["--run.pictures=false", "--model.networks=StridedNetworks", "--model.networks.depth=2"]
    options += ["--model.kernel=rbf", "--data=DigitsDataModule", "--data.val_size=100", "--trainer.max_epochs=1"]
    result = fit(tmp_path, "--model=lit_models.wae.WAE", *options)
    assert {f"test/{term}" for term in ("loss", "reconstruction", "mmd", "mse")} <= result.metrics.keys()
    loaded = WAE.load(result.folder / "checkpoints" / "best.ckpt")
    assert isinstance(loaded.networks, StridedNetworks) and loaded.networks.depth == 2 and loaded.kernel == "rbf"
    probe, images = Probe(str(result.folder / "checkpoints" / "best.ckpt")), torch.rand(3, 1, 28, 28)
    assert torch.equal(probe.encode(images), loaded.encode(images))
