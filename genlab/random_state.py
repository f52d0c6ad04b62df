from collections.abc import Iterator
from contextlib import contextmanager

import torch
from lightning.pytorch.utilities.seed import isolate_rng


@contextmanager
def isolated_rng(seed: int = 0) -> Iterator[None]:
    """Random draws from a stream of the pictures' own, the same ones each time; all others stay where they are."""
    with isolate_rng():
        torch.manual_seed(seed)
        yield
