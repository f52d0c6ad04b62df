import math
from typing import Literal

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor

from lit_models.common.diffusion import Diffusion, discretised_log_likelihood
from lit_models.common.diffusion_base import DiffusionBase, squared_error, to_signed
from lit_models.common.module import ImageShape
from lit_models.common.noise_schedules import LinearSchedule, NoiseSchedule
from lit_models.common.samplers import DDIM, Sampler
from lit_models.common.schedules import Schedule
from lit_models.losses.classification import class_of
from lit_models.networks.unet import NoiseNetwork, UNet


class DDPM(DiffusionBase):
    """Denoising diffusion: q(x_t | x_{t-1}) = N(sqrt(1 - beta_t) x_{t-1}, beta_t I), reversed by a network e(x_t, t).

    Ho et al. 2020, arXiv 2006.11239. The reverse steps are Gaussians with the mean of the posterior q(x_{t-1} | x_t,
    x_0) at x_0 = (x_t - s_t e) / a_t, and its variance. Objectives:

    - simple: E |e - e(x_t, t)|^2, mean over pixels, t uniform (eq. 14).
    - variational: the bound -log p(x_0) <= L_T + sum_{t>1} L_t + L_0 in bits per dimension, one step of each image
      for the sum (eq. 5): L_t = KL(q(x_{t-1} | x_t, x_0) || p(x_{t-1} | x_t)), which is
      (SNR_{t-1} / SNR_t - 1) / 2 |e - e(x_t, t)|^2 with SNR_t = a_t^2 / s_t^2; L_0 is eq. 13, with deviation s_1 / a_1.

    The steps of a batch are spread evenly, not drawn one by one. `conditional` gives the network labels, one in ten of
    them replaced by "any", so that samples can be guided towards a class (Ho and Salimans 2022, arXiv 2207.12598).
    Validation and test log `loss`, the simple one, and `bits_per_dim`, an estimate of the bound.

    Args:
        network: sees the noise; UNet by default.
        noise_schedule: LinearSchedule by default, or CosineSchedule.
        num_steps: T.
        objective: what training minimises.
        sampler: how `sample` goes from noise to images; DDIM of 50 steps by default, or Ancestral.
        conditional: learn from labels, and make images of a class.
        label_dropout: share of labels that training leaves out, if it is conditional.
        guidance: w, of samples of a conditional model; 0 for none.
        bound_draws: steps t of each image in test/bits_per_dim and `log_prob`; 1 in validation.
        ema_decay: of the moving average of the network's weights, which makes the images; 0 for none.
        schedule: how the learning rate goes: as it is, or one cycle over the whole training.
        num_classes, image_shape: given by the data when run through train.py.
        optimizer: makes the optimizer from the parameters.

    Raises:
        ValueError: a number out of range, or parts that do not go together.
    """

    monitor = ("val/loss", "min")

    def __init__(
        self,
        network: NoiseNetwork | None = None,
        noise_schedule: NoiseSchedule | None = None,
        num_steps: int = 1000,
        objective: Literal["simple", "variational"] = "simple",
        sampler: Sampler | None = None,
        conditional: bool = False,
        label_dropout: float = 0.1,
        guidance: float = 0.0,
        bound_draws: int = 10,
        ema_decay: float = 0.999,
        schedule: Schedule = "constant",
        num_classes: int = 10,
        image_shape: ImageShape = (1, 28, 28),
        optimizer: OptimizerCallable = lambda params: torch.optim.Adam(params, lr=2e-4),
    ) -> None:
        super().__init__(optimizer)
        if not 0 <= label_dropout < 1 or not guidance >= 0:
            raise ValueError(
                f"label_dropout is {label_dropout} and guidance {guidance}; the first must be from 0 to below 1, the"
                " second at least 0"
            )
        if guidance and not (conditional and label_dropout):
            raise ValueError("guidance needs a model that is conditional, and label_dropout above 0")
        if bound_draws < 1 or num_steps < 2:
            raise ValueError(
                f"bound_draws is {bound_draws} and num_steps {num_steps}; they must be at least 1 and at least 2"
            )
        self.save_hyperparameters()
        self.noise_schedule = noise_schedule or LinearSchedule()
        self.objective = objective
        self.label_dropout = label_dropout
        self.guidance = guidance
        self.bound_draws = bound_draws
        self.schedule = schedule
        diffusion = Diffusion(self.noise_schedule, num_steps)
        if diffusion.a[-1] == 1:
            raise ValueError(
                f"{type(self.noise_schedule).__name__} leaves the image in its noise, and DDPM starts from noise alone:"
                " use LinearSchedule or CosineSchedule"
            )
        classes = num_classes if conditional else None
        self.assemble(diffusion, network or UNet(), sampler or DDIM(), ema_decay, image_shape, classes)

    def loss_terms(self, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        clean, labels = to_signed(batch[0]), self._labels(batch)
        if not self.training:
            return self._measures(clean, labels, 1)
        t = self.draw_steps(len(clean))
        noise = torch.randn_like(clean)
        noisy = self.diffusion.noisy(clean, t, noise)
        found = self.noise_in(self.network, noisy, t, labels)
        if self.objective == "simple":
            return {"loss": squared_error(found, noise).mean()}
        nats = self.diffusion.steps * self._step_terms(clean, noisy, t, noise, found)
        return {"loss": self._bits(nats + self.diffusion.prior_divergence(clean)).mean()}

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        terms = self._measures(to_signed(batch[0]), self._labels(batch), self.bound_draws)
        self.log_terms("test", terms, len(batch[0]))

    @torch.no_grad()
    def log_prob(self, images: Tensor) -> Tensor:
        """A lower bound of the log-probability of 8-bit images, estimated from `bound_draws` steps: nats, N.

        Of a conditional model it is that of images of any class.
        """
        labels = None if self.num_classes is None else images.new_full((len(images),), self.num_classes).long()
        return -self._bound(to_signed(images), labels, self.bound_draws)[0]

    def _labels(self, batch: tuple[Tensor, Tensor]) -> Tensor | None:
        """Of a batch, some of them left out in training."""
        if self.num_classes is None:
            return None
        labels = class_of(batch[1])
        if not self.training:
            return labels
        dropped = torch.rand(len(labels), device=labels.device) < self.label_dropout
        return labels.masked_fill(dropped, self.num_classes)

    def _measures(self, clean: Tensor, labels: Tensor | None, draws: int) -> dict[str, Tensor]:
        nats, errors = self._bound(clean, labels, draws)
        return {"loss": errors.mean(), "bits_per_dim": self._bits(nats).mean()}

    def _bound(self, clean: Tensor, labels: Tensor | None, draws: int) -> tuple[Tensor, Tensor]:
        """-log p(x_0) <= L_T + L_0 + (T - 1) E_t L_t in nats, and the simple loss: N each."""
        first = torch.ones(len(clean), dtype=torch.long, device=clean.device)
        nats = self.diffusion.prior_divergence(clean) + self._at(clean, first, labels)[0]
        errors = torch.zeros_like(nats)
        for _ in range(draws):
            terms, error = self._at(clean, self.draw_steps(len(clean), first=2), labels)
            nats = nats + (self.diffusion.steps - 1) / draws * terms
            errors = errors + error / draws
        return nats, errors

    def _at(self, clean: Tensor, t: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor]:
        """The bound's term and the squared error of one draw of x_t: N each."""
        noise = torch.randn_like(clean)
        noisy = self.diffusion.noisy(clean, t, noise)
        found = self.noise_in(self.maker, noisy, t, labels)
        return self._step_terms(clean, noisy, t, noise, found), squared_error(found, noise)

    def _step_terms(self, clean: Tensor, noisy: Tensor, t: Tensor, noise: Tensor, found: Tensor) -> Tensor:
        """L_{t-1} in nats, N: a divergence, or for t = 1 what the image has of bits left."""
        divergence = self.diffusion.bound_weight[t] * squared_error(found, noise) * clean[0].numel()
        is_first = (t == 1).view(-1, 1, 1, 1)
        mean = torch.where(is_first, self.diffusion.clean(noisy, found, 1), clean)
        decoded = -discretised_log_likelihood(clean, mean, self.diffusion.s[1] / self.diffusion.a[1])
        return torch.where(t == 1, decoded, divergence)

    def _bits(self, nats: Tensor) -> Tensor:
        """Per dimension."""
        return nats / (math.prod(self.image_shape) * math.log(2))
