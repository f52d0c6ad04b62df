from pathlib import Path

import numpy as np
import torch

from genlab.callbacks.prior_interpolation import PriorInterpolation
from genlab.latent_paths import spherical_path
from genlab.media import image_grid
from genlab.random_state import isolated_rng
from tests.genlab.callbacks.toy_generators import ClassGenerator, Generator, after_test
from tests.genlab.callbacks.toy_models import Painter, contains, picture


def test_each_row_is_a_path_of_one_class(tmp_path: Path):
    model = ClassGenerator(3, 2, lambda codes: torch.cat([codes[:, :1].sigmoid(), codes[:, 3:]], dim=1))
    PriorInterpolation(rows=3, steps=5).on_test_end(after_test(tmp_path), model)  # type: ignore[arg-type]
    with isolated_rng():
        starts, ends = model.sample_prior(6).chunk(2)
    arcs = spherical_path(starts[:, :3], ends[:, :3], torch.linspace(0, 1, 5))
    first = torch.tensor([1.0, 0.0, 1.0]).repeat_interleave(5)  # classes 0, 1, 0
    tiles = torch.stack([arcs[..., 0].flatten().sigmoid(), first, 1 - first], dim=1)
    expected = image_grid(tiles[:, :, None, None].expand(-1, -1, 4, 4), 5)
    assert contains(picture(tmp_path, "interpolation_z.png"), np.asarray(expected))


def test_no_picture_for_models_with_an_encoder(tmp_path: Path):
    model = Painter(Generator(2, None).latent_blocks(), lambda codes: codes[:, :1])
    PriorInterpolation().on_test_end(after_test(tmp_path), model)  # type: ignore[arg-type]
    assert not (tmp_path / "media").exists()
