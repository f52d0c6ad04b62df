"""The comparison of samplers: its settings, its samples and its chart."""

import argparse

import pytest
import torch

from genlab.random_state import isolated_rng
from lit_models import DDPM
from lit_models.common.noise_predictors import MLPNoisePredictor
from lit_models.common.samplers import DDIM, Ancestral
from studies.samplers import BATCH, TimedSamples, chart, parse_setting


@pytest.fixture(scope="module")
def model() -> DDPM:
    torch.manual_seed(0)
    return DDPM(network=MLPNoisePredictor(hidden_dims=(8,)), num_steps=50, image_shape=(1, 4, 4)).eval()


def test_settings_are_parsed() -> None:
    ddim, ancestral = (parse_setting(name).sampler for name in ("ddim-10", "ancestral-20"))
    assert isinstance(ddim, DDIM) and (ddim.steps, ddim.eta) == (10, 0)
    assert isinstance(ancestral, Ancestral) and ancestral.steps == 20


@pytest.mark.parametrize("name", ["ddim", "ddim-0", "ddim-", "euler-10", "xddim-10"])
def test_other_settings_are_refused(name: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=name):
        parse_setting(name)


def test_each_setting_starts_from_the_same_noise(model: DDPM, monkeypatch: pytest.MonkeyPatch) -> None:
    started = []

    def keep(sampler: object, noisy: torch.Tensor, labels: object = None) -> torch.Tensor:
        started.append(noisy)
        torch.randn(len(started))  # as a sampler that draws its own noise does
        return noisy

    monkeypatch.setattr(model, "sample_with", keep)
    for name in ("ddim-2", "ancestral-5"):
        images = TimedSamples(model, parse_setting(name).sampler, BATCH + 3, bf16=False)
        with isolated_rng():
            assert [len(batch) for batch, _ in images] == [BATCH, 3] and len(images.seconds) == 2
    first, rest, again, rest_again = started
    assert torch.equal(first, again) and torch.equal(rest, rest_again)
    assert not torch.equal(first[:3], rest)


def test_bf16_applies_to_the_network_alone(model: DDPM) -> None:
    def images(bf16: bool) -> torch.Tensor:
        with isolated_rng():
            return torch.cat([batch for batch, _ in TimedSamples(model, DDIM(5), 10, bf16)])

    exact, rounded = images(False), images(True)
    assert rounded.dtype == torch.float32 and not torch.equal(exact, rounded)
    torch.testing.assert_close(rounded, exact, rtol=0, atol=0.1)  # in [0, 1]; bfloat16 has three digits


def test_the_points_of_the_chart_are_labelled_with_their_steps() -> None:
    values = {"frechet_classifier": 1.0, "precision": 0.5, "recall": 0.5, "images_per_second": 3.0}
    found = {parse_setting(name): values for name in ("ancestral-5", "ddim-2", "ddim-7")}
    left = chart(found, values).axes[0]
    assert sorted(text.get_text() for text in left.texts) == ["2", "5", "7"]
