"""Base class of models whose only parameters are the pixels of the images that they make."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.distributed as dist
from lightning import Trainer
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn

from lit_models.common.checkpoints import CheckpointError
from lit_models.common.module import GenerativeModule, ImageShape
from lit_models.common.perceptual import PerceptualFeatures, VGGFeatures
from lit_models.common.precision import refuse_half_precision

INITIAL_STD = 0.5
"""Standard deviation of the initial logits: grey images with noise of a standard deviation of about an eighth."""
LOGIT_MARGIN = 0.02
"""Initial pixels are clipped to this distance from 0 and 1, where the sigmoid is flat."""


class LBFGS(torch.optim.LBFGS):
    """L-BFGS (Liu and Nocedal 1989, doi 10.1007/BF01589116) with a strong Wolfe line search and without tolerances.

    A step takes about `max_iter` passes through the network. It does not end early when changes are small.

    Args:
        lr: First step length that the line search tries.
        max_iter: Number of iterations in a step.
        history_size: Number of earlier iterations that approximate the curvature. A checkpoint holds twice as many
            copies of the images.

    Examples:
        >>> LBFGS([torch.zeros(3, requires_grad=True)], max_iter=5).param_groups[0]["line_search_fn"]
        'strong_wolfe'
    """

    def __init__(self, params: Any, lr: float = 1.0, max_iter: int = 10, history_size: int = 20) -> None:
        super().__init__(
            params,
            lr=lr,
            max_iter=max_iter,
            history_size=history_size,
            tolerance_grad=0.0,
            tolerance_change=0.0,
            line_search_fn="strong_wolfe",
        )


class ImageOptimization(GenerativeModule):
    """Base of models that make one image for each reference image by optimizing its pixels.

    The images are sigmoid(theta), so that pixels stay in [0, 1]; theta, N x C x H x W, is the only parameter. A batch
    holds the reference images of all images, in order. The features of the reference images are computed once. Neither
    they nor the fixed network that computes them are saved in checkpoints. The loss is a sum of errors, each of one
    layer and one image, relative to the norm of the reference's features. Every layer thus counts equally, and weights
    mean the same for any network.

    Under DDP each process has an equal share of the reference images, and gradients and losses are averaged over the
    processes, so that every process takes the same step, with L-BFGS too, and holds all images.
    """

    references: ClassVar[str] = "reference images"
    """What a batch has to hold."""
    logits: nn.Parameter

    def setup_images(self, features: PerceptualFeatures, num_images: int, image_shape: ImageShape) -> None:
        """Initialises the images with noise of torch's global generator; a constructor calls it after
        `save_hyperparameters`.

        Args:
            features: Loads the fixed network.
            num_images: Number N of images.
            image_shape: Channels, height, width.

        Raises:
            ValueError: `num_images` is below 1.
        """
        if num_images < 1:
            raise ValueError(f"num_images is {num_images}; it must be at least 1")
        self.features = features
        self.image_shape = image_shape
        self.logits = nn.Parameter(INITIAL_STD * torch.randn(num_images, *image_shape))
        self._network: list[nn.Module] = []  # in a list, so that its weights are none of the model's
        self._targets: Sequence[Tensor] | None = None

    @abstractmethod
    def targets(self, batch: tuple[Tensor, ...]) -> list[Tensor]:
        """Features of the reference images in a batch."""

    def optimized_images(self) -> Tensor:
        """All images of the model, in [0, 1], N x C x H x W."""
        return self.logits.detach().float().sigmoid()

    def predict_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        return {"images": (self.batch_images(batch).detach().float() * 255).round().to(torch.uint8)}

    @property
    def network(self) -> nn.Module:
        """The fixed network, on the model's device.

        Raises:
            CheckpointError: the network cannot be loaded, or cannot take these images.
        """
        if not self._network:
            try:
                self._network.append(self.features.build(self.image_shape, "--model.features"))
            except ValueError as error:
                raise CheckpointError(str(error)) from None
        return self._network[0].to(self.logits)

    def prepare_fit(self) -> None:
        _ = self.network

    def on_fit_start(self) -> None:
        super().on_fit_start()
        self._targets = None

    def check_trainer(self, trainer: Trainer) -> None:
        super().check_trainer(trainer)
        refuse_half_precision(trainer, "pixels do not change", "--trainer.precision bf16-mixed or 32-true")
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        if scaler is not None and isinstance(self.make_optimizer([self.logits]), torch.optim.LBFGS):
            raise MisconfigurationException(
                "L-BFGS evaluates the loss several times in a step, which the gradient scaler of 16-mixed does not"
                " support: use --trainer.precision bf16-mixed or 32-true, or"
                " --model.optimizer torch.optim.Adam --model.optimizer.lr 0.05"
            )

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Checks the images of a checkpoint.

        Raises:
            CheckpointError: it holds another number of images, or images of another shape.
        """
        super().on_load_checkpoint(checkpoint)
        held = checkpoint["state_dict"]["logits"].shape
        if held != self.logits.shape:
            sizes = [f"{number} x {' x '.join(map(str, shape))}" for number, *shape in (held, self.logits.shape)]
            raise CheckpointError(
                f"the checkpoint holds images of {sizes[0]}, and those of the data are {sizes[1]}; use the data that it"
                " was trained on"
            )

    def batch_images(self, batch: tuple[Tensor, ...]) -> Tensor:
        """The images that belong to a batch's reference images, with gradient: those of this process.

        Raises:
            MisconfigurationException: the batch does not hold the reference images of all images.
        """
        share = len(batch[0])
        trainer = self._trainer
        rank, processes = (0, 1) if trainer is None else (trainer.global_rank, trainer.world_size)
        if share * processes != len(self.logits):
            raise MisconfigurationException(
                f"in {type(self).__name__} the number of reference images is {len(self.logits)}, and in a batch it is"
                f" {share * processes}; a batch must hold all of them"
            )
        return self.logits[rank * share : (rank + 1) * share].sigmoid()

    def cached_targets(self, batch: tuple[Tensor, ...]) -> Sequence[Tensor]:
        """`targets` of a batch. In training they are computed once, as every batch is the same."""
        if self.training and self._targets is not None:
            return self._targets
        with torch.no_grad():
            targets = self.targets(batch)
        if self.training:
            self._targets = targets
        return targets

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """The loss, averaged over the processes, as a line search needs the same value in all of them."""
        loss = super().training_step(batch, batch_idx)
        if not (dist.is_available() and dist.is_initialized()):
            return loss
        mean = loss.detach().clone()
        dist.all_reduce(mean)
        return mean / dist.get_world_size() + (loss - loss.detach())


def random_vgg(*layers: str) -> VGGFeatures:
    """VGG-19 with random weights and average pooling."""
    return VGGFeatures("random", layers, "average")


def check_total_variation(weight: float, beta: float = 2.0) -> None:
    """Checks the options of a total variation term.

    Raises:
        ValueError: the weight is negative, or beta below 1.
    """
    if not weight >= 0:
        raise ValueError(f"tv_weight is {weight}; it must be at least 0")
    if not beta >= 1:
        raise ValueError(f"tv_beta is {beta}; it must be at least 1")
