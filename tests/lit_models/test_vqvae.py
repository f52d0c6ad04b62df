"""VQ-VAE: its loss by hand, the use of its codes, half precision, and a resumed run."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch.nn import functional as F

from genlab.callbacks.checkpoints import LastCheckpoint
from genlab.callbacks.exact_resume import ExactResume
from lit_models import VQVAE
from lit_models.common.capabilities import HasCodeMaps, Samples, Tokenizes
from lit_models.common.map_networks import MapNetworks
from lit_models.common.quantizers import FiniteScalarQuantizer, Quantizer, VectorQuantizer
from tests.lit_models.adversaries import adam, batches_of, fitted, half, weights_of

SHAPE = (1, 8, 8)


def vqvae(quantizer: Quantizer | None = None, **options: Any) -> VQVAE:
    torch.manual_seed(0)
    return VQVAE(
        MapNetworks(1, 4), quantizer or VectorQuantizer(6, 3), image_shape=SHAPE, **{"optimizer": adam, **options}
    )


def images(n: int = 24) -> torch.Tensor:
    return torch.rand(n, *SHAPE, generator=torch.Generator().manual_seed(1))


def loader() -> Any:
    return batches_of((255 * images()).byte(), 8)


def test_the_loss_is_the_papers():
    model, x = vqvae(VectorQuantizer(6, 3, beta=0.7)).eval(), images()
    z = model.encoder.network(x).view(24, 3, 4, 4)
    e = model.codebook.lookup(model.tokenize(x))
    means = model.decode(e.flatten(1))
    entropy = -(x * means.log() + (1 - x) * (1 - means).log()).sum() / 24
    distance = (z - e).square().sum() / 24
    terms = model.loss_terms((x, x))
    assert next(iter(terms)) == "loss"
    assert terms["reconstruction"].item() == pytest.approx(entropy.item(), rel=1e-5)
    assert terms["commitment"].item() == pytest.approx(distance.item(), rel=1e-5)
    assert terms["loss"].item() == pytest.approx((entropy + 0.7 * distance).item(), rel=1e-5)
    assert terms["mse"].item() == pytest.approx(F.mse_loss(means, x).item(), rel=1e-5)


def test_a_training_step_learns_the_codes_of_its_batch():
    """The step's loss is that of the codes before it, which the first batch sets."""
    model, x = vqvae(), images()
    before = model.codebook.codes.clone()
    terms = model.train().loss_terms((x, x))
    rows = model.encoder.maps(x).permute(0, 2, 3, 1).flatten(0, 2)
    tokens = model.eval().tokenize(x)
    assert not torch.isclose(model.codebook.codes, before).any()
    means = torch.stack([rows[tokens.flatten() == k].mean(dim=0) for k in range(6)])
    assert (model.codebook.codes - means).norm() < (before - means).norm() / 2
    assert terms["usage"] == 1 and 1 < terms["perplexity"] <= 6


def test_the_use_of_codes_is_that_of_all_images():
    model = vqvae(VectorQuantizer(40, 3)).eval()
    for batch in images().split(5):
        terms = model.loss_terms((batch, batch))
    counts = torch.bincount(model.tokenize(images()).flatten(), minlength=40)
    assert torch.equal(model.use.compute(), counts) and "usage" not in terms
    trainer = fitted(model, loader(), limit_train_batches=1)
    trainer.validate(model, loader(), verbose=False)
    counts = torch.bincount(model.tokenize(loader().images / 255).flatten(), minlength=40)
    shares = counts[counts > 0] / counts.sum()
    logged = trainer.callback_metrics
    assert logged["val/perplexity"].item() == pytest.approx((-(shares * shares.log()).sum()).exp().item(), rel=1e-5)
    assert logged["val/usage"].item() == pytest.approx(len(shares) / 40)


def test_scalars_have_no_commitment_and_half_of_the_weights_bits():
    model = vqvae(FiniteScalarQuantizer((4, 3)))
    fitted(model, loader(), precision="bf16-true")
    terms = model.float().loss_terms((images(), images()))
    assert "commitment" not in terms and terms["loss"] is terms["reconstruction"]
    with pytest.raises(MisconfigurationException, match="a codebook does not change in half precision"):
        fitted(vqvae(), loader(), precision="bf16-true")


def test_codes_follow_the_encoder_in_half_precision():
    whole, scaled = vqvae(), vqvae()
    fitted(whole, loader())
    fitted(scaled, loader(), plugins=[half(2.0**8)])
    assert scaled.codebook.codes.dtype == torch.float32
    torch.testing.assert_close(scaled.codebook.codes, whole.codebook.codes, rtol=0.05, atol=0.05)


def test_it_has_maps_and_tokens_and_no_prior():
    model = vqvae()
    assert isinstance(model, HasCodeMaps) and isinstance(model, Tokenizes) and not isinstance(model, Samples)
    assert (model.code_shape, model.token_shape, model.codebook_size) == ((3, 4, 4), (4, 4), 6)
    tokens = torch.randint(6, (2, 4, 4))
    assert torch.equal(
        model.detokenize(tokens), model.decode(model.codebook.codes[tokens].permute(0, 3, 1, 2).flatten(1))
    )


def test_a_resumed_run_is_exact(tmp_path: Path):
    found = {}
    for name, epochs, path in (("whole", 3, None), ("first", 1, None), ("second", 3, tmp_path / "first")):
        model = vqvae(VectorQuantizer(6, 3, renewal=0.9))  # so that each step draws
        checkpoint = None if path is None else path / "checkpoints" / "last.ckpt"
        options = {"max_epochs": epochs, "default_root_dir": tmp_path / name, "ckpt_path": checkpoint}
        fitted(model, loader(), ExactResume(), LastCheckpoint(), **options)
        found[name] = weights_of(model)
    assert all(torch.equal(found["second"][key], tensor) for key, tensor in found["whole"].items())
    assert not torch.equal(found["first"]["encoder.codebook.codes"], found["whole"]["encoder.codebook.codes"])
