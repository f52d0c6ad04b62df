"""Samples images and latent codes from a trained model."""

import math
from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch
from torch import Tensor

from datamodules import DataError, ImageDataModule
from genlab.latent_paths import CodePath, linear_path, prior_path
from genlab.latents import (
    batch_size_of,
    class_block,
    encode_examples,
    latent_blocks,
    sample_gaussian_mixture,
    with_class,
)
from genlab.runs.errors import UsageError
from genlab.sampling.images import describe_shape, to_uint8
from genlab.words import counted
from lit_models import CheckpointError, GenerativeModule
from lit_models.common.capabilities import Decodes, Encodes, HasLatentBlocks, HasOptimizedImages, LatentBlock, Samples

CodeSource = Literal["prior", "mixture", "gaussian"]
"""The distribution that codes are sampled from."""
MAX_TRAINING_IMAGES = 10000
"""Training images whose codes a mixture or a Gaussian is fitted to."""


class CheckpointSampler:
    """Samples images of a trained model, from its prior or from a distribution fitted to the codes of training images.

    Args:
        model: A trained model in evaluation mode.
        source: prior, mixture (of Gaussians) or gaussian (one of them); None for the prior of a model that has one,
            else the mixture.
        data: Returns the training data; called only when a distribution has to be fitted.
        components: Number of Gaussians in the mixture.
        seed: Seed of the fit and of the samples of the fitted distribution. Samples of a prior come from torch's global
            generator.

    Raises:
        UsageError: The model generates no images, or not from this source.
    """

    def __init__(
        self,
        model: GenerativeModule,
        source: CodeSource | None,
        data: Callable[[], ImageDataModule],
        components: int = 10,
        seed: int = 0,
    ) -> None:
        name = type(model).__name__
        has_prior = isinstance(model, Samples | HasLatentBlocks | HasOptimizedImages)
        can_fit = isinstance(model, Encodes) and isinstance(model, Decodes)
        if not has_prior and not can_fit:
            raise UsageError(f"{name} generates no images; give the checkpoint of a generative model")
        self.source: CodeSource = source or ("prior" if has_prior else "mixture")
        if self.source == "prior" and not has_prior:
            raise UsageError(f"{name} has no prior; use --sample-from mixture, which is fitted to training images")
        if self.source != "prior" and not can_fit:
            raise UsageError(f"{name} has no codes to fit a {self.source} to; use --sample-from prior")
        self.model: Any = model
        self.data = data
        self.components = components if self.source == "mixture" else 1
        self.seed = seed

    @property
    def max_images(self) -> float:
        """How many different images the model can generate."""
        return len(self.model.optimized_images()) if isinstance(self.model, HasOptimizedImages) else math.inf

    @property
    def num_classes(self) -> int | None:
        """The number of classes that the model was trained to make; None for codes fitted to training images."""
        return getattr(self.model, "num_classes", None) if self.source == "prior" else None

    @property
    def batch_size(self) -> int:
        """Images that are made at once."""
        return batch_size_of(self.model)

    def has_codes(self, label: int | None = None) -> bool:
        """Whether images (of a class, if one is given) are decoded from codes."""
        if not isinstance(self.model, Decodes) or self.source != "prior":
            return isinstance(self.model, Decodes)
        return isinstance(self.model, HasLatentBlocks) and (label is None or class_block(self.model) is not None)

    @torch.no_grad()
    def sample(self, n: int, label: int | None = None) -> tuple[Tensor, Tensor | None]:
        """Samples images of any class or of one.

        Returns:
            The images, uint8 N x C x H x W, and the codes that they were decoded from, N x d, or None; on the CPU.

        Raises:
            UsageError: The class does not exist, or the model cannot be conditioned on a class.
            DataError: The training data cannot be loaded.
            CheckpointError: The images or codes are not finite.
        """
        made = list(self.batches(n, label))
        codes = [of_batch for _, of_batch in made if of_batch is not None]
        return torch.cat([images for images, _ in made]), torch.cat(codes) if codes else None

    @torch.no_grad()
    def batches(self, n: int, label: int | None = None) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Yields what `sample` returns, in batches. Raises the errors of `sample`."""
        if label is not None:
            self._check_class(label)
        if self.has_codes(label):
            for codes in self.sample_codes(n, label).split(self.batch_size):
                yield self.decode(codes), codes
        elif isinstance(self.model, HasOptimizedImages):
            images = self.model.optimized_images()
            if n > len(images):
                raise UsageError(
                    f"{type(self.model).__name__} has {counted(len(images), 'image')};"
                    f" give --count {len(images)} or less"
                )
            yield to_uint8(images[:n]), None
        else:
            for start in range(0, n, self.batch_size):
                yield to_uint8(self.model.sample(min(self.batch_size, n - start), label)), None

    @torch.no_grad()
    def sample_codes(self, n: int, label: int | None = None) -> Tensor:
        """Samples codes, n x d, on the CPU. Raises the errors of `sample`."""
        if self.source == "prior":
            codes = self.model.sample_prior(n).float().cpu()
            return codes if label is None else self._with_label(codes, label)
        codes, blocks = self._training_codes(label)
        if not torch.isfinite(codes).all():
            raise CheckpointError("the model's codes are not finite; train it again")
        return sample_gaussian_mixture(codes, blocks, self.components, n, self.seed)

    def waypoints(self, count: int, places: int, label: int | None = None) -> Tensor:
        """Samples the codes that interpolation paths go through: places x count x d.

        The whole path of a class-conditional model has the class of its first waypoint. Raises the errors of `sample`.
        """
        waypoints = self.sample_codes(places * count, label).unflatten(0, (places, count))
        block = class_block(self.model)
        if self.source != "prior" or block is None:
            return waypoints
        classes = waypoints[0, :, block.start :].argmax(dim=1)
        return torch.stack([with_class(codes, block, classes) for codes in waypoints])

    def path(self) -> CodePath:
        """The kind of path on which codes of this source are interpolated."""
        return prior_path(self.model) if self.source == "prior" else linear_path

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """Decodes codes, N x d, to images, uint8 N x C x H x W, on the CPU."""
        batches = (batch.to(self.model.device, self.model.dtype) for batch in codes.split(self.batch_size))
        return torch.cat([to_uint8(self.model.decode(batch)) for batch in batches])

    def _with_label(self, codes: Tensor, label: int) -> Tensor:
        self._check_class(label)
        block = class_block(self.model)
        if block is None:
            raise UsageError(f"{type(self.model).__name__} has no codes of a class; leave --interpolate out")
        return with_class(codes, block, torch.full((len(codes),), label))

    def check_conditional(self) -> int | None:
        """The number of classes that the model can be conditioned on; None for codes fitted to training images.

        Raises:
            UsageError: It cannot be conditioned on a class.
        """
        if self.source == "prior" and self.num_classes is None:
            remedy = "; use --sample-from mixture, which is fitted to the training images of that class"
            can_fit = isinstance(self.model, Encodes) and isinstance(self.model, Decodes)
            raise UsageError(f"{type(self.model).__name__} cannot be conditioned on a class{remedy if can_fit else ''}")
        return self.num_classes

    def _check_class(self, label: int) -> None:
        """Raises UsageError unless the model can be conditioned on this class."""
        num_classes = self.check_conditional()
        if num_classes is not None and label >= num_classes:
            raise UsageError(f"--class {label} is not a class of the model; its classes are 0 to {num_classes - 1}")

    def _training_codes(self, label: int | None) -> tuple[Tensor, list[LatentBlock]]:
        data, shape = self.data(), self.model.hparams.get("image_shape")
        if shape is not None and tuple(shape) != data.image_shape:
            raise UsageError(
                f"the model's images are {describe_shape(shape)}, those of {type(data).__name__}"
                f" {describe_shape(data.image_shape)}; name the data that it was trained on with --data"
            )
        try:
            codes = encode_examples(self.model, data, "train", MAX_TRAINING_IMAGES, label=label).cpu()
        except DataError as error:
            raise DataError(
                f"a {self.source} is fitted to training images (--data-root names their folder): {error}"
            ) from None
        if len(codes) < 2:
            of_class = f" of class {label}; the classes are 0 to {data.num_classes - 1}" if label is not None else ""
            raise UsageError(
                f"{type(data).__name__} has {len(codes)} training images{of_class}: too few to fit a {self.source}"
            )
        blocks = latent_blocks(self.model, codes.shape[1])
        if all(block.kind == "categorical" for block in blocks):
            raise UsageError("categorical codes have no mixture of Gaussians; use --sample-from prior")
        return codes, blocks
