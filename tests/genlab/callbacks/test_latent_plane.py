from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from genlab.callbacks import LatentPlane
from genlab.media import image_grid
from lit_models.common.capabilities import LatentBlock
from tests.genlab.callbacks.toy_models import Painter, contains, picture, trainer


def two_colours(codes: Tensor) -> Tensor:
    """Red is the probability of values below z1, green of values below z2."""
    shares = torch.special.ndtr(codes[:, :2])
    return torch.cat([shares, torch.zeros(len(codes), 1)], dim=1)


def test_picture_is_decoded_at_the_quantiles_of_the_prior(tmp_path: Path):
    model = Painter([LatentBlock("continuous", 0, 2)], two_colours)
    codes = 50 + torch.randn(10, 2)  # the codes do not matter, because there is a prior
    LatentPlane(steps=4).on_test_end(trainer(tmp_path, codes), model)  # type: ignore[arg-type]
    shares = torch.tensor([0.125, 0.375, 0.625, 0.875])
    red, green = shares.repeat(4), shares.flip(0).repeat_interleave(4)
    tiles = torch.stack([red, green, torch.zeros(16)], dim=1)[:, :, None, None].expand(-1, -1, 4, 4)
    assert contains(picture(tmp_path, "latent_plane.png"), np.asarray(image_grid(tiles, 4, 0)))


def test_no_picture_for_categorical_codes(tmp_path: Path):
    model = Painter([LatentBlock("categorical", 0, 2, 2)], two_colours)
    LatentPlane().on_test_end(trainer(tmp_path, torch.eye(2)), model)  # type: ignore[arg-type]
    assert not (tmp_path / "media").exists()
