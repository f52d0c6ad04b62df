import math
from typing import Literal

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor

from lit_models.common.diffusion import Diffusion, discretised_log_likelihood
from lit_models.common.diffusion_base import DiffusionBase, squared_error
from lit_models.common.latent_space import LatentSpace
from lit_models.common.lr_schedules import LRSchedule
from lit_models.common.module import ImageShape
from lit_models.common.noise_predictors import NoisePredictor, UNet
from lit_models.common.noise_schedules import LinearSchedule, NoiseSchedule
from lit_models.common.predictions import Prediction, denoised, target
from lit_models.common.samplers import DDIM, Sampler


class DDPM(DiffusionBase):
    """Denoising diffusion: q(x_t | x_{t-1}) = N(sqrt(1 - beta_t) x_{t-1}, beta_t I), reversed by a network e(x_t, t).

    Ho et al. 2020, arXiv 2006.11239. The reverse steps are Gaussians with the mean of the posterior q(x_{t-1} | x_t,
    x_0) at x_0 = (x_t - s_t e) / a_t, and its variance. Objectives:

    - simple: E |e - e(x_t, t)|^2, a mean over pixels, with t uniform (eq. 14). If the network predicts the image, the
      velocity or the score instead of the noise, it is the error of that.
    - variational: the bound -log p(x_0) <= L_T + sum_{t>1} L_t + L_0 in bits per dimension, where one timestep of each
      image estimates the sum (eq. 5). L_t = KL(q(x_{t-1} | x_t, x_0) || p(x_{t-1} | x_t)), which is
      (SNR_{t-1} / SNR_t - 1) / 2 |e - e(x_t, t)|^2 with SNR_t = a_t^2 / s_t^2; L_0 is eq. 13, with deviation s_1 / a_1.

    The timesteps of a batch are evenly spread rather than independent. A conditional model learns from labels; the
    fraction `label_dropout` of them is replaced by "any class", which classifier-free guidance needs (Ho and Salimans
    2022, arXiv 2207.12598). Validation and test log `loss`, the simple one, and `bits_per_dim`, an estimate of the
    bound. With an `autoencoder`, the images of all this are its codes (latent diffusion, Rombach et al. 2021, arXiv
    2112.10752), which have no bound of the likelihood of images.

    Args:
        network: Network that predicts what is in noisy images; UNet by default.
        prediction: What the network predicts: `noise`, `image`, `velocity` (Salimans and Ho 2022, arXiv 2202.00512),
            `score`, whose error is weighted by s_t^2, or `preconditioned`, the negative velocity.
        noise_schedule: Noise schedule; LinearSchedule by default, or CosineSchedule.
        num_steps: Number T of timesteps.
        objective: Objective that training minimises.
        sampler: Sampler that generates images; DDIM of 50 steps by default, or Ancestral.
        autoencoder: Checkpoint of an autoencoder, whose codes then take the place of images; `{seed}` stands for the
            run's seed, `none` for no autoencoder.
        conditional: Learns from labels, and generates images of a class.
        label_dropout: Fraction of the labels that training of a conditional model replaces by "any class".
        guidance_scale: Strength w of the classifier-free guidance of samples of a conditional model; 0 for none.
        bound_draws: Number of timesteps of each image that estimate test/bits_per_dim and `log_prob`; 1 in validation.
        ema_decay: Decay of the exponential moving average (EMA) of the network's weights, which is validated, tested
            and sampled; 0 for none.
        lr_schedule: Learning-rate schedule: `constant`, or `one_cycle` over the whole training.
        num_classes: Number of classes; train.py takes it from the data.
        image_shape: Channels, height, width of the images; train.py takes them from the data.
        autoencoder_config: Hyper-parameters of the autoencoder, as JSON, which a checkpoint of this model holds; not
            meant to be set by hand.
        optimizer: Optimizer; in Python, a function that makes it from the parameters.

    Raises:
        ValueError: a number is out of range, or arguments do not fit together.
        CheckpointError: the autoencoder's checkpoint is missing, damaged, or does not fit.

    Examples:
        >>> from lit_models.common.noise_predictors import UNet
        >>> from lit_models.common.samplers import DDIM
        >>> model = DDPM(UNet(channels=(8, 16)), sampler=DDIM(steps=2))
        >>> model.sample(4).shape
        torch.Size([4, 1, 28, 28])
    """

    monitor = ("val/loss", "min")
    process: Diffusion

    def __init__(
        self,
        network: NoisePredictor | None = None,
        prediction: Prediction = "noise",
        noise_schedule: NoiseSchedule | None = None,
        num_steps: int = 1000,
        objective: Literal["simple", "variational"] = "simple",
        sampler: Sampler | None = None,
        autoencoder: str | None = None,
        conditional: bool = False,
        label_dropout: float = 0.1,
        guidance_scale: float = 0.0,
        bound_draws: int = 10,
        ema_decay: float = 0.999,
        lr_schedule: LRSchedule = "constant",
        num_classes: int = 10,
        image_shape: ImageShape = (1, 28, 28),
        autoencoder_config: str | None = None,
        optimizer: OptimizerCallable = lambda params: torch.optim.Adam(params, lr=2e-4),
    ) -> None:
        super().__init__(optimizer)
        if bound_draws < 1 or num_steps < 2:
            raise ValueError(f"bound_draws is {bound_draws} and num_steps {num_steps}; they must be at least 1 and 2")
        self.save_hyperparameters()
        self.noise_schedule = noise_schedule or LinearSchedule()
        self.prediction: Prediction = prediction
        self.objective = objective
        self.bound_draws = bound_draws
        self.lr_schedule = lr_schedule
        diffusion = Diffusion(self.noise_schedule, num_steps)
        if diffusion.a[-1] == 1:
            raise ValueError(
                f"{type(self.noise_schedule).__name__} keeps the whole image in x_T, and DDPM starts from noise alone:"
                " use LinearSchedule or CosineSchedule"
            )
        self.setup_classes(conditional, num_classes, label_dropout, guidance_scale)
        self.setup_networks(
            diffusion, network or UNet(), sampler or DDIM(), ema_decay, image_shape, autoencoder, autoencoder_config
        )
        if objective == "variational":
            self.require_pixels("objective variational")

    def loss_terms(self, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        clean, labels = self.space.encode(batch[0]), self.training_labels(batch)
        if not self.training:
            return self._evaluation_terms(clean, labels, 1)
        t = self.process.draw_timesteps(len(clean))
        noise = torch.randn_like(clean)
        noisy = self.process.add_noise(clean, noise, t)
        prediction = self.apply_network(self.network, noisy, t, labels)
        if self.objective == "simple":
            return {"loss": self._error(prediction, clean, noise, t).mean()}
        nats = self.process.num_steps * self._bound_terms(clean, noisy, t, noise, prediction)
        return {"loss": self._bits_per_dim(nats + self.process.prior_kl(clean)).mean()}

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        terms = self._evaluation_terms(self.space.encode(batch[0]), self.training_labels(batch), self.bound_draws)
        self.log_terms("test", terms, len(batch[0]))

    @torch.no_grad()
    def log_prob(self, images: Tensor) -> Tensor:
        """Lower bound of the log-probability of 8-bit images in nats, N, estimated from `bound_draws` timesteps.

        For a conditional model, it is that of images of any class.

        Raises:
            ValueError: the model has an autoencoder.
        """
        self.require_pixels("log_prob")
        labels = None if self.num_classes is None else images.new_full((len(images),), self.num_classes).long()
        return -self._bound(self.space.encode(images), labels, self.bound_draws)[0]

    def _evaluation_terms(self, clean: Tensor, labels: Tensor | None, draws: int) -> dict[str, Tensor]:
        if isinstance(self.space, LatentSpace):
            times = (self.process.draw_timesteps(len(clean)) for _ in range(draws))
            return {"loss": torch.stack([self._bound_sample(clean, t, labels)[1] for t in times]).mean()}
        nats, errors = self._bound(clean, labels, draws)
        return {"loss": errors.mean(), "bits_per_dim": self._bits_per_dim(nats).mean()}

    def _bound(self, clean: Tensor, labels: Tensor | None, draws: int) -> tuple[Tensor, Tensor]:
        """Estimates the bound L_T + L_0 + (T - 1) E_t L_t of -log p(x_0), in nats, and the simple loss: N each."""
        first = torch.ones(len(clean), dtype=torch.long, device=clean.device)
        nats = self.process.prior_kl(clean) + self._bound_sample(clean, first, labels)[0]
        errors = torch.zeros_like(nats)
        for _ in range(draws):
            terms, error = self._bound_sample(clean, self.process.draw_timesteps(len(clean), first=2), labels)
            nats = nats + (self.process.num_steps - 1) / draws * terms
            errors = errors + error / draws
        return nats, errors

    def _bound_sample(self, clean: Tensor, t: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor]:
        """Term of the bound, in nats, and squared error of one draw of x_t: N each."""
        noise = torch.randn_like(clean)
        noisy = self.process.add_noise(clean, noise, t)
        prediction = self.apply_network(self.evaluated_network, noisy, t, labels)
        error = self._error(prediction, clean, noise, t)
        return self._bound_terms(clean, noisy, t, noise, prediction), error

    def _error(self, prediction: Tensor, clean: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Squared error of a prediction, N, that of a score times s_t^2."""
        error = squared_error(prediction, target(self.prediction, clean, noise, self.process.at(t)))
        return error * self.process.noise[t].square() if self.prediction == "score" else error

    def _bound_terms(self, clean: Tensor, noisy: Tensor, t: Tensor, noise: Tensor, prediction: Tensor) -> Tensor:
        """Term of the bound at timestep t in nats, N: a divergence, or -log p(x_0 | x_1) for t = 1."""
        found = denoised(self.prediction, prediction, noisy, self.process.at(t))
        divergence = self.process.bound_weight[t] * squared_error(found.noise, noise) * clean[0].numel()
        mean = torch.where((t == 1).view(-1, 1, 1, 1), found.clean, clean)
        reconstruction = -discretised_log_likelihood(clean, mean, self.process.s[1] / self.process.a[1])
        return torch.where(t == 1, reconstruction, divergence)

    def _bits_per_dim(self, nats: Tensor) -> Tensor:
        """Converts nats per image to bits per dimension."""
        return nats / (math.prod(self.image_shape) * math.log(2))
