import pytest
import torch

from genlab.evaluation.latent_arithmetic import NOISE, add_codes, most_confident


def test_exemplars_have_the_highest_probabilities_of_their_class():
    codes = torch.arange(9.0)[:, None]
    probabilities = torch.tensor([[0.9, 0.6, 0.8, 0.7, 0.2, 0.1, 0.0, 0.4, torch.nan]]).T.nan_to_num()
    both = torch.cat([probabilities, 0.95 * (1 - probabilities)], dim=1)
    both[8] = 0  # an image that is not finite
    found = most_confident(codes, both)
    assert found[0].flatten().tolist() == [0, 2, 3] and found[1].flatten().tolist() == [6, 5, 4]
    assert most_confident(codes[:5], both[:5]).keys() == {0}  # the other class has only one code


def test_the_result_is_computed_from_class_means():
    exemplars = {label: torch.randn(3, 5, generator=torch.Generator().manual_seed(label)) for label in range(4)}
    torch.manual_seed(0)
    deviation = torch.tensor([1.0, 2.0, 0.0, 1.0, 1.0])
    found = add_codes(exemplars, (3, 0, 1), deviation)
    result = exemplars[3].mean(dim=0) - exemplars[0].mean(dim=0) + exemplars[1].mean(dim=0)
    torch.testing.assert_close(found.codes[4], result)
    noise = found.codes - result
    assert (noise.abs() <= NOISE * deviation + 1e-6).all() and (noise[:, 2].abs() < 1e-6).all()
    assert (noise[[0, 1, 2, 3, 5, 6, 7, 8]].abs().amax(dim=1) > 0.1).all()


def test_noise_equals_that_of_the_paper_for_a_uniform_prior():
    assert pytest.approx(0.25) == NOISE * (2**2 / 12) ** 0.5  # the deviation of the uniform distribution on [-1, 1]
