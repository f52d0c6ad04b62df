from collections.abc import Callable
from typing import Any, Literal

import torch
import torch.distributed as dist
from lightning import Trainer
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn
from torch.nn import functional as F

from lit_models.common.autoencoder_base import AutoencoderBase
from lit_models.common.capabilities import LatentBlock, refuse_label
from lit_models.common.code_table import CodeTable, Projection
from lit_models.common.generators import DCGANGenerator, Generator
from lit_models.common.lr_schedules import LRSchedule
from lit_models.common.module import ImageShape
from lit_models.common.precision import refuse_half_precision
from lit_models.common.priors import Normal
from lit_models.losses.laplacian import laplacian_l1
from lit_models.networks.init import channels_last

Loss = Callable[[Tensor, Tensor], Tensor]
"""(images, references), N x C x H x W each -> N."""
NUM_STARTS = 256
"""Number of candidate codes from which the optimization of a code starts."""


def squared_error(images: Tensor, references: Tensor) -> Tensor:
    """Mean squared difference of pixels: N x C x H x W each -> N."""
    return (images - references).square().flatten(1).mean(dim=1)


LOSSES: dict[str, Loss] = {"laplacian": laplacian_l1, "mse": squared_error}


class GLO(AutoencoderBase):
    """Generative latent optimization: min_G 1/N sum_i min_{z_i} l(G(z_i), x_i), with a learned code z_i for each image.

    Bojanowski et al. 2017, arXiv 1707.05776: a generator without discriminator and without encoder. A step updates the
    codes of its batch by plain gradient descent, z <- project(z - code_lr dl/dz), where l is the loss of one image, so
    that code_lr does not depend on the batch size. The optimizer updates the generator (in the paper by gradient
    descent too). Codes are initialised from N(0, I), projected. After each epoch, a Gaussian with full covariance is
    fitted to the codes. Samples use codes from that Gaussian or from the initial distribution, projected. If the data
    module changes an image from epoch to epoch, for example by `data.shift`, all its versions share one code.

    `encode` finds the code of any image by optimization, in encode_steps passes through the generator and back, which
    is slow. It starts from the best of a fixed set of samples of the Gaussian, not from the mean, where the gradient
    may vanish. Validation leaves it out; `test/mse` uses such codes.

    In fp16, a code whose gradient overflows is not updated in that step; nor, nearly always, is the generator. Gradient
    clipping applies to the generator only.

    Args:
        latent_dim: Width d of a latent code.
        generator: Generator network G; DCGANGenerator by default.
        loss: Loss l of an image: L1 distance of Laplacian pyramids, or mean squared error of pixels.
        projection: `ball` projects codes to the unit ball; `none` leaves them unconstrained.
        code_lr: Learning rate of the codes. Without projection, codes are about sqrt(d) times as long, and need a rate
            d times as large.
        latent_distribution: Distribution of the codes of samples: the Gaussian fitted to the learned codes, or the
            distribution of the initial codes.
        encode_steps: Number of Adam steps that find the code of an image that was not trained on.
        encode_lr: Initial learning rate of these steps; it falls to 0.
        lr_schedule: Learning-rate schedule of the generator: `constant`, or `one_cycle` over the whole training.
        image_shape: Channels, height, width of the images; train.py takes them from the data.
        optimizer: Optimizer of the generator; in Python, a function that makes it from the parameters.

    Raises:
        ValueError: a size, a number of steps or a rate is too small.

    Examples:
        >>> model = GLO(latent_dim=4)
        >>> model.sample(2).shape
        torch.Size([2, 1, 28, 28])
    """

    monitor = ("val/frechet_classifier", "min")
    needs_index = True
    """Training batches must hold the index of each image, which is that of its code."""

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
        lr_schedule: LRSchedule = "constant",
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
        self.lr_schedule = lr_schedule
        self.prior = Normal() if (latent_distribution, projection) == ("initial", "none") else latent_distribution
        self.generator = channels_last((generator or DCGANGenerator()).build(image_shape, latent_dim))
        self.table = CodeTable(latent_dim, projection)
        # `update` keeps the tables of all processes equal, so that DDP need not broadcast them before every step.
        self._ddp_params_and_buffers_to_ignore = [f"table.{name}" for name, _ in self.table.named_buffers()]
        self._batch_codes: tuple[Tensor, Tensor] | None = None

    # Sampling, decoding and encoding.

    def latent_blocks(self) -> list[LatentBlock]:
        return [LatentBlock("continuous", 0, self.table.dim)]

    def sample_prior(self, n: int) -> Tensor:
        if self.latent_distribution == "gaussian":
            return self.table.sample_gaussian(n)
        return self.table.sample_initial(n)

    def sample(self, n: int, label: int | None = None) -> Tensor:
        refuse_label(self, label)
        return self.decode(self.sample_prior(n))

    def decode(self, codes: Tensor) -> Tensor:
        """N x d -> N x C x H x W."""
        return self.generator(codes)

    def encode(self, images: Tensor) -> Tensor:
        """N x C x H x W -> N x d, by optimization of each code."""
        return self.encoder_network()(images)

    def encoder_network(self) -> nn.Module:
        return OptimizationEncoder(self.generator, self.table, self.loss, self.encode_steps, self.encode_lr)

    # Training.

    def check_trainer(self, trainer: Trainer) -> None:
        super().check_trainer(trainer)
        refuse_half_precision(trainer, "codes do not change", "--trainer.precision bf16-mixed or 16-mixed")

    def on_train_start(self) -> None:
        """Draws a code for each training image, unless a checkpoint holds them.

        Raises:
            MisconfigurationException: the checkpoint holds codes of another number of images.
        """
        loader: Any = self.trainer.train_dataloader
        count = len(loader.index if hasattr(loader, "index") else loader.dataset)
        if not len(self.table):
            self.table.initialize(count)
        if len(self.table) != count:
            raise MisconfigurationException(
                f"the number of training images is {len(self.table)} in the checkpoint and {count} in the data;"
                " resume with the data that it was trained on"
            )
        if dist.is_available() and dist.is_initialized():
            dist.broadcast(self.table.codes, 0)

    def loss_terms(self, batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        if len(batch) != 3:
            raise MisconfigurationException(
                f"{type(self).__name__} needs batches of (images, labels, indices): use an ImageDataModule, or a"
                " BatchLoader with return_index=True"
            )
        images, _, index = batch
        codes = self.table.lookup(index)
        self._batch_codes = index, codes
        generated = self.generator(codes).to(images.dtype)
        return {"loss": self.loss(generated, images).mean(), "mse": F.mse_loss(generated, images)}

    def on_after_backward(self) -> None:
        """Updates the codes of the batch; their gradient is that of the mean over images, scaled by the fp16 scaler."""
        assert self._batch_codes is not None
        (index, codes), self._batch_codes = self._batch_codes, None
        assert codes.grad is not None
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        scale = 1.0 if scaler is None else scaler.scale(codes.new_ones(()))
        gradient = codes.grad * (len(index) * self.trainer.accumulate_grad_batches / scale)
        finite = gradient.isfinite().all(dim=1, keepdim=True)
        updated = codes.detach() - self.code_lr * torch.where(finite, gradient, 0)
        loader: Any = self.trainer.train_dataloader
        self.table.update(index, updated, getattr(loader, "max_batch_size", loader.batch_size))

    def on_train_epoch_end(self) -> None:
        self.table.fit_gaussian()

    def on_validation_start(self) -> None:
        self.table.fit_gaussian()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Does nothing, as the codes of validation images would have to be optimized."""

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        images = batch[0]
        generated = self.reconstruct(images).to(images.dtype)
        self.log_terms("test", {"mse": F.mse_loss(generated, images)}, len(images))


class OptimizationEncoder(nn.Module):
    """Finds the code of each image by optimization through the generator.

    Args:
        generator: Generator, N x d -> N x C x H x W.
        table: Learned codes, whose Gaussian gives the candidates to start from.
        loss: Loss of each image.
        steps: Number of Adam steps.
        lr: Initial learning rate; it falls to 0.
    """

    starts: Tensor

    def __init__(self, generator: nn.Module, table: CodeTable, loss: Loss, steps: int, lr: float) -> None:
        super().__init__()
        self.generator = generator
        self.project = table.project
        self.loss = loss
        self.steps = steps
        self.lr = lr
        self.register_buffer("starts", table.sample_gaussian(NUM_STARTS, torch.Generator().manual_seed(0)))

    def forward(self, images: Tensor) -> Tensor:
        """N x C x H x W -> N x d, without gradient, in full precision, with the generator in evaluation mode."""
        training = self.generator.training
        self.generator.eval()
        try:
            with (
                torch.inference_mode(False),
                torch.enable_grad(),
                torch.autocast(images.device.type, enabled=False),
            ):
                return self._optimize(images.detach().clone())
        finally:
            self.generator.train(training)

    def _optimize(self, images: Tensor) -> Tensor:
        """N x C x H x W -> N x d."""
        codes = self._nearest(images).requires_grad_()
        optimizer = torch.optim.Adam([codes], lr=self.lr)
        for step in range(self.steps):
            optimizer.param_groups[0]["lr"] = self.lr * (1 - step / self.steps)
            generated = self.generator(codes).to(images.dtype)
            [codes.grad] = torch.autograd.grad(self.loss(generated, images).sum(), [codes])
            optimizer.step()
            with torch.no_grad():
                codes.copy_(self.project(codes))
        return codes.detach()

    @torch.no_grad()
    def _nearest(self, images: Tensor) -> Tensor:
        """Candidate whose generated image has the least squared error: N x C x H x W -> N x d."""
        candidates = self.generator(self.starts).to(images.dtype)
        return self.starts[torch.cdist(images.flatten(1), candidates.flatten(1)).argmin(dim=1)]
