"""What models share whose only parameters are the images that they make."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
import torch.distributed as dist
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn

from lit_models.common.checkpoints import CheckpointError
from lit_models.common.module import GenerativeModule, ImageShape
from lit_models.common.perceptual import PerceptualFeatures, VGGFeatures

NOISE = 0.5
"""Standard deviation of the logits at first: grey images with noise of about an eighth."""
MARGIN = 0.02
"""How far from black and white, where there is no slope, a picture's pixels are kept where a descent starts from it."""


@runtime_checkable
class HasOptimizedImages(Protocol):
    def optimized_images(self) -> Tensor:
        """All images that the model has made, in [0, 1], N x C x H x W; it makes no others."""


class LBFGS(torch.optim.LBFGS):
    """L-BFGS (Liu and Nocedal 1989, doi 10.1007/BF01589116) that goes on to the end: a step is `max_iter` passes or so
    through the network, each where the strong Wolfe conditions want it, and no change is too small for it.

    Args:
        lr: the first step length that is tried.
        max_iter: directions in a step.
        history_size: earlier directions that the curvature is told from; checkpoints hold twice as many images.
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
    """An image for each picture, made by descent on its pixels: `class TextureSynthesis(ImageOptimization,
    GenerativeModule)`.

    The images are sigmoid(theta) and so in [0, 1] all the way; theta, N x C x H x W, is all that is learned. A batch
    has the pictures of all images, in their order. What the fixed network sees in them is found once; neither that nor
    the network is in checkpoints. A loss is a sum over layers of errors of each image alone, relative to the picture's
    own size there, which gives each layer the same say and makes weights mean the same for any network.

    Under DDP each process has an equal share of the pictures and all of them the mean of all gradients and losses, so
    that every process takes the same step, by L-BFGS too, and holds all images.
    """

    given: ClassVar[str] = "pictures"
    """What a batch has to be of."""
    logits: nn.Parameter

    def hold(self, features: PerceptualFeatures, num_images: int, image_shape: ImageShape) -> None:
        """Sets the parts, after `save_hyperparameters`. The images start as noise by torch's global generator.

        Raises:
            ValueError: no image.
        """
        if num_images < 1:
            raise ValueError(f"num_images is {num_images}; it must be at least 1")
        self.features = features
        self.image_shape = image_shape
        self.logits = nn.Parameter(NOISE * torch.randn(num_images, *image_shape))
        self._network: list[nn.Module] = []  # in a list: no part of the model's own weights
        self._targets: Sequence[Tensor] | None = None

    @abstractmethod
    def targets(self, batch: tuple[Tensor, ...]) -> list[Tensor]:
        """What the network sees in the pictures that the images are made of."""

    def optimized_images(self) -> Tensor:
        return self.logits.detach().float().sigmoid()

    def predict_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        return {"images": (self.own(batch).detach().float() * 255).round().to(torch.uint8)}

    @property
    def network(self) -> nn.Module:
        """The fixed network, on the model's device.

        Raises:
            CheckpointError: it cannot be had, or not for these images.
        """
        if not self._network:
            try:
                self._network.append(self.features.load(self.image_shape, "--model.features"))
            except ValueError as error:
                raise CheckpointError(str(error)) from None
        return self._network[0].to(self.logits)

    def prepare_fit(self) -> None:
        _ = self.network

    def on_fit_start(self) -> None:
        """
        Raises:
            MisconfigurationException: a precision in which the descent stands still.
        """
        self._targets = None
        if self.dtype in (torch.float16, torch.bfloat16):
            raise MisconfigurationException("a descent stands still in half precision: use bf16-mixed or 32-true")
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        if scaler is not None and isinstance(self.optimizers(use_pl_optimizer=False), torch.optim.LBFGS):
            raise MisconfigurationException(
                "L-BFGS looks at the loss several times a step, which the gradient scaler of 16-mixed cannot follow:"
                " use bf16-mixed or 32-true, or --model.optimizer torch.optim.Adam --model.optimizer.lr 0.05"
            )

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """
        Raises:
            CheckpointError: it holds another number of images, or of another shape.
        """
        super().on_load_checkpoint(checkpoint)
        held = checkpoint["state_dict"]["logits"].shape
        if held != self.logits.shape:
            sizes = [f"{number} x {' x '.join(map(str, shape))}" for number, *shape in (held, self.logits.shape)]
            raise CheckpointError(f"the checkpoint holds images of {sizes[0]}, and those of the data are {sizes[1]}")

    def own(self, batch: tuple[Tensor, ...]) -> Tensor:
        """The images of a batch's pictures, with the gradient: those of this process.

        Raises:
            MisconfigurationException: it does not have the pictures of all images.
        """
        share = len(batch[0])
        trainer = self._trainer
        rank, processes = (0, 1) if trainer is None else (trainer.global_rank, trainer.world_size)
        if share * processes != len(self.logits):
            raise MisconfigurationException(
                f"{type(self).__name__} holds {len(self.logits)} images, and a batch has {share * processes} pictures;"
                " it has to have all of them"
            )
        return self.logits[rank * share : (rank + 1) * share].sigmoid()

    def wanted(self, batch: tuple[Tensor, ...]) -> Sequence[Tensor]:
        """The targets of a batch, which is the same in all of training."""
        if self.training and self._targets is not None:
            return self._targets
        with torch.no_grad():
            found = self.targets(batch)
        if self.training:
            self._targets = found
        return found

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """The loss, which has the same value in all processes, as a line search has to find it."""
        loss = super().training_step(batch, batch_idx)
        if not (dist.is_available() and dist.is_initialized()):
            return loss
        mean = loss.detach().clone()
        dist.all_reduce(mean)
        return mean / dist.get_world_size() + (loss - loss.detach())


def random_vgg(*layers: str) -> VGGFeatures:
    """VGG-19 as it is before training, with average pooling."""
    return VGGFeatures("random", layers, "average")


def check_smoothness(weight: float, beta: float = 2.0) -> None:
    """
    Raises:
        ValueError: a weight or an exponent that no total variation could have.
    """
    if not weight >= 0:
        raise ValueError(f"tv_weight is {weight}; it may not be negative")
    if not beta >= 1:
        raise ValueError(f"tv_beta is {beta}; it must be at least 1")
