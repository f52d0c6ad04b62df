"""Images per second that an autoregressive model samples: with kept features, and with a whole pass for each value.

python -m studies.benchmarks.autoregressive_sampling runs/autoregressivemodel_mnist/default/checkpoints/best.ckpt

Both ways draw the same images. OMP_NUM_THREADS sets the number of threads.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from lit_models import AutoregressiveModel
from studies.benchmarks import machine

Draw = Callable[[Tensor], Tensor]


@torch.no_grad()
def generate_naively(network: Any, shape: Sequence[int], n: int, labels: Tensor | None, draw: Draw) -> Tensor:
    """Draws arrays of values in raster order, int64, n x C x H x W, with a pass of the network for each value."""
    values = torch.zeros(n, *shape, dtype=torch.int64, device=next(network.parameters()).device)
    for row in range(shape[1]):
        for column in range(shape[2]):
            for channel in range(shape[0]):
                place = (slice(None), channel, row, column)
                values[place] = draw(network(values, labels)[place])
    return values


def speed(generate: Callable[[], Tensor]) -> float:
    """Images per second."""
    began = time.perf_counter()
    return len(generate()) / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", help="checkpoint of an AutoregressiveModel")
    parser.add_argument("--count", type=int, default=500, help="images to sample with kept features (default: 500)")
    parser.add_argument("--naive-count", type=int, default=4, help="images to sample by whole passes (default: 4)")
    options = parser.parse_args()
    model = AutoregressiveModel.load(options.checkpoint)
    network, draw = model.evaluated_network, model._draw

    def labels(n: int) -> Tensor | None:
        return None if model.num_classes is None else torch.arange(n) % model.num_classes

    kept = speed(lambda: network.generate(options.count, labels(options.count), draw))
    few = options.naive_count
    naive = speed(lambda: generate_naively(network, model.space.shape, few, labels(few), draw))
    print(machine())
    print(f"{kept:.1f} images/s with kept features, {naive:.3f} by whole passes, {kept / naive:.0f} times fewer")


if __name__ == "__main__":
    main()
