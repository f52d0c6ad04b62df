"""Likelihood of images under a model of continuous time, by its differential equation; a component of the model."""

import math
from typing import Literal

import torch
from torch import Tensor

from lit_models.common.component import Component
from lit_models.common.diffusion_base import DiffusionBase
from lit_models.common.noise_process import ContinuousProcess, Denoised, Denoiser, Level
from lit_models.common.ode_samplers import AdaptiveODE, ODESampler, velocity_field
from lit_models.common.predictions import denoised
from lit_models.losses.likelihood import BITS, bits_per_dim
from lit_models.losses.score import jacobian_trace, projected_jacobian_trace, random_signs

LEVELS = 2**BITS
"""Values of a pixel."""


class ODELikelihood(Component):
    """log p(x_0) = log N(x_1) + int_0^1 div v(x_t, t) dt, where dx/dt = v(x, t) leads from the image x_0 to noise x_1.

    Chen et al. 2018, arXiv 1806.07366, theorem 1; Song et al. 2021, arXiv 2011.13456, section 4.3. The divergence is
    the trace of dv/dx, estimated without bias by v' (dv/dx) v for random vectors v, which are the same for all times
    (FFJORD: Grathwohl et al. 2018, arXiv 1810.01367). Up to the errors of the solver, the likelihood is exact.

    An evaluation takes the network forward, and backward once for each vector. The network runs in single precision,
    without classifier-free guidance.

    Args:
        solver: Solver of the equation; AdaptiveODE by default. With few steps of a fixed size, such as those of
            Midpoint, likelihoods are too high.
        probes: Number of random vectors v of each image; 0 for the exact trace, with one for each pixel value.
        probe_distribution: Distribution of the entries of v; random signs have the least variance.
        num_images: Number of images of the test set on which the test estimates bits per dimension.

    Raises:
        ValueError: a number is out of range.

    Examples:
        >>> ODELikelihood(num_images=100).probes
        1
    """

    def __init__(
        self,
        solver: ODESampler | None = None,
        probes: int = 1,
        probe_distribution: Literal["signs", "normal"] = "signs",
        num_images: int = 500,
    ) -> None:
        if probes < 0 or num_images < 1:
            raise ValueError(f"probes is {probes} and num_images {num_images}; they must be at least 0 and 1")
        self.solver = solver or AdaptiveODE()
        self.probes = probes
        self.probe_distribution = probe_distribution
        self.num_images = num_images
        self._left = 0

    def log_density(self, process: ContinuousProcess, denoise: Denoiser, clean: Tensor) -> Tensor:
        """log p(x_0) in nats, N, of x_0 at t = 0, N x C x H x W.

        Args:
            process: Noising process of the model.
            denoise: Predicts image and noise in x_t.
            clean: x_0; with pixels in [-1, 1] for images.
        """
        with torch.inference_mode(False):
            clean = clean.detach().clone()
            velocity = velocity_field(process, denoise)
            probes = [self._draw(clean) for _ in range(self.probes)]

            def derivative(state: Tensor, time: float) -> Tensor:  # of x and of the integral: N x (D + 1)
                with torch.enable_grad():
                    x = state[:, :-1].view_as(clean).requires_grad_()
                    v = velocity(x, time)
                    trace = projected_jacobian_trace(v, x, probes, False) if probes else jacobian_trace(v, x, False)
                return torch.cat([v.detach().flatten(1), trace.detach()[:, None]], dim=1)

            lowest, highest = process.level(0.0), process.level(1.0)
            scale = process.input_std(lowest)[0]
            with torch.no_grad():
                state = torch.cat([clean.flatten(1) / scale, clean.new_zeros(len(clean), 1)], dim=1)
                state = self.solver.integrate(derivative, state, 0.0, 1.0)
        variance = (highest.alpha**2 + highest.sigma**2) / process.input_std(highest)[0] ** 2
        noise, change = state[:, :-1], state[:, -1]
        squares = noise.square().sum(dim=1) / variance
        return change - (squares + noise.shape[1] * math.log(2 * math.pi * variance * scale**2)) / 2

    def _draw(self, like: Tensor) -> Tensor:
        return random_signs(like) if self.probe_distribution == "signs" else torch.randn_like(like)

    def log_prob(self, model: DiffusionBase, images: Tensor, labels: Tensor | None, noise: Tensor | float) -> Tensor:
        """log p(y) in nats, N, of the dequantised images y = (255 x + noise) / 256, as of Glow: N x C x H x W -> N."""
        process = model.process
        assert isinstance(process, ContinuousProcess)

        def denoise(noisy: Tensor, level: Level[float]) -> Denoised:
            t = process.batch_time(level, len(noisy))
            with torch.autocast(noisy.device.type, enabled=False):
                prediction = model.apply_network(model.evaluated_network, noisy, t, labels)
            return denoised(model.prediction, prediction, noisy, level, process.data_std or 1.0)

        clean = dequantise_signed(images, noise)
        rescaled = clean[0].numel() * math.log(2 * LEVELS / (LEVELS - 1))
        return self.log_density(process, denoise, clean) + rescaled

    def bits_per_dim(self, model: DiffusionBase, images: Tensor, labels: Tensor | None) -> Tensor:
        """Upper bound of -log2 P(x) / D of 8-bit images x of D pixel values, with random dequantisation: N."""
        return bits_per_dim(self.log_prob(model, images, labels, torch.rand_like(images)), images[0].numel())

    def log_prob_of_images(self, model: DiffusionBase, images: Tensor) -> Tensor:
        """log p(y) in nats, N, of y = (255 x + 1/2) / 256, the middle of the bin of each pixel, and of any class.

        Raises:
            ValueError: the model has an autoencoder.
        """
        model.require_pixels("log_prob")
        labels = None if model.num_classes is None else images.new_full((len(images),), model.num_classes).long()
        return self.log_prob(model, images, labels, 0.5)

    def start_test(self, world_size: int) -> None:
        """Starts a test of the model in so many processes."""
        self._left = -(-self.num_images // world_size)

    def test_step(self, model: DiffusionBase, batch: tuple[Tensor, Tensor]) -> None:
        """Logs test/bits_per_dim of the images of a batch, until `num_images` are evaluated."""
        count = min(self._left, len(batch[0]))
        if count:
            labels = model.training_labels(batch)
            bits = self.bits_per_dim(model, batch[0][:count], None if labels is None else labels[:count])
            model.log_terms("test", {"bits_per_dim": bits.mean()}, count)
            self._left -= count


def dequantise_signed(images: Tensor, noise: Tensor | float) -> Tensor:
    """x_0 = 256/255 (2 y - 1) of dequantised images y = (255 x + noise) / 256, N x C x H x W, float32.

    It is 2 x - 1 for noise = 1/2, so that a value in the middle of its bin is where a model without dequantisation has
    it. The bins have the width 2/255.

    Examples:
        >>> dequantise_signed(torch.tensor([0.0, 1.0]), 0.5)
        tensor([-1.,  1.])
    """
    return 2 * images.float() - 1 + (2 * noise - 1) / (LEVELS - 1)
