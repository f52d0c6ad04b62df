"""Small generators without an encoder."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from lit_models.common.capabilities import LatentBlock
from tests.genlab.callbacks.toy_models import trainer


class Generator(torch.nn.Module):
    """A Painter (toy_models) with codes of `dim` real numbers and without `encode`."""

    device, dtype = torch.device("cpu"), torch.float32

    def __init__(self, dim: int, paint: Any, prior: object = None) -> None:
        super().__init__()
        self.dim = dim
        self.paint = paint
        self.prior = prior

    def latent_blocks(self) -> list[LatentBlock]:
        return [LatentBlock("continuous", 0, self.dim)]

    def sample_prior(self, n: int) -> Tensor:
        return torch.randn(n, self.dim)

    def decode(self, codes: Tensor) -> Tensor:
        return self.paint(codes)[:, :, None, None].expand(-1, -1, 4, 4)

    def sample(self, n: int, label: int | None = None) -> Tensor:
        return self.decode(self.sample_prior(n))


class ClassGenerator(Generator):
    """A generator whose codes end in a one-hot class."""

    def __init__(self, dim: int, num_classes: int, paint: Any) -> None:
        super().__init__(dim, paint)
        self.num_classes = num_classes

    def latent_blocks(self) -> list[LatentBlock]:
        d, k = self.dim, self.num_classes
        return [LatentBlock("continuous", 0, d), LatentBlock("categorical", d, d + k, k)]

    def sample_prior(self, n: int) -> Tensor:
        labels = torch.eye(self.num_classes)[torch.randint(self.num_classes, (n,))]
        return torch.cat([torch.randn(n, self.dim), labels], dim=1)


def after_test(folder: Path, *callbacks: Any, classes: tuple[str, ...] = ("a", "b", "c")) -> Any:
    """A trainer with three black test images, after the test."""
    made = trainer(folder, torch.zeros(3, 4))
    made.datamodule.classes = classes
    return SimpleNamespace(**vars(made) | {"callbacks": list(callbacks)})
