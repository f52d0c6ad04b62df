"""Couplings of images and noise, to be injected into a flow-matching model: which noise an image is joined to."""

import sys
from abc import ABC, abstractmethod
from pathlib import Path
from typing import NamedTuple

import torch
from rich.console import Console
from rich.progress import track
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from lit_models.common.checkpoints import CheckpointError, article
from lit_models.common.component import Component
from lit_models.common.diffusion_base import DiffusionBase
from lit_models.common.latent_space import DataSpace
from lit_models.common.module import GenerativeModule
from lit_models.common.noise_process import Level
from lit_models.common.pretrained_encoder import resolve_checkpoint_path
from lit_models.common.samplers import Sampler


class Pairs(NamedTuple):
    """Images with the noise that they are joined to."""

    clean: Tensor
    """x_0: images with pixels in [-1, 1], or codes of a latent model, N x C x H x W."""
    noise: Tensor
    """Standard normal noise, N x C x H x W."""
    labels: Tensor | None
    """Classes of the images, int64, N; None without classes."""


class Coupling(Component, ABC):
    """A joint distribution of image and noise, of which the noise is standard normal."""

    def prepare(self, space: DataSpace, num_classes: int | None) -> None:
        """Loads what the coupling needs before a training of a model in a space and of some classes.

        Raises:
            CheckpointError: it cannot be loaded or does not fit.
        """

    def start(self, device: torch.device, rank: int, world_size: int) -> None:
        """Makes what the coupling needs on the device of a training, in process `rank` of `world_size`."""

    def stop(self) -> None:
        """Frees what `start` made."""

    @abstractmethod
    def draw(self, clean: Tensor, labels: Tensor | None, training: bool) -> Pairs | None:
        """Joins a batch of images to noise.

        Args:
            clean: x_0, N x C x H x W.
            labels: Their classes, int64, N; None for a model without classes.
            training: Whether the pairs are for training or for validation.

        Returns:
            N pairs; None if the coupling makes them in `start`, and no training runs.
        """


class Independent(Coupling):
    """Independent image and noise.

    Examples:
        >>> Independent().draw(torch.zeros(2, 1, 4, 4), None, training=True).noise.shape
        torch.Size([2, 1, 4, 4])
    """

    def draw(self, clean: Tensor, labels: Tensor | None, training: bool) -> Pairs:
        return Pairs(clean, torch.randn_like(clean), labels)


class OptimalTransport(Coupling):
    """Optimal transport within a batch: the assignment of noise to images with the least sum of |x_0 - e|^2.

    Tong et al. 2023, arXiv 2302.00482, section 3.2; Pooladian et al. 2023, arXiv 2304.14772. Paths cross less, so that
    they are straighter. Larger batches come closer to the optimal transport of the distributions.

    The assignment is computed on the CPU, where the N x N products of images and noise are copied to once a step: it
    takes time of order N^3, about 2 ms for 128 images and 50 ms for 512.

    With classes, noise is assigned within each class only. Otherwise noise would depend on the class, and samples of a
    class, which start from any noise, would be biased (Cheng and Schwing 2025, arXiv 2503.10636).

    Examples:
        >>> images = torch.tensor([-1.0, 1.0]).view(2, 1, 1, 1)
        >>> noise = OptimalTransport().draw(images, None, training=True).noise
        >>> bool(noise[0] < noise[1])
        True
    """

    def draw(self, clean: Tensor, labels: Tensor | None, training: bool) -> Pairs:
        noise = torch.randn_like(clean)
        with torch.autocast(clean.device.type, enabled=False):
            products = clean.flatten(1) @ noise.flatten(1).T  # |x|^2 and |e|^2 are the same for all assignments
        if labels is not None:
            products = products.masked_fill(labels[:, None] != labels[None, :], -torch.inf)
        assigned = torch.from_numpy(linear_sum_assignment(products.cpu().numpy(), maximize=True)[1])
        return Pairs(clean, noise[assigned.to(clean.device, non_blocking=True)], labels)


class Reflow(Coupling):
    """Noise and the image that a trained model generates from it, whose training is a reflow.

    Liu et al. 2022, arXiv 2209.03003, algorithm 1: the paths of a second model, trained on the pairs of a first one,
    are straighter, so that it needs fewer steps. The images of the data are not used; an epoch has as many steps as one
    of the data. The last tenth of the pairs is kept for validation. A test has no pairs, and logs no loss.

    The pairs are made when a training starts or resumes, and are equal each time. Each process makes its share of them
    on its device, and keeps them there in float32. The trained model does not need the first one. A conditional model
    needs a first model of the same classes, whose guidance is learned with the pairs. `--init_from` starts from the
    weights of the first model.

    Args:
        checkpoint: Checkpoint of the first model: flow matching, or diffusion with a deterministic sampler. `{seed}`
            stands for the seed of the run.
        num_pairs: Number of pairs.
        sampler: Sampler of the first model; by default its own. It must be deterministic given the noise.
        seed: Seed of the noise.

    Raises:
        ValueError: there are fewer than 10 pairs.

    Examples:
        >>> Reflow("runs/flowmatching_mnist/default/checkpoints/best.ckpt").num_pairs
        20000
    """

    def __init__(self, checkpoint: str, num_pairs: int = 20_000, sampler: Sampler | None = None, seed: int = 0) -> None:
        if num_pairs < 10:
            raise ValueError(f"num_pairs is {num_pairs}; it must be at least 10")
        self.checkpoint = checkpoint
        self.num_pairs = num_pairs
        self.sampler = sampler
        self.seed = seed
        self._first: DiffusionBase | None = None
        self._pairs: Pairs | None = None

    def prepare(self, space: DataSpace, num_classes: int | None) -> None:
        if self._first is not None:
            return
        path = resolve_checkpoint_path(self.checkpoint, None)
        with torch.random.fork_rng(devices=[]):
            self._first = self._load(path, space, num_classes)

    def _load(self, path: Path, space: DataSpace, num_classes: int | None) -> DiffusionBase:
        first = GenerativeModule.load(path)
        if not isinstance(first, DiffusionBase):
            raise CheckpointError(
                f"{path} holds {article(type(first).__name__)}, which makes no images from noise; give the checkpoint"
                " of a FlowMatching model"
            )
        _share_space(path, first, space)
        if num_classes is not None and first.num_classes != num_classes:
            raise CheckpointError(
                f"{path} has {first.num_classes or 'no'} classes, and the model {num_classes}: give a first model of"
                " the same classes, or --model.conditional false"
            )
        self._check_sampler(path, first)
        return first

    def _check_sampler(self, path: Path, first: DiffusionBase) -> None:
        sampler = self.sampler or first.sampler
        try:
            sampler.check(first.process)
        except ValueError as error:
            raise CheckpointError(f"{path}: {error}") from None
        noise, label = torch.randn(1, *first.space.shape), torch.zeros(1, dtype=torch.int64)
        images = [_generate(first, sampler, noise, None if first.num_classes is None else label) for _ in range(2)]
        if not torch.equal(*images):
            raise CheckpointError(
                f"{type(sampler).__name__} of {path} gives other images from the same noise each time; give"
                " --model.coupling.sampler DDIM, or for a model of continuous time Midpoint"
            )

    def start(self, device: torch.device, rank: int, world_size: int) -> None:
        """Makes the pairs of this process, with a progress bar."""
        assert self._first is not None, "call prepare before start"
        first = self._first.to(device)
        sampler = self.sampler or first.sampler
        count = max(10, self.num_pairs // world_size)
        size = max(1, min(500, 2**20 // (first.space.shape[1] * first.space.shape[2])))
        generator = torch.Generator().manual_seed(self.seed + rank)
        noise = torch.randn(count, *first.space.shape, generator=generator).to(device)
        labels = None
        if first.num_classes is not None:
            labels = torch.randint(first.num_classes, (count,), generator=generator).to(device)
        clean = torch.empty_like(noise)
        silent = rank != 0 or not sys.stderr.isatty()
        parts = track(
            range(0, count, size), "making pairs", console=Console(stderr=True), transient=True, disable=silent
        )
        for k in parts:
            rows = slice(k, k + size)
            clean[rows] = _generate(first, sampler, noise[rows], None if labels is None else labels[rows])
        self._pairs, self._first = Pairs(clean, noise, labels), None

    def stop(self) -> None:
        self._pairs = None

    def draw(self, clean: Tensor, labels: Tensor | None, training: bool) -> Pairs | None:
        if self._pairs is None:
            return None
        total = len(self._pairs.clean)
        kept = total // 10
        first, last = (0, total - kept) if training else (total - kept, total)
        rows = torch.randint(first, last, (len(clean),), device=clean.device)
        of_first = self._pairs.labels
        return Pairs(
            self._pairs.clean[rows],
            self._pairs.noise[rows],
            None if of_first is None or labels is None else of_first[rows],
        )


@torch.no_grad()
def _generate(model: DiffusionBase, sampler: Sampler, noise: Tensor, labels: Tensor | None) -> Tensor:
    """x_0 from standard normal noise, N x C x H x W each."""
    highest: Level[float] = model.process.levels(1)[0]
    noisy = (highest.alpha**2 + highest.sigma**2) ** 0.5 * noise
    return model.sample_clean(sampler, noisy, labels)


def _share_space(path: Path, first: DiffusionBase, space: DataSpace) -> None:
    """Makes a model's space that of the first model.

    Raises:
        CheckpointError: they are of other shapes, or of other autoencoders.
    """
    if tuple(first.space.shape) != tuple(space.shape) or type(first.space) is not type(space):
        names = [f"{type(s).__name__} of {' x '.join(map(str, s.shape))}" for s in (first.space, space)]
        raise CheckpointError(
            f"{path} makes x_0 in a {names[0]}, and the model learns it in a {names[1]}; give a first model of the same"
            " data and autoencoder"
        )
    try:
        space.load_state_dict(first.space.state_dict())
    except RuntimeError:
        raise CheckpointError(f"{path} is a model of codes of another autoencoder; give that one") from None
