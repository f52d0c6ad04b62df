"""The wall time of training by `train.py fit` against a bare loop: DDPM, Glow, an autoregressive model.

python -m studies.benchmarks.likelihood --root data

Both use the networks, batch sizes, optimizers and schedules of the configs. The bare loop trains copies of the networks
on the same batches and is written from the papers: noising, mean squared error and EMA of DDPM; dequantisation,
likelihood, gradient clipping and initialisation of the actnorms of Glow; cross-entropy of black and white pixels of the
autoregressive model. Both alternate in one process, as in
studies/benchmarks/overhead.py. An epoch has `--steps` batches, without validation and pictures.
"""

import argparse
import copy
import math
from collections.abc import Callable
from typing import Any

import torch
from lightning import Trainer
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss
from torch.optim.lr_scheduler import OneCycleLR

from studies.benchmarks.overhead import Epoch, epoch_of
from studies.benchmarks.steps import make_parser, measure_models, report_speed

Step = Callable[[Tensor, Tensor], None]
Autocast = Callable[[], Any]
BATCH = 128
EMA_DECAY = 0.999
LEVELS = 1000


def ddpm(module: Any, total: int, autocast: Autocast) -> Step:
    network: nn.Module = copy.deepcopy(module.network).train()
    ema = copy.deepcopy(network).requires_grad_(False)
    weights: list[Tensor] = list(network.parameters())
    ema_weights: list[Tensor] = list(ema.parameters())
    optimizer = torch.optim.Adam(weights, lr=1e-3)
    schedule = OneCycleLR(optimizer, 1e-3, total_steps=total)
    alpha_bar = torch.cumprod(1 - torch.linspace(1e-4, 0.02, LEVELS, device=module.device), dim=0)

    def step(images: Tensor, labels: Tensor) -> None:
        clean = 2 * images - 1
        t = torch.randint(LEVELS, (len(clean),), device=clean.device)
        noise = torch.randn_like(clean)
        share = alpha_bar[t].view(-1, 1, 1, 1)
        noisy = share.sqrt() * clean + (1 - share).sqrt() * noise
        with autocast():
            predicted = network(noisy, (t + 1) / LEVELS)
        loss = mse_loss(predicted.float(), noise)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            torch._foreach_lerp_(ema_weights, weights, 1 - EMA_DECAY)

    return step


def glow(module: Any, total: int, autocast: Autocast) -> Step:
    flow: Any = copy.deepcopy(module.flow).train()
    optimizer = torch.optim.Adam(flow.parameters(), lr=2e-3)
    schedule = OneCycleLR(optimizer, 2e-3, total_steps=total)
    started = False

    def step(images: Tensor, labels: Tensor) -> None:
        nonlocal started
        levels = (255 * images + torch.rand_like(images)) / 256
        with autocast():
            if not started:
                with torch.no_grad():
                    flow(levels, initialize=True)
                started = True
            z, log_det = flow(levels)
        nats = 0.5 * (z.square() + math.log(2 * math.pi)).sum(dim=1) - log_det
        loss = nats.mean() / (z.shape[1] * math.log(2)) + 8
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(flow.parameters(), 5.0)
        optimizer.step()
        schedule.step()

    return step


def autoregressive(module: Any, total: int, autocast: Autocast) -> Step:
    network: nn.Module = copy.deepcopy(module.network).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    schedule = OneCycleLR(optimizer, 3e-3, total_steps=total)

    def step(images: Tensor, labels: Tensor) -> None:
        values = images.long()
        with autocast():
            logits = network(values)
        loss = cross_entropy(logits.flatten(0, 3).float(), values.flatten(), reduction="sum") / len(images)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()

    return step


MODELS: dict[str, Callable[[Any, int, Autocast], Step]] = {
    "DDPM": ddpm,
    "Glow": glow,
    "AutoregressiveModel": autoregressive,
}
CONFIGS = {"DDPM": "ddpm_mnist", "Glow": "glow_mnist", "AutoregressiveModel": "autoregressivemodel_binarized_mnist"}


def bare_loop(trainer: Trainer, model: str, options: argparse.Namespace) -> Epoch:
    """Returns an epoch of a hand-written training loop with copies of the networks that the trainer will train."""
    loader: Any = trainer.datamodule.train_dataloader()  # type: ignore[attr-defined]
    half, device = options.precision == "bf16-mixed", trainer.strategy.root_device.type
    total = options.steps * (options.epochs + 2)  # including two epochs that are not measured
    step = MODELS[model](trainer.lightning_module, total, lambda: torch.autocast(device, torch.bfloat16, enabled=half))
    return epoch_of(step, loader, options.steps)


def report(model: str, options: argparse.Namespace) -> None:
    fit = [f"--config=configs/{CONFIGS[model]}.yaml", "--trainer.limit_test_batches=1"]
    fit += [f"--trainer.precision={options.precision}", f"--data.batch_size={BATCH}"]
    report_speed(model, options, lambda trainer: bare_loop(trainer, model, options), fit, BATCH)


def main() -> None:
    parser = make_parser(__doc__, MODELS)
    parser.add_argument("--precision", default="32-true", choices=["32-true", "bf16-mixed"], help="of both loops")
    measure_models(parser.parse_args(), report)


if __name__ == "__main__":
    main()
