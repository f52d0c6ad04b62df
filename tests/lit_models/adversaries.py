"""What tests of adversarial models share: trainings watched step by step, on two processes, in fp16, and resumed."""

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
from datamodules import BatchLoader, Render
from lit_models.common import adversarial
from lit_models.common.objectives import NonSaturating
from tests.helpers import same
from tests.warm import two_processes

PARTS = ("critic", "generator", "average")
Snapshot = dict[str, Tensor]


def sgd(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.05)


def adam(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=1e-3)


def batches_of(
    images: Tensor, batch_size: int, rank: int = 0, world_size: int = 1, render: Render | None = None
) -> BatchLoader:
    """Images as uint8, each labelled by its number, in an order of their own."""
    numbers = torch.arange(len(images))
    return BatchLoader(
        images,
        numbers,
        batch_size=batch_size,
        shuffle=True,
        seed=3,
        rank=rank,
        world_size=world_size,
        render=render,
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
    """The networks and the averages of some; a dictionary's one by one, such as generator.ab."""
    found: dict[str, nn.Module] = {}
    for name in PARTS:
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
    """Equal but for the rounding of double precision, as sums are taken in another order."""
    assert a.keys() == b.keys() and a
    for name in a:
        assert a[name].dtype == torch.float64 or not a[name].is_floating_point(), name
        torch.testing.assert_close(a[name], b[name], rtol=1e-8, atol=1e-11, msg=name)


@dataclass
class Step:
    """One optimizer's step: weights and gradients of every network before and after it."""

    own: tuple[str, ...]
    """The networks whose parameters it optimizes."""
    before: dict[str, tuple[Snapshot, Snapshot]]
    after: dict[str, tuple[Snapshot, Snapshot]]
    terms: dict[str, Tensor]

    @property
    def network(self) -> str:
        [name] = self.own
        return name

    def assert_touches_its_own_alone(self, model: Any) -> None:
        """Parameters, buffers and gradients of all others stay, to the last bit."""
        for name, (values, gradients) in self.before.items():
            after, gradients_after = self.after[name]
            if name not in self.own:
                assert same(values, after) and same(gradients, gradients_after), name
                continue
            parameters = dict(networks_of(model)[name].named_parameters())
            assert any(not torch.equal(values[key], after[key]) for key in parameters), name
            assert gradients_after.keys() == parameters.keys()


def assert_nothing_between(steps: list[Step]) -> None:
    """Only steps change networks, to the last bit; averages follow in between."""
    for step, following in itertools.pairwise(steps):
        for name, (values, _) in following.before.items():
            assert name.startswith("average") or same(step.after[name][0], values), name


@contextmanager
def watched() -> Iterator[list[Step]]:
    """The steps that are done meanwhile."""
    seen: list[Step] = []
    original = adversarial.optimizer_step

    def state(model: Any) -> dict[str, tuple[Snapshot, Snapshot]]:
        return {name: (weights_of(network), gradients_of(network)) for name, network in networks_of(model).items()}

    def optimizer_step(model: Any, optimizer: Any, *rest: Any, **options: Any) -> dict[str, Tensor]:
        before = state(model)
        terms = original(model, optimizer, *rest, **options)
        optimized = {id(p) for group in optimizer.param_groups for p in group["params"]}
        parts = {name: {id(p) for p in network.parameters()} for name, network in networks_of(model).items()}
        own = tuple(name for name, parameters in parts.items() if parameters <= optimized)
        assert set().union(*(parts[name] for name in own)) == optimized
        seen.append(Step(own, before, state(model), terms))
        return terms

    adversarial.optimizer_step = optimizer_step  # type: ignore[assignment]
    try:
        yield seen
    finally:
        adversarial.optimizer_step = original


# Two processes.

DDP = {"strategy": "ddp", "devices": 2, "use_distributed_sampler": False}
"""Lightning's plain `ddp`, for a trainer `in_two_processes`."""


def in_two_processes(work: Callable[[int, Path], Any], folder: Path) -> list[Any]:
    """What `work(rank, folder)`, a function of a module, gives in each of two processes: tensors and plain values."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    two_processes(_rank, work, port, folder)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


def _rank(rank: int, work: Callable[[int, Path], Any], port: int, folder: Path) -> None:
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "LOCAL_RANK": str(rank), "NODE_RANK": "0"}
    torch.save(work(rank, folder), folder / f"{rank}.pt")


# Half precision, with a scaler on the CPU.


def half(scale: float, growth_interval: int = 1000) -> MixedPrecision:
    return MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", scale, growth_interval=growth_interval))


class Overflowing(NonSaturating):
    """Far too large, once, in one kind of networks' loss.

    Args:
        part: critic or generator.
        call: of that loss, counted from 1.
    """

    def __init__(self, part: str, call: int) -> None:
        super().__init__()
        self.part = part
        self.call = call
        self.calls = {"critic": 0, "generator": 0}

    def _factor(self, part: str) -> float:
        self.calls[part] += 1
        return 1e30 if part == self.part and self.calls[part] == self.call else 1.0

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return super().discriminator(real, fake) * self._factor("critic")

    def generator(self, fake: Tensor) -> Tensor:
        return super().generator(fake) * self._factor("generator")


@dataclass
class Moment:
    """After a batch: the scaler's factor, the weights, and how many steps each optimizer took."""

    scale: float
    weights: dict[str, Snapshot]
    steps: list[int]


class Scales(Callback):
    def __init__(self) -> None:
        self.seen: list[Moment] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        scale = trainer.precision_plugin.scaler.get_scale()  # type: ignore[union-attr]
        taken = [max(int(s["step"]) for s in optimizer.state.values()) for optimizer in trainer.optimizers]
        state = {name: weights_of(network) for name, network in networks_of(pl_module).items()}
        self.seen.append(Moment(scale, state, taken))


# Resuming.


def run(config: Path, root: Path, *args: str) -> Path:
    return train.main(["fit", f"--config={config}", f"--run.root={root}", *args]).folder


def kept(folder: Path, *more: str) -> dict[str, Any]:
    """All of a run's last checkpoint that decides how it goes on; `more` names what only some have."""
    saved = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    rest = {key: saved[key] for key in ("global_step", "epoch", "state_dict", "optimizer_states", *more)}
    return rest | {"noise": saved["callbacks"]["ExactResume"]}


def equal(a: Any, b: Any) -> bool:
    """Equal to the last bit, all the way down."""
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    return a == b
