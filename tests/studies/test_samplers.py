"""The table of samplers: what is drawn for it."""

import argparse

import pytest
import torch

from genlab.random_state import isolated_rng
from lit_models import DDPM
from lit_models.common.samplers import DDIM, Ancestral
from lit_models.networks.unet import MLPNoise
from studies.samplers import BATCH, Drawn, chart, setting


@pytest.fixture(scope="module")
def model() -> DDPM:
    torch.manual_seed(0)
    return DDPM(network=MLPNoise(hidden_dims=(8,)), num_steps=50, image_shape=(1, 4, 4)).eval()


def test_names_of_settings() -> None:
    ddim, ancestral = (setting(name).sampler for name in ("ddim-10", "ancestral-20"))
    assert isinstance(ddim, DDIM) and (ddim.steps, ddim.eta) == (10, 0)
    assert isinstance(ancestral, Ancestral) and ancestral.steps == 20


@pytest.mark.parametrize("name", ["ddim", "ddim-0", "ddim-", "euler-10", "xddim-10"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=name):
        setting(name)


def test_each_setting_starts_from_the_same_noise(model: DDPM, monkeypatch: pytest.MonkeyPatch) -> None:
    started = []

    def keep(sampler: object, noisy: torch.Tensor, labels: object = None) -> torch.Tensor:
        started.append(noisy)
        torch.randn(len(started))  # as a sampler with noise of its own does
        return noisy

    monkeypatch.setattr(model, "sample_by", keep)
    for name in ("ddim-2", "ancestral-5"):
        images = Drawn(model, setting(name).sampler, BATCH + 3, half=False)
        with isolated_rng():
            assert [len(batch) for batch, _ in images] == [BATCH, 3] and len(images.seconds) == 2
    first, rest, again, rest_again = started
    assert torch.equal(first, again) and torch.equal(rest, rest_again)
    assert not torch.equal(first[:3], rest)


def test_half_precision_is_the_networks_alone(model: DDPM) -> None:
    def images(half: bool) -> torch.Tensor:
        with isolated_rng():
            return torch.cat([batch for batch, _ in Drawn(model, DDIM(5), 10, half)])

    exact, half = images(False), images(True)
    assert half.dtype == torch.float32 and not torch.equal(exact, half)
    torch.testing.assert_close(half, exact, rtol=0, atol=0.1)  # in [0, 1]; bfloat16 has three digits


def test_the_chart_names_its_points_by_their_steps() -> None:
    values = {"frechet_classifier": 1.0, "precision": 0.5, "recall": 0.5, "images_per_second": 3.0}
    found = {setting(name): values for name in ("ancestral-5", "ddim-2", "ddim-7")}
    left = chart(found, values).axes[0]
    assert sorted(text.get_text() for text in left.texts) == ["2", "5", "7"]
