"""Helpers of tests of adversarial models: recorded steps, training on two processes, in fp16, and resumed."""

import itertools
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import Callback, Checkpoint
from lightning.pytorch.plugins import MixedPrecision
from torch import Tensor, nn

import train
from datamodules import BatchLoader, BatchTransform
from lit_models.common import adversarial
from lit_models.common.objectives import NonSaturating
from tests.helpers import same
from tests.preloaded import two_processes

NETWORKS = ("discriminator", "generator", "ema_generator")
Snapshot = dict[str, Tensor]


def sgd(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.05)


def adam(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=1e-3)


def batches_of(
    images: Tensor, batch_size: int, rank: int = 0, world_size: int = 1, batch_transform: BatchTransform | None = None
) -> BatchLoader:
    """A loader of uint8 images in shuffled order. The label of each image is its index."""
    numbers = torch.arange(len(images))
    return BatchLoader(
        images,
        numbers,
        batch_size=batch_size,
        shuffle=True,
        seed=3,
        rank=rank,
        world_size=world_size,
        batch_transform=batch_transform,
    )


def fitted(
    model: LightningModule, batches: BatchLoader, *callbacks: Callback, ckpt_path: Path | None = None, **options: Any
) -> Trainer:
    seed_everything(0, verbose=False)
    trainer = Trainer(
        **{"accelerator": "cpu", "devices": 1, "max_epochs": 1, "log_every_n_steps": 1, **options},
        callbacks=list(callbacks),
        logger=False,
        enable_checkpointing=any(isinstance(callback, Checkpoint) for callback in callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, batches, ckpt_path=ckpt_path, weights_only=True)
    return trainer


def networks_of(model: Any) -> dict[str, nn.Module]:
    """The networks of a model and its EMA; each entry of a ModuleDict by itself, such as generator.ab."""
    found: dict[str, nn.Module] = {}
    for name in NETWORKS:
        network = getattr(model, name)
        if isinstance(network, nn.ModuleDict):
            found |= {f"{name}.{part}": child for part, child in network.items()}
        elif network is not None:
            found[name] = network
    return found


def weights_of(network: nn.Module) -> Snapshot:
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}


def gradients_of(network: nn.Module) -> Snapshot:
    return {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


def assert_close(a: Snapshot, b: Snapshot) -> None:
    """Equal up to rounding in double precision, as the order of summation may differ."""
    assert a.keys() == b.keys() and a
    for name in a:
        assert a[name].dtype == torch.float64 or not a[name].is_floating_point(), name
        torch.testing.assert_close(a[name], b[name], rtol=1e-8, atol=1e-11, msg=name)


@dataclass
class Step:
    """One optimizer step: weights and gradients of every network before and after it."""

    own: tuple[str, ...]
    """Names of the networks whose parameters the step optimizes."""
    before: dict[str, tuple[Snapshot, Snapshot]]
    after: dict[str, tuple[Snapshot, Snapshot]]
    terms: dict[str, Tensor]

    @property
    def network(self) -> str:
        [name] = self.own
        return name

    def assert_changes_only_its_own(self, model: Any) -> None:
        """Parameters, buffers and gradients of all other networks are unchanged, bit for bit."""
        for name, (values, gradients) in self.before.items():
            after, gradients_after = self.after[name]
            if name not in self.own:
                assert same(values, after) and same(gradients, gradients_after), name
                continue
            parameters = dict(networks_of(model)[name].named_parameters())
            assert any(not torch.equal(values[key], after[key]) for key in parameters), name
            assert gradients_after.keys() == parameters.keys()


def assert_no_change_between(steps: list[Step]) -> None:
    """Networks change only in steps, except for the EMA, which is updated between them."""
    for step, following in itertools.pairwise(steps):
        for name, (values, _) in following.before.items():
            assert name.startswith("ema_generator") or same(step.after[name][0], values), name


@contextmanager
def recorded_steps() -> Iterator[list[Step]]:
    """The optimizer steps that are taken inside the context."""
    steps: list[Step] = []
    original = adversarial.optimizer_step

    def state(model: Any) -> dict[str, tuple[Snapshot, Snapshot]]:
        return {name: (weights_of(network), gradients_of(network)) for name, network in networks_of(model).items()}

    def optimizer_step(model: Any, optimizer: Any, *rest: Any, **options: Any) -> dict[str, Tensor]:
        before = state(model)
        terms = original(model, optimizer, *rest, **options)
        optimized = {id(p) for group in optimizer.param_groups for p in group["params"]}
        parameters = {name: {id(p) for p in network.parameters()} for name, network in networks_of(model).items()}
        own = tuple(name for name, ids in parameters.items() if ids <= optimized)
        assert set().union(*(parameters[name] for name in own)) == optimized
        steps.append(Step(own, before, state(model), terms))
        return terms

    adversarial.optimizer_step = optimizer_step  # type: ignore[assignment]
    try:
        yield steps
    finally:
        adversarial.optimizer_step = original


# Two processes.

DDP = {"strategy": "ddp", "devices": 2, "use_distributed_sampler": False}
"""Options of a trainer that runs `in_two_processes`."""


def in_two_processes(work: Callable[[int, Path], Any], folder: Path) -> list[Any]:
    """What `work(rank, folder)`, a function of a module, returns in each of two processes: tensors and plain values."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    two_processes(_rank, work, port, folder)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


def _rank(rank: int, work: Callable[[int, Path], Any], port: int, folder: Path) -> None:
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "LOCAL_RANK": str(rank), "NODE_RANK": "0"}
    torch.save(work(rank, folder), folder / f"{rank}.pt")


# Half precision, with a gradient scaler on the CPU.


def half(scale: float, growth_interval: int = 1000) -> MixedPrecision:
    return MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", scale, growth_interval=growth_interval))


class Overflowing(NonSaturating):
    """Non-saturating losses, one of which is once far too large for half precision.

    Args:
        network: discriminator or generator, whose loss it is.
        call: Number of the call of that loss, from 1.
    """

    def __init__(self, network: str, call: int) -> None:
        super().__init__()
        self.network = network
        self.call = call
        self.calls = {"discriminator": 0, "generator": 0}

    def _factor(self, network: str) -> float:
        self.calls[network] += 1
        return 1e30 if network == self.network and self.calls[network] == self.call else 1.0

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return super().discriminator(real, fake) * self._factor("discriminator")

    def generator(self, fake: Tensor) -> Tensor:
        return super().generator(fake) * self._factor("generator")


@dataclass
class State:
    """State after a batch: the gradient scale, the weights, and the number of steps of each optimizer."""

    scale: float
    weights: dict[str, Snapshot]
    steps: list[int]


class StateRecorder(Callback):
    """Records the state after every batch."""

    def __init__(self) -> None:
        self.states: list[State] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        scale = trainer.precision_plugin.scaler.get_scale()  # type: ignore[union-attr]
        steps = [max(int(s["step"]) for s in optimizer.state.values()) for optimizer in trainer.optimizers]
        weights = {name: weights_of(network) for name, network in networks_of(pl_module).items()}
        self.states.append(State(scale, weights, steps))


# Resuming.


def run(config: Path, root: Path, *args: str) -> Path:
    return train.main(["fit", f"--config={config}", f"--run.root={root}", *args]).folder


def training_state(folder: Path, *more: str) -> dict[str, Any]:
    """The parts of a run's last checkpoint that determine how training continues; `more` names additional keys."""
    saved = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    rest = {key: saved[key] for key in ("global_step", "epoch", "state_dict", "optimizer_states", *more)}
    return rest | {"random": saved["callbacks"]["ExactResume"]}


def equal(a: Any, b: Any) -> bool:
    """Whether nested values are equal, bit for bit."""
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    return a == b
