import torch

from callbacks.active_units import active_units
from lit_models.base import LatentPart
from metrics.unit_variance import UnitVariance


def test_the_variance_is_torchs_over_any_number_of_batches():
    codes = torch.randn(100, 4) * torch.tensor([0.1, 1.0, 5.0, 0.0]) + 1000
    metric = UnitVariance(4)
    for batch in codes.split(7):
        metric.update(batch)
    assert torch.allclose(metric.compute(), codes.double().var(dim=0, correction=0), rtol=1e-6, atol=1e-9)


def test_units_are_dimensions_and_variables():
    variances = torch.tensor([0.5, 0.009, 0.02, *[0.004] * 3, *[0.001] * 3])
    parts = [LatentPart("continuous", 0, 3), LatentPart("categorical", 3, 9, 3)]
    assert active_units(variances, parts, 0.01) == 2 + 1
