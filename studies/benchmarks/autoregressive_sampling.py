"""Images per second that an autoregressive model samples, with features that are kept and by whole passes.

python -m studies.benchmarks.autoregressive_sampling runs/autoregressivemodel_mnist/default/checkpoints/best.ckpt

The naive way evaluates the whole network once for each value. Both draw the same images. The threads are those of
torch, which OMP_NUM_THREADS sets.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from lit_models import AutoregressiveModel
from studies.benchmarks import machine


@torch.no_grad()
def generate_naively(
    network: Any, shape: Sequence[int], labels: Tensor | None, draw: Callable[[Tensor], Tensor], n: int | None = None
) -> Tensor:
    """Draws arrays of values in raster order, int64, n x C x H x W, with a pass of the network for each value."""
    device = next(network.parameters()).device
    values = torch.zeros(len(labels) if n is None else n, *shape, dtype=torch.int64, device=device)
    for row in range(shape[1]):
        for column in range(shape[2]):
            for channel in range(shape[0]):
                place = (slice(None), channel, row, column)
                values[place] = draw(network(values, labels)[place])
    return values
