import itertools
from collections.abc import Sequence

from torch import nn


def mlp(sizes: Sequence[int]) -> nn.Sequential:
    """Fully connected layers of these widths, ReLU between them: N x sizes[0] -> N x sizes[-1]."""
    layers = nn.Sequential()
    for layer, (width_in, width_out) in enumerate(itertools.pairwise(sizes)):
        if layer:
            layers.append(nn.ReLU())
        layers.append(nn.Linear(width_in, width_out))
    return layers
