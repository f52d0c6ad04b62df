"""The bounds against closed forms and torch.distributions."""

import math

import pytest
import torch
from torch.distributions import Normal, OneHotCategorical
from torch.nn import functional as F

from lit_models.losses.mutual_information import categorical_information, uniform_information


def test_a_certain_q_of_categories_tells_their_entropy_and_an_ignorant_one_nothing():
    one_hot = F.one_hot(torch.arange(12).view(6, 2) % 4, 4)  # (6, 2, 4)
    assert categorical_information(50.0 * one_hot, one_hot).item() == pytest.approx(2 * math.log(4))
    assert categorical_information(torch.ones(6, 2, 4), one_hot).item() == pytest.approx(0, abs=1e-6)


def test_the_posterior_of_a_noisy_channel_tells_the_mutual_information():
    """A category arrives as itself with the probability 0.8, and as each other one with 0.1. All that can happen, each
    as often as its probability says."""
    channel = torch.tensor([[8, 1, 1], [1, 8, 1], [1, 1, 8]])
    drawn, arrived = (channel.nonzero().repeat_interleave(channel.flatten(), dim=0)).T
    posterior = (channel / channel.sum(dim=0)).T  # (arrived, drawn)
    found = categorical_information(posterior[arrived].log()[:, None], F.one_hot(drawn, 3)[:, None])
    joint = channel / channel.sum()
    expected = (joint * (joint / (joint.sum(dim=0) * joint.sum(dim=1, keepdim=True))).log()).sum()
    assert found.item() == pytest.approx(expected.item())


def test_any_q_gives_its_mean_log_likelihood_and_the_entropy():
    torch.manual_seed(0)
    logits, means, log_stds, values = torch.randn(5, 2, 3), torch.randn(5, 2), torch.randn(5, 2), torch.rand(5, 2)
    one_hot = OneHotCategorical(logits=torch.zeros(5, 2, 3)).sample()
    log_q = OneHotCategorical(logits=logits).log_prob(one_hot).sum(dim=1).mean()
    torch.testing.assert_close(categorical_information(logits, one_hot), 2 * math.log(3) + log_q)
    log_q = Normal(means, log_stds.exp()).log_prob(values).sum(dim=1).mean()
    torch.testing.assert_close(uniform_information(means, log_stds, values), 2 * math.log(2) + log_q)


def test_a_q_that_does_not_see_the_image_is_below_zero_by_its_divergence():
    """KL(U[-1, 1] || N(0, 1/3)) = log(2 pi e / 3) / 2 - log 2, on a fine grid."""
    values = ((torch.arange(100_000, dtype=torch.float64) + 0.5) / 50_000 - 1)[:, None]
    log_stds = torch.full_like(values, -0.5 * math.log(3))
    found = uniform_information(torch.zeros_like(values), log_stds, values)
    assert found.item() == pytest.approx(math.log(2) - 0.5 * math.log(2 * math.pi * math.e / 3), abs=1e-5)
    exact = uniform_information(values, torch.full_like(values, -4.0), values)  # a certain Q, with no bound but its std
    assert exact.item() == pytest.approx(math.log(2) + 4 - 0.5 * math.log(2 * math.pi), abs=1e-5)
