"""Wall time of training CycleGAN and pix2pix by `train.py fit` with logging against a bare PyTorch loop; pairs/s.

python -m studies.benchmarks.translation --root data

The networks, objectives and batch sizes are those of the configs. The bare loop trains copies of the networks on the
same batches with the same losses, optimizers, image pool and EMA, and does nothing else. In both loops a CycleGAN's
discriminators take the translations of its generators' step, and no network gets gradients in another network's step.
The two loops alternate in one process as in studies/benchmarks/overhead.py. An epoch has `--steps` batches, without
validation and pictures.
"""

import argparse
import copy
from collections.abc import Callable
from typing import Any

import torch
from lightning import Trainer
from torch import Tensor, nn
from torch.nn.functional import l1_loss, softplus

from studies.benchmarks.overhead import Epoch, epoch_of
from studies.benchmarks.steps import make_parser, measure_models, report_speed

MODELS = {"CycleGAN": "cyclegan_recolored_mnist", "Pix2Pix": "pix2pix_colored_pairs_mnist"}
Step = Callable[[Tensor, Tensor], None]
POOL = 50
DECAY = 0.99
BATCH = 64


def adam(networks: list[nn.Module], lr: float) -> torch.optim.Optimizer:
    parameters = [parameter for network in networks for parameter in network.parameters()]
    return torch.optim.Adam(parameters, lr=lr, betas=(0.5, 0.999))


def optimizer_step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def ema_and_weights(network: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    return [p.detach().clone() for p in network.parameters()], [p.detach() for p in network.parameters()]


class Pool:
    """An image pool that handles one image after the other."""

    def __init__(self) -> None:
        self.images: list[Tensor] = []

    def __call__(self, translations: Tensor) -> Tensor:
        returned = []
        for fake in translations:
            if len(self.images) < POOL:
                self.images.append(fake.clone())
                returned.append(fake)
            elif torch.rand(()).item() < 0.5:
                k = int(torch.randint(POOL, ()).item())
                returned.append(self.images[k])
                self.images[k] = fake.clone()
            else:
                returned.append(fake)
        return torch.stack(returned)


def cyclegan(module: Any) -> Step:
    g, d = copy.deepcopy(module.generator).train(), copy.deepcopy(module.discriminator).train()
    optimizer_g, optimizer_d = adam([g], 5e-4), adam([d], 5e-4)
    pool_a, pool_b, (ema, current) = Pool(), Pool(), ema_and_weights(g)

    def step(a: Tensor, b: Tensor) -> None:
        d.requires_grad_(False)
        fake_b, fake_a = g["ab"](a), g["ba"](b)
        fooled = softplus(-d["b"](fake_b)).mean() + softplus(-d["a"](fake_a)).mean()
        optimizer_step(optimizer_g, fooled + l1_loss(g["ba"](fake_b), a) + l1_loss(g["ab"](fake_a), b))
        d.requires_grad_(True)
        torch._foreach_lerp_(ema, current, 1 - DECAY)
        losses = [
            softplus(-d[kind](real)).mean() + softplus(d[kind](pool(fake.detach()))).mean()
            for kind, real, pool, fake in (("b", b, pool_b, fake_b), ("a", a, pool_a, fake_a))
        ]
        optimizer_step(optimizer_d, losses[0] + losses[1])

    return step


def pix2pix(module: Any) -> Step:
    g, d = copy.deepcopy(module.generator).train(), copy.deepcopy(module.discriminator).train()
    optimizer_g, optimizer_d = adam([g], 2e-4), adam([d], 2e-4)
    ema, current = ema_and_weights(g)

    def step(source: Tensor, target: Tensor) -> None:
        with torch.no_grad():
            fake = g(source)
        real, made = torch.cat([source, target], 1), torch.cat([source, fake], 1)
        optimizer_step(optimizer_d, softplus(-d(real)).mean() + softplus(d(made)).mean())
        d.requires_grad_(False)
        fake = g(source)
        fooled = softplus(-d(torch.cat([source, fake], 1))).mean()
        optimizer_step(optimizer_g, fooled + 100 * l1_loss(fake, target))
        d.requires_grad_(True)
        torch._foreach_lerp_(ema, current, 1 - DECAY)

    return step


STEPS: dict[str, Callable[[Any], Step]] = {"CycleGAN": cyclegan, "Pix2Pix": pix2pix}


def bare_loop(trainer: Trainer, model: str, steps: int) -> Epoch:
    """The loop that one would write by hand, with copies of the networks that the trainer is about to train."""
    loader: Any = trainer.datamodule.train_dataloader()  # type: ignore[attr-defined]
    step = STEPS[model](trainer.lightning_module)

    return epoch_of(step, loader, steps)


def report(model: str, options: argparse.Namespace) -> None:
    fit = [f"--config=configs/{MODELS[model]}.yaml"]
    report_speed(model, options, lambda trainer: bare_loop(trainer, model, options.steps), fit, BATCH, "pairs")


def main() -> None:
    measure_models(make_parser(__doc__, MODELS).parse_args(), report)


if __name__ == "__main__":
    main()
