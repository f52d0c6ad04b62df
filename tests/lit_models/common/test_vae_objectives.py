import itertools
import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from lit_models import VAE
from lit_models.common.latent_distributions import Gaussian, GumbelSoftmax, Joint
from lit_models.common.learned_posteriors import FlowPosterior
from lit_models.common.learned_priors import FlowPrior
from lit_models.common.vae_objectives import ELBO, ImportanceWeighted, TotalCorrelation, VAEObjective
from lit_models.losses.variational import (
    decompose_kl,
    importance_weighted_bound,
    log_batch_weights,
    normal_log_density,
)
from tests.lit_models.common.linear_gaussian import X, batch, evidence, log_likelihood, true_posterior

DRAWS = 20_000


def rough_posterior() -> Tensor:
    """Parameters of a posterior that is not the true one."""
    return true_posterior() + torch.tensor([0.3, -0.3, 0.7, 0.9])


def losses(objective: VAEObjective, params: Tensor, draws: int) -> Tensor:
    """Losses of each image, which is copied `draws` times: the mean is over the images' losses."""
    torch.manual_seed(0)
    found = [
        objective.loss_terms(batch(params[i].expand(draws, 4), x=X[i].expand(draws, 4)))["loss"] for i in range(len(X))
    ]
    return torch.stack(found)


def test_the_evidence_bound_is_that_of_the_linear_model():
    """-ELBO = -log p(x) + KL(q || p(z|x)); 20,000 draws."""
    params, true = rough_posterior(), true_posterior()
    q, p = (Normal(both[:, :2], (0.5 * both[:, 2:]).exp()) for both in (params, true))
    gap = torch.distributions.kl_divergence(q, p).sum(dim=1)
    assert torch.allclose(losses(ELBO(), params, DRAWS), gap - evidence(), atol=0.05)


def test_one_importance_sample_gives_the_evidence_bound():
    params = rough_posterior()
    torch.manual_seed(0)
    loss = ImportanceWeighted(1).loss_terms(batch(params))["loss"]
    torch.manual_seed(0)
    codes, log_ratio = Gaussian().sample_with_log_ratio(params, 1)
    assert torch.allclose(loss, -(log_likelihood(codes) + log_ratio).mean())
    assert torch.allclose(losses(ImportanceWeighted(1), params, DRAWS), losses(ELBO(), params, DRAWS), atol=0.05)


def test_the_bound_rises_with_the_samples_to_the_evidence():
    bounds = torch.stack([-losses(ImportanceWeighted(k), rough_posterior(), DRAWS // k) for k in (1, 4, 20, 400)])
    assert (bounds.diff(dim=0) > 0).all()
    assert (bounds[-1] - evidence()).abs().max() < 0.02 < (bounds[-2] - evidence()).abs().max()


@pytest.mark.parametrize("gradient_samples", [None, 2])
def test_the_bound_of_the_true_posterior_is_the_evidence_for_any_draw(gradient_samples: int | None):
    loss = ImportanceWeighted(3, gradient_samples).loss_terms(batch(true_posterior()))["loss"]
    assert torch.allclose(loss, -evidence().mean(), atol=1e-4)


class FixedDraws(Gaussian):
    """Codes from a given noise, k x 1 x 2, the same for all images."""

    noise = torch.tensor([[[0.1, -0.3]], [[1.2, 0.4]], [[-0.5, 0.9]]])

    def sample_with_log_ratio(self, params: Tensor, k: int) -> tuple[Tensor, Tensor]:
        codes = params[:, :2] + (0.5 * params[:, 2:]).exp() * self.noise
        q = Normal(params[:, :2], (0.5 * params[:, 2:]).exp())
        return codes, (Normal(0.0, 1.0).log_prob(codes) - q.log_prob(codes)).sum(dim=2)


def test_the_gradient_is_the_weighted_mean_of_the_samples_gradients():
    """By finite differences of the bound in double precision, and, of drawn samples, on average over 40,000 images."""
    params = rough_posterior()[:1].double()
    fixed = FixedDraws()

    def bound(params: Tensor) -> Tensor:
        codes, log_ratio = fixed.sample_with_log_ratio(params, 3)
        return importance_weighted_bound(log_likelihood(codes, X[:1]) + log_ratio)[0]

    steps = 1e-6 * torch.eye(4, dtype=torch.float64)[:, None]
    expected = torch.stack([(bound(params + step) - bound(params - step)) / 2e-6 for step in steps])
    torch.manual_seed(0)
    for objective, copies, tolerance in ((ImportanceWeighted(3), 1, 1e-5), (ImportanceWeighted(3, 1), 40_000, 0.03)):
        leaf = params[0].float().requires_grad_()
        terms = objective.loss_terms(batch(leaf.expand(copies, 4), fixed, X[:1].expand(copies, 4)))
        terms["loss"].backward()
        assert torch.allclose(terms["loss"].double(), -bound(params), atol=1e-4)
        assert torch.allclose(leaf.grad.double(), -expected, atol=tolerance)


def test_the_number_of_samples_rises_during_the_warmup():
    objective, decoded = ImportanceWeighted(49, 2, warmup_steps=100), []
    for step in (0, 50, 100, 1000):
        at_step = replace(batch(true_posterior()), step_number=step)
        likelihood = at_step.log_likelihood
        counted = replace(at_step, log_likelihood=lambda z, f=likelihood: (decoded.append(len(z)), f(z))[1])
        objective.loss_terms(counted)
    assert decoded == [1, 7, 2, 49, 2, 49, 2]  # all samples, then those with a gradient


def test_drawn_gradients_train_the_decoder_in_half_precision():
    """Weights that autocast has cast without gradient must not be used again where there is one."""
    model = VAE(2, objective=ImportanceWeighted(4, 1))
    with torch.autocast("cpu", torch.bfloat16):
        loss = model.loss_terms((torch.rand(3, 1, 28, 28), torch.zeros(3)))["loss"]
    loss.backward()
    assert all(p.grad is not None and p.grad.any() for p in model.decoder.parameters())


MEANS = torch.tensor([[-1.0, 0.5], [0.8, 0.9], [0.2, -1.4]])
DEVIATIONS = torch.tensor([[0.6, 0.9], [0.5, 0.7], [0.8, 0.4]])


def by_quadrature() -> list[float]:
    """The divergence's parts for three images of these posteriors, by sums over a grid."""
    axis = torch.linspace(-7, 7, 701, dtype=torch.float64)
    step, prior = float(axis[1] - axis[0]), Normal(0.0, 1.0).log_prob(axis)
    each = Normal(MEANS[..., None].double(), DEVIATIONS[..., None].double()).log_prob(axis)  # (3, 2, 701)
    q_x = each[:, 0, :, None] + each[:, 1, None, :]  # log q(z|x), (3, 701, 701)
    q = q_x.logsumexp(dim=0) - math.log(3)
    marginals = each.logsumexp(dim=0) - math.log(3)  # (2, 701)
    product = marginals[0, :, None] + marginals[1]
    p = prior[:, None] + prior
    information = (q_x.exp() * (q_x - q)).sum() / 3
    correlation, from_prior = (q.exp() * (q - product)).sum(), (q.exp() * (product - p)).sum()
    return [float(part) * step**2 for part in (information, correlation, from_prior)]


def test_the_parts_of_the_divergence_are_those_of_quadrature():
    """Stratified sampling is exact if the batch is the whole data; standard errors of 20,000 draws are below 0.005."""
    torch.manual_seed(0)
    codes = Normal(MEANS, DEVIATIONS).sample((DRAWS,))  # (draws, 3, 2)
    log_q = Normal(MEANS, DEVIATIONS).log_prob(codes[:, :, None])  # (draws, 3, 3, 2)
    parts = torch.vmap(lambda q, z: decompose_kl(q, normal_log_density(z), 3, "stratified"))(log_q, codes)
    assert torch.allclose(torch.stack([part.mean() for part in parts]), torch.tensor(by_quadrature()), atol=0.03)
    exact_kl = torch.distributions.kl_divergence(Normal(MEANS, DEVIATIONS), Normal(0.0, 1.0)).sum(dim=1).mean()
    assert abs(sum(by_quadrature()) - exact_kl) < 1e-4


@pytest.mark.parametrize("sampling", ["weighted", "stratified"])
def test_the_parts_add_up_to_the_divergence_of_the_draw(sampling):
    log_q, log_p = torch.randn(5, 5, 3), torch.randn(5, 3)
    parts = decompose_kl(log_q, log_p, 50, sampling)
    of_draw = log_q.diagonal().sum(dim=0) - log_p.sum(dim=1)  # diagonal: (3, 5)
    assert torch.allclose(sum(parts), of_draw.mean(), atol=1e-5)


def test_stratified_batches_estimate_the_density_of_all_codes_without_bias():
    """On average over all batches of 3 of 6 images that contain the code's own, the first."""
    densities = torch.rand(6)  # q(z|x_k) of one code z
    weights = log_batch_weights(3, 6, "stratified").exp()[0]
    batches = [[0, *others] for others in itertools.combinations(range(1, 6), 2)]
    found = torch.stack([(weights * densities[batch]).sum() for batch in batches])
    assert torch.allclose(found.mean(), densities.mean())
    assert torch.allclose(log_batch_weights(3, 6, "weighted").exp(), torch.full((3, 3), 1 / 18))


def test_the_total_correlation_is_penalised_beyond_the_divergence():
    params = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    terms = {}
    for weight in (1.0, 3.0):
        torch.manual_seed(1)
        x = X.repeat(2, 1)
        terms[weight] = TotalCorrelation(weight).loss_terms(batch(params, x=x, weight=0.5))
    torch.manual_seed(1)
    elbo = ELBO().loss_terms(batch(params, x=x, weight=0.5))
    assert torch.allclose(terms[1.0]["loss"], elbo["loss"]) and torch.allclose(terms[1.0]["kl"], elbo["kl"])
    more = 0.5 * 2 * terms[3.0]["total_correlation"]
    assert torch.allclose(terms[3.0]["loss"], elbo["loss"] + more, atol=1e-4) and more.abs() > 0.01


@pytest.mark.parametrize("objective", [ImportanceWeighted(5), TotalCorrelation(9.0)])
def test_all_objectives_are_evaluated_by_the_same_bound(objective: VAEObjective):
    x, found = (torch.rand(4, 1, 28, 28), torch.zeros(4)), {}
    for name, each in {"elbo": ELBO(), "other": objective}.items():
        torch.manual_seed(0)
        model = VAE(2, objective=each, beta=2.0, kl_warmup_steps=100).eval()
        torch.manual_seed(1)
        with torch.no_grad():
            found[name] = model.loss_terms(x)
    assert all(
        torch.equal(found["elbo"][term], found["other"][term]) for term in ("loss", "reconstruction", "kl", "mse")
    )
    extra = {"bound"} if objective.samples > 1 else set()
    assert found["other"].keys() - found["elbo"].keys() == extra
    assert model.monitor == (("val/bound", "min") if extra else ("val/loss", "min"))


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: ImportanceWeighted(0), "samples is 0"),
        (lambda: ImportanceWeighted(5, 6), "samples is 5, gradient_samples 6"),
        (lambda: ImportanceWeighted(5, 0), "gradient_samples 0"),
        (lambda: ImportanceWeighted(warmup_steps=-1), "warmup_steps -1"),
        (lambda: TotalCorrelation(-1.0), "weight is -1"),
        (lambda: VAE(2, GumbelSoftmax(3), objective=ImportanceWeighted()), "needs samples with a gradient"),
        (
            lambda: VAE(2, Joint(3), objective=TotalCorrelation()),
            "TotalCorrelation needs latent_distribution Gaussian, without",
        ),
        (
            lambda: VAE(2, Gaussian(FlowPosterior()), objective=TotalCorrelation()),
            "TotalCorrelation needs latent_distribution Gaussian, without",
        ),
        (
            lambda: VAE(2, Gaussian(prior=FlowPrior()), objective=TotalCorrelation()),
            "TotalCorrelation needs latent_distribution Gaussian, without",
        ),
    ],
)
def test_invalid_choices_raise_an_error(make, complaint: str):
    with pytest.raises(ValueError, match=complaint):
        make()
