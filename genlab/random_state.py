from collections.abc import Iterator
from contextlib import contextmanager

import torch
from lightning.pytorch.utilities.seed import isolate_rng


@contextmanager
def isolated_rng(seed: int = 0) -> Iterator[None]:
    """Seeds the random generators within the context and restores their earlier states after it."""
    with isolate_rng():
        torch.manual_seed(seed)
        yield
