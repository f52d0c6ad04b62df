import torch

from genlab.evaluation.active_units import active_units
from lit_models.common.capabilities import LatentBlock


def test_units_are_dimensions_and_categorical_variables():
    variances = torch.tensor([0.5, 0.009, 0.02, *[0.004] * 3, *[0.001] * 3])
    blocks = [LatentBlock("continuous", 0, 3), LatentBlock("categorical", 3, 9, 3)]
    assert active_units(variances, blocks, 0.01) == 2 + 1
    assert active_units(variances * torch.nan, blocks, 0.01).isnan()
