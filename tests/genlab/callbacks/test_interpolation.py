from pathlib import Path

import numpy as np
import torch

from genlab.callbacks import Interpolation
from genlab.callbacks.interpolation import interpolate_images
from genlab.media import image_grid
from lit_models import Autoencoder
from lit_models.common.capabilities import LatentBlock
from tests.genlab.callbacks.toy_models import Painter, contains, picture, trainer


def test_interpolation_with_labels_of_two_columns(tmp_path: Path):
    codes = torch.rand(6, 16, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([[0, 5], [1, 0], [2, 1], [1, 2], [0, 3], [2, 2]])
    model = Painter([LatentBlock("continuous", 0, 16)], None)
    model.decode = lambda codes: codes[:, None, None, :]  # type: ignore[method-assign]
    Interpolation([(1, 2)], steps=2).on_test_end(trainer(tmp_path, codes, labels), model)  # type: ignore[arg-type]
    strip = codes[[1, 1, 2, 2]][:, None, None, :]  # the first images of these classes, each beside its decoded code
    assert contains(picture(tmp_path, "interpolation.png"), np.asarray(image_grid(strip, 4)))


def test_interpolation_is_linear_in_the_code():
    model = Autoencoder(3, 1, 2).eval()
    ends = torch.rand(2, 1, 28, 28)
    with torch.no_grad():
        decoded = interpolate_images(model, ends, 5)
        z0, z1 = model.encode(ends)
        assert torch.allclose(decoded[[0, -1]], model.reconstruct(ends), atol=1e-6)
        assert torch.allclose(decoded[1:2], model.decode((0.75 * z0 + 0.25 * z1)[None]), atol=1e-6)
