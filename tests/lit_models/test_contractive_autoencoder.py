from pathlib import Path

import pytest
import torch
from lightning import Trainer, seed_everything
from torch.func import functional_call, jacrev, vmap

from datamodules import DigitsDataModule
from lit_models.common.encoder_decoders import MLPNetworks, Networks, StridedNetworks
from lit_models.contractive_autoencoder import ContractiveAutoencoder
from lit_models.losses.penalty import estimated_contraction

SHAPE = (1, 8, 8)


def exact(encoder: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    """||dh/dx||_F^2 by the whole Jacobian."""
    jacobian = vmap(jacrev(lambda image: encoder(image[None])[0]))(images)  # (N, d, C, H, W)
    return jacobian.flatten(1).square().sum(dim=1)


def test_the_closed_form_is_that_of_the_whole_jacobian():
    torch.manual_seed(0)
    model, x = ContractiveAutoencoder(5, image_shape=SHAPE).double(), torch.rand(4, *SHAPE, dtype=torch.float64)
    torch.nn.init.normal_(model.encoder.linear.weight)
    closed = model.contraction(x, model.encode(x))
    assert torch.allclose(closed.double(), exact(model.encoder, x), rtol=1e-5)
    assert model.loss_terms((x, None))["penalty"].item() == pytest.approx(closed.mean().item())


@pytest.mark.parametrize("networks", [MLPNetworks((16,), "tanh"), StridedNetworks(2, 3, hidden_dim=8)])
def test_the_estimate_is_unbiased(networks: Networks):
    """The mean of 4000 draws lies within five of its standard errors: a false alarm in 4 million, an image."""
    torch.manual_seed(0)
    encoder, x = networks.build_encoder(SHAPE, 6), torch.rand(3, *SHAPE)
    truth = exact(encoder, x)
    with torch.no_grad():
        draws = torch.stack([estimated_contraction(encoder, x) for _ in range(4000)])
    error = draws.std(dim=0) / len(draws) ** 0.5
    assert ((draws.mean(dim=0) - truth).abs() < 5 * error).all()
    assert (error < 0.02 * truth).all()  # or the test would tell nothing


def test_more_probes_spread_less():
    """The variance of a mean of 16 is a 16th; the ratio of two variances of 1000 draws is within 1.5 of it."""
    torch.manual_seed(0)
    encoder, x = MLPNetworks((16,), "tanh").build_encoder(SHAPE, 6), torch.rand(1, *SHAPE)
    with torch.no_grad():
        spread = [
            torch.stack([estimated_contraction(encoder, x, probes) for _ in range(1000)]).var() for probes in (1, 16)
        ]
    assert 16 / 1.5 < spread[0] / spread[1] < 16 * 1.5


def test_one_dimensional_codes_need_no_luck():
    torch.manual_seed(0)
    encoder, x = MLPNetworks((16,), "tanh").build_encoder(SHAPE, 1), torch.rand(3, *SHAPE)
    assert torch.allclose(estimated_contraction(encoder, x), exact(encoder, x), rtol=1e-4)


def test_the_estimates_gradient_is_that_of_the_whole_jacobian():
    """With a code of one dimension, where the estimate is exact."""
    torch.manual_seed(0)
    encoder, x = MLPNetworks((16,), "tanh").build_encoder(SHAPE, 1), torch.rand(3, *SHAPE)
    weights = dict(encoder.named_parameters())

    def reference(weights: dict) -> torch.Tensor:
        return exact(lambda images: functional_call(encoder, weights, (images,)), x).sum()

    by_hand = torch.func.grad(reference)(weights)
    estimated_contraction(encoder, x).sum().backward()
    for name, parameter in weights.items():
        found = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        assert torch.allclose(found, by_hand[name], rtol=1e-3, atol=1e-5), name


@pytest.mark.parametrize(("inference_mode", "precision"), [(True, "bf16-mixed"), (False, "32-true")])
def test_the_estimate_is_logged_where_gradients_are_off(inference_mode: bool, precision: str, tmp_path: Path):
    seed_everything(0, verbose=False)
    model = ContractiveAutoencoder(4, networks=StridedNetworks(2, 4), probes=64)
    trainer = Trainer(
        accelerator="cpu",
        precision=precision,
        inference_mode=inference_mode,
        max_epochs=1,
        limit_train_batches=2,
        limit_val_batches=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    data = DigitsDataModule(batch_size=40)
    trainer.fit(model, datamodule=data)
    assert trainer.callback_metrics["val/penalty"] > 0
    [found] = trainer.test(model, datamodule=data, verbose=False)
    images = data.examples("test", 1000)[0]
    assert found["test/penalty"] == pytest.approx(exact(model.encoder, images).mean().item(), rel=0.1)
    assert all(parameter.grad is None or not parameter.grad.isnan().any() for parameter in model.parameters())


def test_a_heavier_penalty_contracts():
    x = DigitsDataModule().examples("train", 100)[0]
    found = []
    for weight in (0.0, 10.0):
        torch.manual_seed(0)
        model = ContractiveAutoencoder(16, weight)
        optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
        for _ in range(60):
            optimizer.zero_grad()
            terms = model.loss_terms((x, None))
            terms["loss"].backward()
            optimizer.step()
        found.append(terms["penalty"].item())
    assert found[1] < 0.5 * found[0]


def test_the_decoder_is_the_encoders_transpose():
    model, codes = ContractiveAutoencoder(5, image_shape=SHAPE), torch.rand(3, 5)
    by_hand = codes @ model.encoder.linear.weight + model.decoder.bias
    assert torch.allclose(model.decoder(codes).flatten(1), by_hand, atol=1e-6)
    assert sum(p.numel() for p in model.parameters()) == 5 * 64 + 5 + 64


@pytest.mark.parametrize("arguments", [{"latent_dim": 0}, {"penalty_weight": -1.0}, {"probes": 0}])
def test_invalid_arguments_raise_an_error(arguments: dict):
    with pytest.raises(ValueError, match="latent_dim is"):
        ContractiveAutoencoder(**arguments)
