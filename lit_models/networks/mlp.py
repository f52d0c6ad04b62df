"""Fully connected networks."""

import itertools
from collections.abc import Sequence
from typing import Literal

from torch import nn

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh, "silu": nn.SiLU}


def mlp(sizes: Sequence[int], activation: Literal["relu", "tanh", "silu"] = "relu") -> nn.Sequential:
    """Fully connected layers of these widths with an activation between them: N x sizes[0] -> N x sizes[-1]."""
    layers = nn.Sequential()
    for layer, (width_in, width_out) in enumerate(itertools.pairwise(sizes)):
        if layer:
            layers.append(ACTIVATIONS[activation]())
        layers.append(nn.Linear(width_in, width_out))
    return layers
