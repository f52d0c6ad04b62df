import warnings
from typing import Any

import torch
from torch import Tensor

from lit_models.common.capabilities import LatentBlock


def mixture_codes(codes: Tensor, parts: list[LatentBlock], components: int, n: int, seed: int = 0) -> Tensor:
    """n draws, n x d, on the CPU, of a mixture of Gaussians with full covariances fitted to codes, N x d; seeded.

    Columns are brought to one scale before, so that dimensions of any size are fitted alike. One-hot columns are fitted
    along, and the largest of a block is taken.
    """
    from sklearn.exceptions import ConvergenceWarning  # a second of imports
    from sklearn.mixture import GaussianMixture

    codes = codes.cpu()
    mean, scale = codes.mean(dim=0), codes.std(dim=0, correction=0).clamp(min=1e-6)
    mixture: Any = GaussianMixture(min(components, len(codes)), reg_covar=1e-5, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        mixture.fit(((codes - mean) / scale).double().numpy())
    by_component = torch.from_numpy(mixture.sample(n)[0]).float()
    drawn = by_component[torch.randperm(n, generator=torch.Generator().manual_seed(seed))] * scale + mean
    for part in parts:
        if part.kind == "categorical":
            blocks = drawn[:, part.start : part.stop].unflatten(1, (-1, part.categories))
            chosen = torch.nn.functional.one_hot(blocks.argmax(dim=2), part.categories)
            drawn[:, part.start : part.stop] = chosen.flatten(1).float()
    return drawn
