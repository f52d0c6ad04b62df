import itertools
import math

import pytest
import torch
from scipy.stats import chisquare
from torch.distributions import Categorical, Normal, kl_divergence

from lit_models.common.capabilities import LatentBlock
from lit_models.common.latent_distributions import Gaussian, GumbelSoftmax, Joint, LatentDistribution

D = 3
DISTRIBUTIONS: dict[str, LatentDistribution] = {
    "gaussian": Gaussian(),
    "categorical": GumbelSoftmax(categories=4),
    "joint": Joint(categories=4, variables=2),
    "joint_as_many": Joint(categories=4),
}


@pytest.fixture(params=list(DISTRIBUTIONS))
def distribution(request: pytest.FixtureRequest) -> LatentDistribution:
    return DISTRIBUTIONS[request.param]


def parameters(distribution: LatentDistribution, n: int = 5) -> torch.Tensor:
    return torch.randn(n, sum(distribution.param_dims(D)), generator=torch.Generator().manual_seed(3))


def test_kl_is_that_of_monte_carlo(distribution: LatentDistribution):
    """KL = E_q[log q - log p]; the mean of 20,000 draws lies within 5 standard errors: one false alarm in 10^5."""
    torch.manual_seed(0)
    params = parameters(distribution)
    _, log_ratio = distribution.sample_with_log_ratio(params, 20_000)
    error = log_ratio.std(dim=0) / math.sqrt(len(log_ratio))
    assert ((distribution.kl(params) + log_ratio.mean(dim=0)).abs() < 5 * error).all()


def test_gaussian_kl_and_densities_are_torchs():
    params = parameters(DISTRIBUTIONS["gaussian"])
    mean, log_var = params.chunk(2, dim=1)
    q, p = Normal(mean, (0.5 * log_var).exp()), Normal(torch.zeros(D), torch.ones(D))
    assert torch.allclose(Gaussian().kl(params), kl_divergence(q, p).sum(1), atol=1e-5)
    codes, log_ratio = Gaussian().sample_with_log_ratio(params, 4)
    assert torch.allclose(log_ratio, (p.log_prob(codes) - q.log_prob(codes)).sum(2), atol=1e-4)


def test_categorical_kl_and_probabilities_are_torchs():
    distribution = GumbelSoftmax(categories=4)
    params = parameters(distribution)
    q, p = Categorical(logits=params.view(5, D, 4)), Categorical(logits=torch.zeros(5, D, 4))
    assert torch.allclose(distribution.kl(params), kl_divergence(q, p).sum(1), atol=1e-5)
    codes, log_ratio = distribution.sample_with_log_ratio(params, 4)
    picked = codes.view(4, 5, D, 4).argmax(3)
    assert torch.allclose(log_ratio, (p.log_prob(picked) - q.log_prob(picked)).sum(2), atol=1e-4)


def test_the_joint_divergence_is_the_sum_of_both():
    distribution = Joint(categories=4, variables=2)
    params = parameters(distribution)
    apart = Gaussian().kl(params[:, : 2 * D]) + GumbelSoftmax(4).kl(params[:, 2 * D :])
    assert torch.allclose(distribution.kl(params), apart)


def test_relaxed_draws_choose_categories_by_their_probabilities():
    """Gumbel-max: the largest entry is category i with probability pi_i, at any temperature. One alarm in 10^4."""
    torch.manual_seed(0)
    probabilities = torch.tensor([0.1, 0.2, 0.3, 0.4])
    for temperature in (0.1, 5.0):
        distribution = GumbelSoftmax(4, temperature, min(temperature, 0.1))
        draws = distribution.rsample(probabilities.log().expand(8000, 4), torch.tensor(0))
        assert torch.allclose(draws.sum(1), torch.ones(8000)) and (draws >= 0).all()
        counts = draws.argmax(1).bincount(minlength=4)
        assert chisquare(counts, 8000 * probabilities).pvalue > 1e-4


def test_a_low_temperature_makes_draws_almost_one_hot():
    logits = torch.zeros(1000, 4)
    sharp = GumbelSoftmax(4, 0.01, 0.01).rsample(logits, torch.tensor(0)).amax(1)
    soft = GumbelSoftmax(4, 100.0, 100.0).rsample(logits, torch.tensor(0)).amax(1)
    assert sharp.mean() > 0.98 and soft.mean() < 0.3


def test_straight_through_is_one_hot_forward_and_relaxed_backward():
    grads, values = [], []
    for straight_through in (False, True):
        torch.manual_seed(0)
        logits = torch.linspace(-1, 1, 8).view(2, 4).requires_grad_()
        draw = GumbelSoftmax(4, straight_through=straight_through).rsample(logits, torch.tensor(0))
        (draw * torch.arange(4)).sum().backward()
        grads.append(logits.grad)
        values.append(draw.detach())
    one_hot = torch.nn.functional.one_hot(values[1].argmax(1), 4).float()
    assert torch.allclose(values[1], one_hot, atol=1e-6)
    assert not torch.allclose(values[0].amax(1), torch.ones(2)) and torch.allclose(grads[0], grads[1])


def test_the_temperature_falls_from_one_end_to_the_other():
    distribution = GumbelSoftmax(temperature=2.0, min_temperature=0.5, anneal_rate=1e-3)
    steps = torch.tensor([0, 1000, 10_000])
    assert torch.allclose(distribution.temperature_at(steps), torch.tensor([2.0, 2.0 / math.e, 0.5]))


def test_codes_have_the_width_of_their_blocks(distribution: LatentDistribution):
    params, blocks = parameters(distribution), distribution.latent_blocks(D)
    assert blocks[0].start == 0 and all(a.stop == b.start for a, b in itertools.pairwise(blocks))
    width = (5, distribution.code_dim(D))
    prior = distribution.sample_prior(5, D, torch.device("cpu"))
    drawn = distribution.sample_with_log_ratio(params, 2)[0]
    assert (
        distribution.mode(params).shape == distribution.rsample(params, torch.tensor(0)).shape == prior.shape == width
    )
    assert drawn.shape == (2, *width)
    for block in blocks:
        if block.kind == "categorical":
            for codes in (prior, distribution.mode(params), drawn[1]):
                one_hot = codes[:, block.start : block.stop].unflatten(1, (-1, block.categories))
                assert torch.equal(one_hot.sort(dim=2).values[..., -1], torch.ones(5, block.num_variables))
                assert torch.equal(one_hot.sum(2), torch.ones(5, block.num_variables))


def test_the_mode_is_differentiable(distribution: LatentDistribution):
    params = parameters(distribution).requires_grad_()
    codes = distribution.mode(params)
    (codes * torch.randn(codes.shape, generator=torch.Generator().manual_seed(0))).sum().backward()
    used = params.grad.abs().sum(dim=0) > 0
    spreads = sum(block.num_variables for block in distribution.latent_blocks(D) if block.kind == "continuous")
    assert int(used.sum()) == params.shape[1] - spreads  # log-variances do not move a mean


def test_the_joint_codes_of_the_source():
    assert Joint(categories=2).code_dim(3) == 9 and Joint(categories=20).code_dim(3) == 3 + 3 * 20
    assert Joint(categories=20).param_dims(3) == [6, 60]


def test_the_prior_is_standard_normal_and_uniform():
    """20,000 draws; means within 5 standard errors, categories by chi-square at 10^-4, its false alarms."""
    torch.manual_seed(0)
    gaussian = Gaussian().sample_prior(20_000, 2, torch.device("cpu"))
    assert (gaussian.mean(0).abs() < 5 / math.sqrt(20_000)).all() and (gaussian.var(0) - 1).abs().max() < 5 * math.sqrt(
        2 / 20_000
    )
    categorical = GumbelSoftmax(5).sample_prior(20_000, 1, torch.device("cpu"))
    assert chisquare(categorical.sum(0)).pvalue > 1e-4


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"categories": 1}, "categories is 1"),
        ({"temperature": 0.1}, "0 < min_temperature <= temperature and anneal_rate >= 0"),
        ({"min_temperature": 0.0}, "0 < min_temperature <= temperature and anneal_rate >= 0"),
        ({"anneal_rate": -1.0}, "0 < min_temperature <= temperature and anneal_rate >= 0"),
    ],
)
def test_invalid_arguments_raise_an_error(arguments: dict, complaint: str):
    for make in (GumbelSoftmax, Joint):
        with pytest.raises(ValueError, match=complaint):
            make(**arguments)


def test_an_incomplete_one_hot_vector_raises_an_error():
    with pytest.raises(ValueError, match="no one-hot vectors of 4"):
        LatentBlock("categorical", 0, 6, 4)
