import math
from typing import Literal

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor

from lit_models.common.diffusion import Diffusion
from lit_models.common.diffusion_base import DiffusionBase, squared_error
from lit_models.common.lr_schedules import LRSchedule
from lit_models.common.module import ImageShape
from lit_models.common.noise_predictors import NoisePredictor, UNet
from lit_models.common.noise_schedules import GeometricSchedule, NoiseSchedule
from lit_models.common.samplers import AnnealedLangevin, Sampler
from lit_models.losses.score import estimated_jacobian_trace, jacobian_trace

MAX_DIMENSIONS = 64
"""Largest number of pixel values for which the exact trace is computed, by a derivative for each."""


class ScoreModel(DiffusionBase):
    """Score matching: F(x, t) estimates the score, the gradient of log q(x_t), of images at several noise levels.

    With x_t = x_0 + s_t e and F = -e(x_t, t) / s_t, where the network predicts the noise e(x_t, t), each noise level is
    weighted by its variance s_t^2 (Song and Ermon 2019, arXiv 1907.05600, eq. 6). The loss is divided by the number of
    pixel values. Objectives:

    - implicit: E[tr(grad F) + |F|^2 / 2] (Hyvarinen 2005), with the exact trace, for images of few pixels.
    - sliced: E[v' grad F v + |F|^2 / 2], with random signs v (Song et al. 2019, arXiv 1905.07088, eq. 8).
    - denoising: E|F + e / s_t|^2 / 2 (Vincent 2011), half of the simple loss of DDPM.

    The objectives differ by a constant. Validation and test log `denoising` for all of them, so that they compare. With
    an `autoencoder`, the images of all this are its codes.

    Args:
        network: Network that predicts the noise; UNet by default.
        noise_schedule: Noise schedule; GeometricSchedule by default.
        num_levels: Number of noise levels.
        objective: Objective that training minimises.
        slices: Number of random vectors v for each image, with the sliced objective.
        sampler: Sampler that generates images; AnnealedLangevin by default.
        autoencoder: Checkpoint of an autoencoder, whose codes then take the place of images; `{seed}` stands for the
            run's seed, `none` for no autoencoder.
        ema_decay: Decay of the exponential moving average (EMA) of the network's weights, which is validated, tested
            and sampled; 0 for none.
        lr_schedule: Learning-rate schedule: `constant`, or `one_cycle` over the whole training.
        image_shape: Channels, height, width of the images; train.py takes them from the data.
        autoencoder_config: Hyper-parameters of the autoencoder, as JSON, which a checkpoint of this model holds; not
            meant to be set by hand.
        optimizer: Optimizer; in Python, a function that makes it from the parameters.

    Raises:
        ValueError: a number is out of range, or arguments do not fit together.
        CheckpointError: the autoencoder's checkpoint is missing, damaged, or does not fit.

    Examples:
        >>> from lit_models.common.noise_predictors import UNet
        >>> model = ScoreModel(UNet(channels=(8, 16)), num_levels=3)
        >>> model.score(torch.rand(2, 1, 28, 28), t=1).shape
        torch.Size([2, 1, 28, 28])
    """

    monitor = ("val/denoising", "min")
    process: Diffusion

    def __init__(
        self,
        network: NoisePredictor | None = None,
        noise_schedule: NoiseSchedule | None = None,
        num_levels: int = 50,
        objective: Literal["implicit", "sliced", "denoising"] = "denoising",
        slices: int = 1,
        sampler: Sampler | None = None,
        autoencoder: str | None = None,
        ema_decay: float = 0.999,
        lr_schedule: LRSchedule = "constant",
        image_shape: ImageShape = (1, 28, 28),
        autoencoder_config: str | None = None,
        optimizer: OptimizerCallable = lambda params: torch.optim.Adam(params, lr=2e-4),
    ) -> None:
        super().__init__(optimizer)
        if slices < 1:
            raise ValueError(f"slices is {slices}; it must be at least 1")
        self.save_hyperparameters()
        self.noise_schedule = noise_schedule or GeometricSchedule()
        self.objective = objective
        self.slices = slices
        self.lr_schedule = lr_schedule
        diffusion = Diffusion(self.noise_schedule, num_levels)
        self.setup_networks(
            diffusion,
            network or UNet(),
            sampler or AnnealedLangevin(),
            ema_decay,
            image_shape,
            autoencoder,
            autoencoder_config,
        )
        dimensions = math.prod(self.space.shape)
        if objective == "implicit" and dimensions > MAX_DIMENSIONS:
            raise ValueError(
                f"the implicit objective needs a derivative for each pixel value, and images have {dimensions}, more"
                f" than {MAX_DIMENSIONS}: use --model.objective sliced or denoising"
            )

    @torch.no_grad()
    def score(self, noisy: Tensor, t: int) -> Tensor:
        """Estimates grad log q(x_t) at x_t: N x C x H x W -> N x C x H x W."""
        return -self.denoise(noisy, self.process.level(t)).noise / self.process.s[t]

    def loss_terms(self, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        clean = self.space.encode(batch[0])
        t = self.process.draw_timesteps(len(clean))
        noise = torch.randn_like(clean)
        noisy = self.process.add_noise(clean, noise, t)
        if self.objective == "denoising" or not self.training:
            network = self.network if self.training else self.evaluated_network
            loss = squared_error(self.apply_network(network, noisy, t), noise).mean() / 2
            return {"loss": loss} if self.training else {"denoising": loss}
        noisy.requires_grad_()
        prediction = self.apply_network(self.network, noisy, t)
        if self.objective == "implicit":
            traces = jacobian_trace(prediction, noisy)
        else:
            traces = estimated_jacobian_trace(prediction, noisy, self.slices)
        # s^2 (tr grad F + |F|^2 / 2) with F = -prediction / s
        weighted = prediction.square().flatten(1).sum(dim=1) / 2 - self.process.noise[t] * traces
        return {"loss": weighted.mean() / clean[0].numel()}
