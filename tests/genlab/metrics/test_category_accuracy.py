import itertools

import pytest
import torch

from genlab.metrics import CategoryAccuracy


@pytest.mark.parametrize("shape", [(4, 4), (3, 5), (5, 3)])
def test_no_other_matching_has_a_larger_share(shape: tuple[int, int]):
    torch.manual_seed(0)
    categories, classes = (torch.randint(size, (200,)) for size in shape)
    metric = CategoryAccuracy(*shape)
    for some in zip(categories.split(70), classes.split(70), strict=True):
        metric.update(*some)
    few, many = (categories, classes) if shape[0] <= shape[1] else (classes, categories)
    matchings = itertools.permutations(range(max(shape)), min(shape))
    best = max((torch.tensor(matching)[few] == many).float().mean().item() for matching in matchings)
    assert metric.compute().item() == pytest.approx(best)
