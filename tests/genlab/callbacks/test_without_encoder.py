"""Callbacks with generators that have no encoder."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from genlab.callbacks import (
    ActiveUnits,
    CategoryCombinations,
    ColorControl,
    Interpolation,
    LatentCorrelationMatrix,
    LatentPlane,
    LatentScatter,
    LatentTraversals,
    PrincipalSubspace,
    Reconstructions,
    SampleGrids,
)
from genlab.media import image_grid
from lit_models.common.priors import Normal, Uniform, UnitDisc
from tests.genlab.callbacks.toy_generators import ClassGenerator, Generator, after_test
from tests.genlab.callbacks.toy_models import contains, picture


def two_colours(codes: Tensor) -> Tensor:
    return torch.cat([torch.special.ndtr(codes[:, :2]), torch.zeros(len(codes), 1)], dim=1)


MODELS = [Generator(2, two_colours), Generator(5, two_colours), ClassGenerator(2, 3, two_colours)]


@pytest.mark.parametrize("model", MODELS)
def test_callbacks_that_need_an_encoder_do_nothing(model: Any, tmp_path: Path):
    running = after_test(tmp_path)
    for callback in (
        ActiveUnits(),
        ColorControl(),
        Interpolation(),
        LatentCorrelationMatrix(),
        LatentScatter(),
        PrincipalSubspace(),
        Reconstructions(),
        LatentTraversals(),
        CategoryCombinations(),
    ):
        callback.on_test_epoch_end(running, model)
        callback.on_test_end(running, model)
    assert not (tmp_path / "media").exists()


@pytest.mark.parametrize("model", MODELS)
def test_only_samples_from_the_prior_are_saved(model: Any, tmp_path: Path):
    SampleGrids(num_images=4).on_test_end(after_test(tmp_path), model)
    assert [path.name for path in (tmp_path / "media").iterdir()] == ["samples.png"]


def test_latent_plane_of_a_normal_prior(tmp_path: Path):
    LatentPlane(steps=4).on_test_end(after_test(tmp_path), Generator(2, two_colours, Normal()))  # type: ignore[arg-type]
    shares = torch.tensor([0.125, 0.375, 0.625, 0.875])
    tiles = torch.stack([shares.repeat(4), shares.flip(0).repeat_interleave(4), torch.zeros(16)], dim=1)
    expected = image_grid(tiles[:, :, None, None].expand(-1, -1, 4, 4), 4, 0)
    assert contains(picture(tmp_path, "latent_plane.png"), np.asarray(expected))


@pytest.mark.parametrize(
    "model",
    [
        Generator(2, two_colours, Uniform()),
        Generator(2, two_colours, UnitDisc()),
        Generator(3, two_colours),
        ClassGenerator(2, 3, two_colours),
    ],
)
def test_no_latent_plane_for_other_priors(model: Any, tmp_path: Path):
    LatentPlane().on_test_end(after_test(tmp_path), model)
    assert not (tmp_path / "media").exists()
