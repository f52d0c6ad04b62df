import numpy as np
import pytest
import torch
from torch import Tensor

from datamodules import DigitsDataModule
from genlab.evaluation.classifier import EvaluationClassifier
from genlab.evaluation.nearest_neighbours import NearestSearch, nearest_picture
from tests.genlab.callbacks.toy_models import contains
from tests.genlab.evaluation.test_classifier import small_classifier


@pytest.fixture(scope="module")
def images() -> Tensor:
    data = DigitsDataModule(seed=0)
    data.setup()
    return data.examples("train", 10**6)[0]


def test_nearest_rows_equal_numpy():
    generator = torch.Generator().manual_seed(0)
    queries, rows = torch.rand(5, 3, generator=generator), torch.rand(40, 3, generator=generator)
    search = NearestSearch(queries)
    for part in rows.split(9):
        search.add(part)
    distances = np.linalg.norm(queries.numpy()[:, None] - rows.numpy(), axis=2)
    np.testing.assert_allclose(search.nearest.distance, distances.min(axis=1), rtol=1e-5)
    assert search.nearest.row.tolist() == distances.argmin(axis=1).tolist()


def test_the_picture_shows_training_images_below_their_copies(images: Tensor):
    classifier = EvaluationClassifier(small_classifier())
    copies, train, test = images[[5, 17, 30]], images[:100], images[100:140]
    whole = np.asarray(nearest_picture(classifier, copies, train.split(16), test))
    tile = (copies[0, 0] * 255).round().byte().numpy().repeat(2, 0).repeat(2, 1)[..., None].repeat(3, 2)
    corners = [
        (y, x)
        for y in range(whole.shape[0] - 55)
        for x in range(whole.shape[1] - 55)
        if np.array_equal(whole[y : y + 56, x : x + 56], tile)
    ]
    assert len(corners) == 3 and len({x for _, x in corners}) == 1  # the sample, and its two nearest images
    assert contains(whole, tile)
