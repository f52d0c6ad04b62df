from collections.abc import Callable
from typing import Any, Literal

import torch
import torch.distributed as dist
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn
from torch.nn import functional as F

from lit_models.common.autoencoder_base import AutoencoderBase
from lit_models.common.capabilities import LatentBlock, refuse_label
from lit_models.common.code_table import CodeTable, Projection
from lit_models.common.generators import DCGANGenerator, Generator
from lit_models.common.module import ImageShape
from lit_models.common.priors import Normal
from lit_models.common.schedules import Schedule
from lit_models.losses.laplacian import laplacian_l1
from lit_models.networks.init import channels_last

Loss = Callable[[Tensor, Tensor], Tensor]
"""(images, references), N x C x H x W each -> N."""
STARTS = 256
"""Codes from one of which a search begins."""
HALF = (torch.float16, torch.bfloat16)


def squared_error(images: Tensor, references: Tensor) -> Tensor:
    """Mean squared difference of pixels: N."""
    return (images - references).square().flatten(1).mean(dim=1)


LOSSES: dict[str, Loss] = {"laplacian": laplacian_l1, "mse": squared_error}


class GLO(AutoencoderBase):
    """Generative latent optimisation: min_G 1/N sum_i min_{z_i} l(G(z_i), x_i), a code z_i learned for each image x_i.

    Bojanowski et al. 2017, arXiv 1707.05776: a generator without a discriminator and without an encoder. A step moves
    the codes of its batch by plain gradient descent, z <- project(z - code_lr dl/dz), l of each image alone, so that
    code_lr does not depend on the batch's size, and the generator by its optimizer (theirs is gradient descent too).
    Codes start as draws of N(0, I), projected. New images are made of a Gaussian with full covariance that is fitted
    to the codes at the end of each epoch, or of the codes' initial latent_distribution; draws are projected as codes are. An image that
    the data change from epoch to epoch, such as by `data.shift`, has one code for all its versions.

    The code of any other image is looked for by descent on z, from the nearest in pixels of draws of the Gaussian that
    are the same for all images, as its mean can be where the generator shows nothing and has no slope. That is slow: it
    takes encode_steps passes through the generator and back. Validation leaves it out; `test/mse` is of such codes.

    Under fp16 a code whose gradient is too large for it stays for that step, in which the generator nearly always stays
    too; gradient clipping is for the generator alone.

    Args:
        latent_dim: width d of a code.
        generator: its network; DCGANGenerator by default.
        loss: l, of Laplacian pyramids (L1) or of pixels (squared), a mean over pixels each.
        projection: codes stay in the unit ball, or go anywhere.
        code_lr: of the codes. Outside the ball codes are about sqrt(d) times as long and need d times the rate.
        latent_distribution: of the codes of new images, the initial one or the Gaussian fitted to the codes.
        encode_steps, encode_lr: of Adam on the code of an image that was not trained on; the rate falls to 0.
        schedule: how the generator's learning rate goes: as it is, or one cycle over the whole training.
        image_shape: channels, height, width; given by the data when run through train.py.
        optimizer: makes the generator's optimizer from the parameters.

    Raises:
        ValueError: a size, number of steps or rate that is too small.
    """

    monitor = ("val/frechet_classifier", "min")
    needs_index = True
    """Training batches have the number of each image, by which its code is found."""

    def __init__(
        self,
        latent_dim: int = 64,
        generator: Generator | None = None,
        loss: Literal["laplacian", "mse"] = "laplacian",
        projection: Projection = "ball",
        code_lr: float = 1.0,
        latent_distribution: Literal["initial", "gaussian"] = "gaussian",
        encode_steps: int = 50,
        encode_lr: float = 0.1,
        schedule: Schedule = "constant",
        image_shape: ImageShape = (1, 28, 28),
        optimizer: OptimizerCallable = lambda params: torch.optim.Adam(params, lr=1e-3),
    ) -> None:
        super().__init__(optimizer)
        if latent_dim < 1 or encode_steps < 1:
            raise ValueError(f"latent_dim is {latent_dim} and encode_steps {encode_steps}; both must be at least 1")
        if not (code_lr > 0 and encode_lr > 0):
            raise ValueError(f"code_lr is {code_lr} and encode_lr {encode_lr}; both must be positive")
        self.save_hyperparameters()
        self.loss = LOSSES[loss]
        self.code_lr = code_lr
        self.latent_distribution = latent_distribution
        self.encode_steps = encode_steps
        self.encode_lr = encode_lr
        self.schedule = schedule
        self.prior = Normal() if (latent_distribution, projection) == ("initial", "none") else latent_distribution
        self.generator = channels_last((generator or DCGANGenerator()).build(image_shape, latent_dim))
        self.table = CodeTable(latent_dim, projection)
        # `put` keeps the tables of all processes equal; DDP need not send them before every step.
        self._ddp_params_and_buffers_to_ignore = [f"table.{name}" for name, _ in self.table.named_buffers()]
        self._learning: tuple[Tensor, Tensor] | None = None

    # What is asked of a model that makes images.

    def latent_blocks(self) -> list[LatentBlock]:
        return [LatentBlock("continuous", 0, self.table.dim)]

    def sample_prior(self, n: int) -> Tensor:
        return self.table.gaussian(n) if self.latent_distribution == "gaussian" else self.table.initial(n)

    def sample(self, n: int, label: int | None = None) -> Tensor:
        refuse_label(self, label)
        return self.decode(self.sample_prior(n))

    def decode(self, codes: Tensor) -> Tensor:
        return self.generator(codes)

    def encode(self, images: Tensor) -> Tensor:
        return self.encoder_network()(images)

    def encoder_network(self) -> nn.Module:
        return _Search(self.generator, self.table, self.loss, self.encode_steps, self.encode_lr)

    # Training.

    def on_fit_start(self) -> None:
        """
        Raises:
            MisconfigurationException: codes that would stand still in half precision.
        """
        if self.dtype in HALF:
            raise MisconfigurationException("codes stand still in half precision: use bf16-mixed or 16-mixed")

    def on_train_start(self) -> None:
        """Draws a code for each training image, unless a checkpoint has brought them.

        Raises:
            MisconfigurationException: those are of another number of images.
        """
        loader: Any = self.trainer.train_dataloader
        count = len(loader.index if hasattr(loader, "index") else loader.dataset)
        if not len(self.table):
            self.table.fill(count)
        if len(self.table) != count:
            raise MisconfigurationException(
                f"the checkpoint has codes of {len(self.table)} training images, and the data have {count}:"
                " go on with the data that it was trained on"
            )
        if dist.is_available() and dist.is_initialized():
            dist.broadcast(self.table.codes, 0)

    def loss_terms(self, batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        if len(batch) != 3:
            raise MisconfigurationException(
                f"{type(self).__name__} learns from batches of (images, labels, numbers of the images), which an"
                " ImageDataModule gives it, or a BatchLoader with return_index=True"
            )
        images, _, index = batch
        codes = self.table.rows(index)
        self._learning = index, codes
        made = self.generator(codes).to(images.dtype)
        return {"loss": self.loss(made, images).mean(), "mse": F.mse_loss(made, images)}

    def on_after_backward(self) -> None:
        """One step of the batch's codes, by the gradient that fp16's scaler and the mean over images have scaled."""
        assert self._learning is not None
        (index, codes), self._learning = self._learning, None
        assert codes.grad is not None
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        scale = 1.0 if scaler is None else scaler.scale(codes.new_ones(()))
        gradient = codes.grad * (len(index) * self.trainer.accumulate_grad_batches / scale)
        finite = gradient.isfinite().all(dim=1, keepdim=True)
        moved = codes.detach() - self.code_lr * torch.where(finite, gradient, 0)
        loader: Any = self.trainer.train_dataloader
        self.table.put(index, moved, loader.batch_size)

    def on_train_epoch_end(self) -> None:
        self.table.fit()

    def on_validation_start(self) -> None:
        self.table.fit()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Nothing, as codes of other images take many passes each."""

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        images = batch[0]
        made = self.reconstruct(images).to(images.dtype)
        self.log_terms("test", {"mse": F.mse_loss(made, images)}, len(images))


class _Search(nn.Module):
    """Codes of images, by descent on what a generator makes of them; each image's code is of that image alone."""

    starts: Tensor

    def __init__(self, generator: nn.Module, table: CodeTable, loss: Loss, steps: int, lr: float) -> None:
        super().__init__()
        self.generator = generator
        self.projected = table.projected
        self.loss = loss
        self.steps = steps
        self.lr = lr
        self.register_buffer("starts", table.gaussian(STARTS, torch.Generator().manual_seed(0)))

    def forward(self, images: Tensor) -> Tensor:
        """N x C x H x W -> N x d, without a gradient, in any mode; never in half precision, in which it goes astray."""
        training = self.generator.training
        self.generator.eval()
        try:
            with (
                torch.inference_mode(False),
                torch.enable_grad(),
                torch.autocast(images.device.type, enabled=False),
            ):
                return self._descent(images.detach().clone())
        finally:
            self.generator.train(training)

    def _descent(self, images: Tensor) -> Tensor:
        codes = self._nearest(images).requires_grad_()
        optimizer = torch.optim.Adam([codes], lr=self.lr)
        for step in range(self.steps):
            optimizer.param_groups[0]["lr"] = self.lr * (1 - step / self.steps)
            made = self.generator(codes).to(images.dtype)
            [codes.grad] = torch.autograd.grad(self.loss(made, images).sum(), [codes])
            optimizer.step()
            with torch.no_grad():
                codes.copy_(self.projected(codes))
        return codes.detach()

    @torch.no_grad()
    def _nearest(self, images: Tensor) -> Tensor:
        """For each image the start that the generator makes the most similar one of, by squared error."""
        shown = self.generator(self.starts).to(images.dtype)
        return self.starts[torch.cdist(images.flatten(1), shown.flatten(1)).argmin(dim=1)]
