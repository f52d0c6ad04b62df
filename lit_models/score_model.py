import math
from typing import Literal

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor

from lit_models.common.diffusion import Diffusion
from lit_models.common.diffusion_base import DiffusionBase, squared_error, to_signed
from lit_models.common.module import ImageShape
from lit_models.common.noise_schedules import GeometricSchedule, NoiseSchedule
from lit_models.common.samplers import AnnealedLangevin, Sampler
from lit_models.common.schedules import Schedule
from lit_models.losses.score import sliced_trace, trace
from lit_models.networks.unet import NoiseNetwork, UNet

MOST_DIMENSIONS = 64
"""Pixels of an image of which the exact trace is taken, a derivative each."""


class ScoreModel(DiffusionBase):
    """Score matching: F(x, t), the gradient of log q(x_t), of images with noise of several levels.

    With x_t = x_0 + s_t e and F = -e(x_t, t) / s_t for the noise e that the network sees, each level is weighted by its
    variance s_t^2 (Song and Ermon 2019, arXiv 1907.05600, eq. 6), and divided by the number of pixels. Objectives:

    - implicit: E[tr(grad F) + |F|^2 / 2] (Hyvarinen 2005), the trace exactly: for images of few pixels.
    - sliced: E[v' grad F v + |F|^2 / 2], v of random signs (Song et al. 2019, arXiv 1905.07088, eq. 8).
    - denoising: E|F + e / s_t|^2 / 2 (Vincent 2011), the simple loss of DDPM but for the half.

    They differ by a constant. Validation and test log `denoising`, whatever is minimised, and so compare them.

    Args:
        network: sees the noise; UNet by default.
        noise_schedule: the levels; GeometricSchedule by default.
        num_levels: how many.
        objective: what training minimises.
        slices: draws of v for each image.
        sampler: how `sample` goes from noise to images; AnnealedLangevin by default.
        ema_decay: of the moving average of the network's weights, which makes the images; 0 for none.
        schedule: how the learning rate goes: as it is, or one cycle over the whole training.
        image_shape: channels, height, width; given by the data when run through train.py.
        optimizer: makes the optimizer from the parameters.

    Raises:
        ValueError: a number out of range, or parts that do not go together.
    """

    monitor = ("val/denoising", "min")

    def __init__(
        self,
        network: NoiseNetwork | None = None,
        noise_schedule: NoiseSchedule | None = None,
        num_levels: int = 50,
        objective: Literal["implicit", "sliced", "denoising"] = "denoising",
        slices: int = 1,
        sampler: Sampler | None = None,
        ema_decay: float = 0.999,
        schedule: Schedule = "constant",
        image_shape: ImageShape = (1, 28, 28),
        optimizer: OptimizerCallable = lambda params: torch.optim.Adam(params, lr=2e-4),
    ) -> None:
        super().__init__(optimizer)
        if slices < 1:
            raise ValueError(f"slices is {slices}; there must be at least 1")
        pixels = math.prod(image_shape)
        if objective == "implicit" and pixels > MOST_DIMENSIONS:
            raise ValueError(
                f"the implicit objective takes a derivative for each of {pixels} pixels, at most {MOST_DIMENSIONS}:"
                " use --model.objective sliced or denoising"
            )
        self.save_hyperparameters()
        self.noise_schedule = noise_schedule or GeometricSchedule()
        self.objective = objective
        self.slices = slices
        self.schedule = schedule
        diffusion = Diffusion(self.noise_schedule, num_levels)
        self.assemble(diffusion, network or UNet(), sampler or AnnealedLangevin(), ema_decay, image_shape)

    @torch.no_grad()
    def score(self, noisy: Tensor, t: int) -> Tensor:
        """grad log q(x_t), N x C x H x W, at x_t."""
        return -self.predict_noise(noisy, t) / self.diffusion.s[t]

    def loss_terms(self, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        clean = to_signed(batch[0])
        t = self.draw_steps(len(clean))
        noise = torch.randn_like(clean)
        noisy = self.diffusion.noisy(clean, t, noise)
        if self.objective == "denoising" or not self.training:
            found = self.noise_in(self.network if self.training else self.maker, noisy, t)
            loss = squared_error(found, noise).mean() / 2
            return {"loss": loss} if self.training else {"denoising": loss}
        noisy.requires_grad_()
        found = self.noise_in(self.network, noisy, t)
        traces = trace(found, noisy) if self.objective == "implicit" else sliced_trace(found, noisy, self.slices)
        # s^2 (tr grad F + |F|^2 / 2), F = -found / s
        weighted = found.square().flatten(1).sum(dim=1) / 2 - self.diffusion.noise[t] * traces
        return {"loss": weighted.mean() / clean[0].numel()}
