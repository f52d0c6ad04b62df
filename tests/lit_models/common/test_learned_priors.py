import math
from pathlib import Path

import pytest
import torch
import zuko
from lightning import Trainer
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import nn
from torch.distributions import Categorical, Independent, MixtureSameFamily
from torch.distributions import Normal as NormalOf
from torch.utils.data import DataLoader, TensorDataset

from datamodules import DigitsDataModule
from genlab.latents import has_normal_prior
from lit_models import VAE, GenerativeModule
from lit_models.common.code_distributions import LearnedGaussian
from lit_models.common.encoder_decoders import MLPNetworks
from lit_models.common.latent_distributions import Gaussian
from lit_models.common.learned_posteriors import FlowPosterior
from lit_models.common.learned_priors import FlowPrior, VampDistribution, VampPrior
from lit_models.common.priors import Normal
from lit_models.common.vae_objectives import ELBO, ImportanceWeighted
from lit_models.networks.autoregressive_flow import AutoregressiveFlow, FlowKind
from tests.lit_models.common.linear_gaussian import X, batch, evidence, log_likelihood, true_posterior

SMALL = MLPNetworks((8,))
KINDS: list[FlowKind] = ["affine", "spline"]
IMAGES = (1, 2, 2)


def woken(flow: nn.Module) -> nn.Module:
    """With larger weights, far from the identity."""
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.mul_(2)
    return flow


def vamp(components: int = 5, initial: str = "random") -> VampDistribution:
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(4, 6))
    prior = VampPrior(components, initial).build(3, encoder, IMAGES)  # type: ignore[arg-type]
    nn.init.uniform_(prior.pseudo_inputs)  # type: ignore[attr-defined]
    return prior  # type: ignore[return-value]


def mixture(prior: VampDistribution) -> MixtureSameFamily:
    mean, log_var = prior._encoder[0](prior.pseudo_inputs).chunk(2, dim=1)
    each = Independent(NormalOf(mean, (0.5 * log_var).exp()), 1)
    return MixtureSameFamily(Categorical(torch.ones(len(mean))), each)


def test_the_vamp_priors_density_is_that_of_the_mixture_of_posteriors():
    prior, z = vamp(), 3 * torch.randn(50, 3)
    assert torch.allclose(prior.log_prob(z), mixture(prior).log_prob(z), atol=1e-4)


def test_samples_of_the_vamp_prior_are_those_of_the_mixture():
    """Means and variances of 20,000 draws within 5 standard errors, of about 0.01."""
    prior = vamp()
    z, exact = prior.sample(20_000), mixture(prior)
    assert torch.allclose(z.mean(dim=0), exact.mean, atol=0.05) and torch.allclose(
        z.var(dim=0), exact.variance, atol=0.06
    )


def test_a_pseudo_input_outside_the_range_is_clamped_and_still_trained():
    prior = vamp()
    z, inside = torch.randn(4, 3), prior.pseudo_inputs.detach().clone()
    inside[0] = 1.0
    with torch.no_grad():
        prior.pseudo_inputs.copy_(inside)
        expected = prior.log_prob(z)
        prior.pseudo_inputs[0] = 1.3
    found = prior.log_prob(z)
    found.sum().backward()
    assert torch.allclose(found, expected) and prior.pseudo_inputs.grad[0].all()


@pytest.mark.parametrize("dim", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_flows_are_invertible_and_their_log_determinants_are_autograds(kind: FlowKind, dim: int):
    torch.manual_seed(0)
    flow = woken(AutoregressiveFlow(kind, dim, 2, 2, (8,)))
    x, context = torch.randn(6, dim), torch.randn(6, 2)
    y, log_det = flow(x, context)
    assert torch.allclose(flow.inverse(y, context), x, atol=1e-4) and not torch.allclose(y, x, atol=0.1)
    for i in range(6):
        jacobian = torch.autograd.functional.jacobian(lambda x, i=i: flow(x, context[i])[0], x[i])
        assert torch.allclose(log_det[i], jacobian.det().abs().log(), atol=1e-4)


@pytest.mark.parametrize(("kind", "flow"), [("affine", zuko.flows.MAF), ("spline", zuko.flows.NSF)])
def test_the_flow_priors_density_is_zukos(kind: FlowKind, flow: type):
    prior = woken(FlowPrior(kind, 2, (8,)).build(3, nn.Identity(), IMAGES))
    theirs = flow(3, transforms=2, hidden_features=(8,))
    theirs.transform.load_state_dict(prior.flow.transform.state_dict())
    z = torch.randn(20, 3)
    assert torch.allclose(prior.log_prob(z), theirs().log_prob(z), atol=1e-5)
    torch.manual_seed(1)
    ours = prior.sample(4)
    torch.manual_seed(1)
    assert torch.allclose(ours, theirs().transform.inv(torch.randn(4, 3)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dim", [1, 2])
def test_the_flow_priors_density_integrates_to_one(kind: FlowKind, dim: int):
    torch.manual_seed(0)
    prior = FlowPrior(kind, 2, (8,)).build(dim, nn.Identity(), IMAGES)
    axis = torch.linspace(-9, 9, 9001 if dim == 1 else 181)
    with torch.no_grad():
        density = prior.log_prob(torch.cartesian_prod(*[axis] * dim).view(-1, dim)).exp()
    assert math.isclose(density.sum() * (axis[1] - axis[0]) ** dim, 1, abs_tol=2e-3)


def flow_gaussian(kind: FlowKind) -> LearnedGaussian:
    """Codes of two dimensions with a flow as posterior and as prior."""
    torch.manual_seed(0)
    distribution = Gaussian(FlowPosterior(kind, 2, (8,), 3), FlowPrior(kind, 1, (8,)))
    built = distribution.build(2, nn.Identity(), IMAGES)
    assert isinstance(built, LearnedGaussian)
    return built


@pytest.mark.parametrize("kind", KINDS)
def test_importance_weights_of_a_flow_posterior_average_to_the_evidence(kind: FlowKind):
    """In a linear Gaussian model, whose prior is N(0, I); 20,000 draws, for which the errors are about 0.02."""
    torch.manual_seed(0)
    flow = FlowPosterior(kind, 2, (8,), 3)
    model = Gaussian(flow).build(2, nn.Identity(), IMAGES)
    params = torch.cat([true_posterior() + torch.tensor([0.0, 0.0, 1.5, 1.5]), torch.randn(3, 3)], dim=1)
    with torch.no_grad():
        codes, log_ratio = model.sample_with_log_ratio(params, 20_000)
        found = (log_likelihood(codes) + log_ratio).logsumexp(dim=0) - math.log(20_000)
    assert torch.allclose(found, evidence(), atol=0.1)
    plain = Gaussian().sample_with_log_ratio(params[:, :4], 20_000)[0]
    assert (codes.mean(dim=0) - plain.mean(dim=0)).abs().max() > 0.05  # the flow does something


def test_one_importance_sample_is_the_evidence_bound_of_learned_distributions():
    model, params, terms = flow_gaussian("affine"), torch.randn(3, 7), []
    for objective in (ELBO(), ImportanceWeighted(1)):
        torch.manual_seed(1)
        terms.append(objective.loss_terms(batch(params, model, X))["loss"])
    assert torch.allclose(terms[0], terms[1])


@pytest.mark.parametrize("kind", KINDS)
def test_prior_and_posterior_flows_are_densities_of_the_same_codes(kind: FlowKind):
    """Importance weights p / q of draws of q average to 1, the integral of p."""
    model = flow_gaussian(kind)
    params = torch.cat([torch.zeros(2, 2), torch.full((2, 2), 0.5), torch.randn(2, 3)], dim=1)
    with torch.no_grad():
        _, log_ratio = model.sample_with_log_ratio(params, 20_000)
        assert torch.allclose(log_ratio.exp().mean(dim=0), torch.ones(2), atol=0.1)


def vae(distribution: Gaussian, **options: object) -> VAE:
    torch.manual_seed(0)
    return VAE(2, distribution, SMALL, **options)  # type: ignore[arg-type]


def fit(model: VAE, folder: Path, **data: object) -> Trainer:
    trainer = Trainer(
        accelerator="cpu",
        max_steps=2,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    trainer.fit(model, **(data or {"datamodule": DigitsDataModule()}))  # type: ignore[arg-type]
    return trainer


def test_pseudo_inputs_start_at_training_images_and_a_checkpoint_keeps_them(tmp_path: Path):
    model = vae(Gaussian(prior=VampPrior(7)), optimizer=lambda params: torch.optim.SGD(params, lr=0.0))
    trainer = fit(model, tmp_path)
    first = model.prior.pseudo_inputs.detach().clone()
    assert torch.allclose(first, DigitsDataModule().examples("train", 7)[0], atol=0.06)
    trainer.save_checkpoint(tmp_path / "vae.ckpt")
    loaded = VAE.load(tmp_path / "vae.ckpt")
    assert loaded.latent_distribution.as_config() == model.latent_distribution.as_config()
    with torch.no_grad():
        loaded.prior.pseudo_inputs.mul_(0.5)
    fit(loaded.train(), tmp_path)
    moved = loaded.prior.pseudo_inputs - 0.5 * first
    assert moved.abs().max() < 0.1  # trained, and not set again


def test_pseudo_inputs_need_a_data_module_unless_they_are_random(tmp_path: Path):
    loader = DataLoader(TensorDataset(torch.rand(4, 1, 28, 28), torch.zeros(4)), batch_size=4)
    with pytest.raises(MisconfigurationException, match=r"there is none: .* VampPrior\(initial='random'\)"):
        fit(vae(Gaussian(prior=VampPrior(3))), tmp_path, train_dataloaders=loader)
    fit(vae(Gaussian(prior=VampPrior(3, "random"))), tmp_path, train_dataloaders=loader)


def test_fewer_training_images_than_pseudo_inputs_are_repeated():
    prior = vamp(5, "data")
    prior.initialize(lambda n: torch.rand(3, *IMAGES))
    first = prior.pseudo_inputs.detach().clone()
    assert torch.allclose(first[0], first[3], atol=0.1) and not torch.equal(first[0], first[3])
    prior.initialize(lambda n: torch.zeros(n, *IMAGES))
    assert torch.equal(prior.pseudo_inputs, first)


@pytest.mark.parametrize(
    "distribution",
    [Gaussian(FlowPosterior("spline", 1, (8,)), FlowPrior("affine", 1, (8,))), Gaussian(prior=VampPrior(4, "random"))],
)
def test_learned_distributions_are_rebuilt_from_a_checkpoint(distribution: Gaussian, tmp_path: Path):
    model = vae(distribution, importance_samples=2)
    fit(model, tmp_path).save_checkpoint(tmp_path / "vae.ckpt")
    loaded, x = GenerativeModule.load(tmp_path / "vae.ckpt"), torch.rand(3, 1, 28, 28)
    outputs = []
    for each in (model.eval(), loaded):
        torch.manual_seed(2)
        with torch.no_grad():
            outputs.append([each.encode(x), each.sample(4), each.log_prob(x), each.encoder_network()(x)])
    assert all(torch.equal(a, b) for a, b in zip(*outputs, strict=True))
    own = sum(p.numel() for p in model.encoder_network().parameters())
    flow = getattr(model.code_distribution.posterior, "flow", None)
    assert own == sum(p.numel() for module in (model.encoder, flow or nn.Identity()) for p in module.parameters())


def test_pictures_know_whether_the_prior_is_normal():
    assert has_normal_prior(vae(Gaussian(prior=Normal()))) and has_normal_prior(vae(Gaussian(FlowPosterior())))
    assert not has_normal_prior(vae(Gaussian(prior=FlowPrior())))


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: VampPrior(0), "components is 0"),
        (lambda: FlowPrior(maps=0), "maps is 0"),
        (lambda: FlowPosterior(hidden_dims=(8, 0)), r"hidden_dims \[8, 0\]"),
        (lambda: FlowPosterior(context_dim=0), "context_dim is 0"),
        (lambda: Gaussian(FlowPosterior(), VampPrior()), "leave out posterior, or give FlowPrior"),
    ],
)
def test_invalid_options_raise_an_error(make, complaint: str):
    with pytest.raises(ValueError, match=complaint):
        make()
