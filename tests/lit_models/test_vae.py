import math

import pytest
import torch
from lightning import Trainer
from torch.distributions import Bernoulli, Laplace, Normal

from datamodules import DigitsDataModule
from lit_models import GenerativeModule
from lit_models.common.encoder_decoders import MLPNetworks, StridedNetworks
from lit_models.common.latent_distributions import Gaussian, GumbelSoftmax, Joint
from lit_models.common.learned_posteriors import FlowPosterior
from lit_models.common.learned_priors import FlowPrior, VampPrior
from lit_models.losses.likelihood import log_likelihood
from lit_models.vae import VAE

SMALL = MLPNetworks((16,))


def vae(**arguments: object) -> VAE:
    torch.manual_seed(0)
    return VAE(**{"latent_dim": 2, "networks": SMALL, **arguments})  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["bernoulli", "gaussian", "laplace"])
def test_likelihoods_are_torchs(kind: str):
    logits, images = torch.randn(3, 1, 4, 4), torch.rand(3, 1, 4, 4).round()
    means = logits.sigmoid()
    distribution = {"bernoulli": Bernoulli(means), "gaussian": Normal(means, 0.3), "laplace": Laplace(means, 0.3)}[kind]
    found = log_likelihood(kind, logits, images, 0.3)  # type: ignore[arg-type]
    assert torch.allclose(found, distribution.log_prob(images).sum(dim=(1, 2, 3)), rtol=1e-4)


def test_log_prob_of_a_discrete_model_is_that_of_enumerating_its_codes():
    """p(x) = mean over the 3^2 codes of p(x|z); from 20,000 draws, whose standard error is below 0.004."""
    model = vae(
        latent_distribution=GumbelSoftmax(categories=3), image_shape=(1, 3, 3), importance_samples=20_000
    ).eval()
    x = torch.rand(2, 1, 3, 3).round()
    one_hot = torch.eye(3)
    codes = torch.stack([torch.cat([one_hot[i], one_hot[j]]) for i in range(3) for j in range(3)])
    with torch.no_grad():
        by_code = torch.stack(
            [log_likelihood("bernoulli", model.decoder(codes), image.expand(9, 1, 3, 3)) for image in x]
        )
        exact = by_code.logsumexp(dim=1) - math.log(9)
        assert torch.allclose(model.log_prob(x), exact, atol=0.02)


def test_log_prob_of_a_gaussian_model_is_that_of_quadrature():
    model = vae(
        latent_dim=1, image_shape=(1, 3, 3), importance_samples=20_000, likelihood="gaussian", likelihood_scale=0.3
    ).eval()
    x = torch.rand(2, 1, 3, 3)
    z = torch.linspace(-8, 8, 4001)[:, None]
    with torch.no_grad():
        logits = model.decoder(z)
        on_grid = torch.stack([log_likelihood("gaussian", logits, image.expand(4001, 1, 3, 3), 0.3) for image in x])
        exact = (on_grid + Normal(0.0, 1.0).log_prob(z[:, 0])).logsumexp(dim=1) + math.log(16 / 4000)
        assert torch.allclose(model.log_prob(x), exact, atol=0.03)


def test_more_importance_samples_tighten_the_bound():
    x = torch.rand(64, 1, 28, 28).round()
    bounds = []
    for samples in (1, 10, 300):
        model = vae(importance_samples=samples).eval()
        with torch.no_grad():
            model.encoder.networks[0][-1].weight.mul_(30)  # a posterior far from the true one
            bounds.append(float(model.log_prob(x).mean()))
    assert bounds[0] < bounds[1] < bounds[2]


def test_log_prob_decodes_a_few_draws_at_a_time(monkeypatch: pytest.MonkeyPatch):
    model, sizes = vae(importance_samples=50).eval(), []
    monkeypatch.setattr("lit_models.vae.MAX_DECODED_PIXELS", 8 * 28 * 28 * 7)
    model.decoder.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    with torch.no_grad():
        model.log_prob(torch.rand(8, 1, 28, 28))
    assert max(sizes) == 8 * 7 and sum(sizes) == 8 * 50


def test_terms_are_sums_over_pixels_and_dimensions_averaged_over_images():
    model = vae(beta=4.0).eval()
    x = torch.rand(6, 1, 28, 28)
    with torch.no_grad():
        one_by_one = [model.latent_distribution.kl(model.encoder(image[None])) for image in x]
        terms = model.loss_terms((x, torch.zeros(6)))
    assert torch.allclose(terms["kl"], torch.cat(one_by_one).mean(), rtol=1e-4)
    assert torch.allclose(terms["loss"], terms["reconstruction"] + 4 * terms["kl"])
    assert terms["reconstruction"] > 28 * 28 * 0.5  # an untrained decoder: about log 2 for each pixel
    assert torch.allclose(terms["mse"], (model.reconstruct(x) - x).square().mean())


def test_the_weight_of_the_kl_rises_over_the_warmup_and_is_whole_in_evaluation():
    model, x = vae(beta=2.0, kl_warmup_steps=10), (torch.rand(4, 1, 28, 28), torch.zeros(4))
    for step, weight in ((0, 0.2), (4, 1.0), (9, 2.0), (500, 2.0)):
        model.optimizer_steps.fill_(step)
        terms = model.train().loss_terms(x)
        assert torch.allclose(terms["loss"], terms["reconstruction"] + weight * terms["kl"])
    model.optimizer_steps.fill_(0)
    terms = model.eval().loss_terms(x)
    assert torch.allclose(terms["loss"], terms["reconstruction"] + 2 * terms["kl"])


def test_the_temperatures_step_is_the_optimizers_and_in_the_checkpoint(tmp_path):
    model = vae(latent_distribution=GumbelSoftmax(categories=3))
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=3,
        limit_train_batches=4,
        accumulate_grad_batches=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, datamodule=DigitsDataModule())
    assert trainer.global_step == 6 and model.optimizer_steps == 5  # before the sixth
    trainer.save_checkpoint(tmp_path / "vae.ckpt")
    loaded = GenerativeModule.load(tmp_path / "vae.ckpt")
    assert isinstance(loaded, VAE) and loaded.optimizer_steps == 5


def test_components_are_rebuilt_from_a_checkpoint(tmp_path):
    distribution, networks = (
        Joint(categories=2, variables=1, temperature=0.9),
        StridedNetworks(depth=1, channel_factor=2),
    )
    model = vae(latent_distribution=distribution, networks=networks)
    trainer = Trainer(
        accelerator="cpu", max_steps=1, logger=False, enable_checkpointing=False, enable_progress_bar=False
    )
    trainer.fit(model, datamodule=DigitsDataModule())
    trainer.save_checkpoint(tmp_path / "vae.ckpt")
    loaded = VAE.load(tmp_path / "vae.ckpt")
    assert (
        loaded.latent_distribution.as_config() == distribution.as_config()
        and loaded.networks.as_config() == networks.as_config()
    )
    x = torch.rand(3, 1, 28, 28)
    with torch.no_grad():
        assert torch.equal(loaded.encode(x), model.eval().encode(x))


@pytest.mark.parametrize(
    "distribution",
    [
        Gaussian(),
        GumbelSoftmax(3),
        Joint(3),
        Gaussian(FlowPosterior("spline", 1, (8,)), FlowPrior(maps=1)),
        Gaussian(prior=VampPrior(4, "random")),
    ],
)
def test_weights_of_half_precision_do(distribution):
    model, x = (
        vae(latent_distribution=distribution, importance_samples=2).to(torch.bfloat16),
        torch.rand(4, 1, 28, 28).bfloat16(),
    )
    for training in (True, False):
        assert torch.isfinite(model.train(training).loss_terms((x, torch.zeros(4)))["loss"])
    assert torch.isfinite(model.log_prob(x)).all() and torch.isfinite(model.sample(3)).all()


def test_sampling_refuses_a_class():
    with pytest.raises(ValueError, match="VAE was trained without labels and cannot be asked for class 3"):
        vae().sample(2, label=3)


def test_the_spec_figures_are_the_defaults():
    model = VAE(latent_dim=3, image_shape=(3, 28, 28))
    assert [p.shape for n, p in model.named_parameters() if n.endswith("weight")] == [
        (512, 2352), (256, 512), (6, 256), (256, 3), (512, 256), (2352, 512)
    ]  # fmt: skip
    assert isinstance(model.latent_distribution, Gaussian)
    assert not isinstance(model.encoder.networks[0][-1], torch.nn.ReLU)


def test_a_layer_without_width_raises_an_error():
    with pytest.raises(ValueError, match=r"hidden_dims is \[16, 0\]; each width must be at least 1"):
        MLPNetworks((16, 0))


def test_a_joint_code_has_an_encoder_for_each_half():
    model = VAE(latent_dim=3, latent_distribution=Joint(), image_shape=(3, 28, 28))
    assert len(model.encoder.networks) == 2 and model.decoder[0].in_features == 63


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"latent_dim": 0}, "latent_dim is 0"),
        ({"beta": float("nan")}, "beta is nan"),
        ({"likelihood_scale": 0.0}, "likelihood_scale 0.0"),
        ({"beta": -1.0}, "beta is -1"),
        ({"kl_warmup_steps": -1}, "kl_warmup_steps -1"),
        ({"importance_samples": -5}, "importance_samples -5"),
    ],
)
def test_invalid_options_raise_an_error(arguments: dict, complaint: str):
    with pytest.raises(ValueError, match=complaint):
        vae(**arguments)
