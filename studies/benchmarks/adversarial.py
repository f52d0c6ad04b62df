"""Wall time of training DCGAN and AC-GAN by `train.py fit` with logging against a bare PyTorch loop; images/s.

python -m studies.benchmarks.adversarial --root data

DCGAN on MNIST and AC-GAN on CIFAR-10, each with the defaults of its model. The bare loop trains copies of the networks
on the same batches with the same objective and optimizers, and does nothing else. In both loops the discriminator's and
the generator's step draw their own z, and the discriminator's weights get no gradients in the generator's step. The two
loops alternate in one process as in studies/benchmarks/overhead.py. An epoch has `--steps` batches, without validation
and pictures, which are not part of a training step. Everything else that `fit` does is measured.
"""

import argparse
import copy
from collections.abc import Callable
from typing import Any

import torch
from lightning import Trainer
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot, softplus

from studies.benchmarks.overhead import Epoch, epoch_of
from studies.benchmarks.steps import make_parser, measure_models, report_speed

MODELS = {"GAN": "MNISTDataModule", "ACGAN": "CIFAR10DataModule"}
Loss = Callable[[Any, Any, Tensor, Tensor], Tensor]


def gan_discriminator(g: Any, d: Any, images: Tensor, labels: Tensor) -> Tensor:
    with torch.no_grad():
        fake = g(torch.randn(len(images), 100, device=images.device))
    return softplus(-d(images)).mean() + softplus(d(fake)).mean()


def gan_generator(g: Any, d: Any, images: Tensor, labels: Tensor) -> Tensor:
    return softplus(-d(g(torch.randn(len(images), 100, device=images.device)))).mean()


def codes(labels: Tensor) -> Tensor:
    z = torch.randn(len(labels), 100, device=labels.device)
    return torch.cat([z, one_hot(labels, 10).float()], dim=1)


def acgan_discriminator(g: Any, d: Any, images: Tensor, labels: Tensor) -> Tensor:
    with torch.no_grad():
        fake = g(codes(labels))
    (real_source, real_class), (fake_source, fake_class) = d(images), d(fake)
    of_class = cross_entropy(real_class, labels) + cross_entropy(fake_class, labels)
    return softplus(-real_source).mean() + softplus(fake_source).mean() + of_class


def acgan_generator(g: Any, d: Any, images: Tensor, labels: Tensor) -> Tensor:
    source, classes = d(g(codes(labels)))
    return cross_entropy(classes, labels) - softplus(source).mean()


LOSSES: dict[str, tuple[Loss, Loss]] = {
    "GAN": (gan_discriminator, gan_generator),
    "ACGAN": (acgan_discriminator, acgan_generator),
}


def bare_loop(trainer: Trainer, model: str, steps: int) -> Epoch:
    """A training loop in plain PyTorch, on copies of the networks that the trainer will train."""
    module: Any = trainer.lightning_module
    loader: Any = trainer.datamodule.train_dataloader()  # type: ignore[attr-defined]
    g, d = copy.deepcopy(module.generator).train(), copy.deepcopy(module.discriminator).train()
    optimizer_d, optimizer_g = (torch.optim.Adam(net.parameters(), lr=2e-4, betas=(0.5, 0.999)) for net in (d, g))
    loss_d, loss_g = LOSSES[model]

    def step(images: Tensor, labels: Tensor) -> None:
        loss = loss_d(g, d, images, labels)
        optimizer_d.zero_grad()
        loss.backward()
        optimizer_d.step()
        d.requires_grad_(False)
        loss = loss_g(g, d, images, labels)
        optimizer_g.zero_grad()
        loss.backward()
        optimizer_g.step()
        d.requires_grad_(True)

    return epoch_of(step, loader, steps)


def report(model: str, options: argparse.Namespace) -> None:
    fit = [f"--model={model}", f"--data={MODELS[model]}", f"--data.batch_size={options.batch_size}"]
    report_speed(model, options, lambda trainer: bare_loop(trainer, model, options.steps), fit, options.batch_size)


def main() -> None:
    parser = make_parser(__doc__, MODELS, "mnist.npz and cifar10.npz")
    parser.add_argument("--batch-size", type=int, default=100, help="images per batch (default: 100)")
    measure_models(parser.parse_args(), report)


if __name__ == "__main__":
    main()
