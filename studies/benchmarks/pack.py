"""Several models of one shape trained as one program, against the same models trained one after another.

python -m studies.benchmarks.pack --packs 1 2 4 8 16
python -m studies.benchmarks.pack --device cuda --packs 1 4 16 64

The autoencoders of sweeps/ae_capacity.yaml, each with its own seed and its own batches. Packed, their weights are
stacked (torch.func.stack_module_state), one vmapped call gives the gradients of all of them, and one Adam steps the
stacked weights. The time of a step is that of all models of the pack; the ratio says how many times faster the pack is
than its models alone. First, both train a few steps on the same batches, and the largest difference of their losses is
printed.
"""

import argparse
import copy
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, stack_module_state, vmap
from torch.nn.functional import mse_loss

from lit_models import Autoencoder
from studies.benchmarks import machine
from studies.benchmarks.overhead import wait_for

WARM_UP = 5
"""Steps before the measured ones, whose losses are compared."""
Step = Callable[[Tensor], Tensor]
"""Trains all models on their batches, K x N x C x H x W, and returns their losses, K."""


def models_of(count: int, depth: int, device: torch.device) -> list[Autoencoder]:
    """Models that differ in their seeds."""
    models: list[Autoencoder] = []
    for seed in range(count):
        torch.manual_seed(seed)
        models.append(Autoencoder(latent_dim=10, depth=depth).to(device).train())
    return models


def alone(models: Sequence[nn.Module]) -> Step:
    """One model after another."""
    optimizers = [torch.optim.Adam(model.parameters(), lr=1e-3) for model in models]

    def step(batches: Tensor) -> Tensor:
        losses = []
        for model, optimizer, images in zip(models, optimizers, batches, strict=True):
            loss = mse_loss(model(images), images)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        return torch.stack(losses)

    return step


def packed(models: Sequence[nn.Module]) -> Step:
    """All models in one program."""
    weights, buffers = stack_module_state(list(models))
    optimizer = torch.optim.Adam(list(weights.values()), lr=1e-3)
    base = copy.deepcopy(models[0]).to("meta")

    def loss(weights: dict[str, Tensor], buffers: dict[str, Tensor], images: Tensor) -> Tensor:
        return mse_loss(functional_call(base, (weights, buffers), (images,)), images)

    gradients = vmap(grad_and_value(loss))

    def step(batches: Tensor) -> Tensor:
        with torch.no_grad():
            found, losses = gradients(weights, buffers, batches)
        for name, weight in weights.items():
            weight.grad = found[name]
        optimizer.step()
        return losses

    return step


@dataclass
class Measured:
    """Seconds of a step of all models, packed and one after another, and the largest difference of their losses."""

    packed: float
    alone: float
    difference: float

    @property
    def ratio(self) -> float:
        """How many times faster the pack is."""
        return self.alone / self.packed


def measure(
    count: int, device: torch.device, depth: int = 1, batch_size: int = 128, steps: int = 10, rounds: int = 5
) -> Measured:
    """Trains `count` models in both ways, in rounds that alternate."""
    generator = torch.Generator(device).manual_seed(0)
    batches = torch.rand(count, batch_size, 1, 28, 28, generator=generator, device=device)
    ways = [make(models_of(count, depth, device)) for make in (packed, alone)]
    first = [torch.stack([step(batches) for _ in range(WARM_UP)]) for step in ways]
    seconds: list[list[float]] = [[], []]
    for _ in range(rounds):
        for step, taken in zip(ways, seconds, strict=True):
            wait_for(device)
            began = time.perf_counter()
            for _ in range(steps):
                step(batches)
            wait_for(device)
            taken.append((time.perf_counter() - began) / steps)
    together, alone_ = map(statistics.median, seconds)
    return Measured(together, alone_, float((first[0] - first[1]).abs().max()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"], help="default: cpu")
    parser.add_argument(
        "--packs", type=int, nargs="+", default=[1, 2, 4, 8], help="models of a pack (default: 1 2 4 8)"
    )
    parser.add_argument("--depth", type=int, default=1, help="convolutions of the encoder (default: 1)")
    parser.add_argument("--batch-size", type=int, default=128, help="images per batch (default: 128)")
    parser.add_argument("--steps", type=int, default=10, help="steps of a round (default: 10)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds, which alternate (default: 5)")
    options = parser.parse_args()
    print(machine())
    if options.device == "cuda":
        print(torch.cuda.get_device_name())
    for count in options.packs:
        sizes = {name: getattr(options, name) for name in ("depth", "batch_size", "steps", "rounds")}
        found = measure(count, torch.device(options.device), **sizes)
        milliseconds = f"packed {1000 * found.packed:8.2f} ms  alone {1000 * found.alone:8.2f} ms"
        print(f"{count:4} models  {milliseconds}  {found.ratio:5.2f} times  losses differ by {found.difference:.1e}")


if __name__ == "__main__":
    main()
