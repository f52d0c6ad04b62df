from typing import Literal

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor

from lit_models.common.diffusion_base import DiffusionBase, squared_error
from lit_models.common.edm_sampler import EDMSampler
from lit_models.common.lr_schedules import LRSchedule
from lit_models.common.module import ImageShape
from lit_models.common.noise_paths import KarrasPath
from lit_models.common.noise_predictors import NoisePredictor, UNet
from lit_models.common.noise_process import ContinuousProcess
from lit_models.common.ode_likelihood import ODELikelihood, dequantise_signed
from lit_models.common.predictions import denoised, target
from lit_models.common.samplers import Sampler
from lit_models.common.times import LogNormalTimes, Times, UniformTimes


class EDM(DiffusionBase):
    """EDM: diffusion with x = x_0 + s e, a network F of preconditioned input and output, and log-normal noise levels s.

    Karras et al. 2022, arXiv 2206.00364. The predicted image is D(x, s) = c_skip x + c_out F(c_in x, log(s) / 4), with
    d = `data_std`, c_skip = d^2 / (s^2 + d^2), c_out = s d / sqrt(s^2 + d^2) and c_in = 1 / sqrt(s^2 + d^2) (table 1).
    These keep inputs and outputs of F at unit variance, and do not amplify its errors at any noise level. The loss is

        E w |D(x, s) - x_0|^2 with w = 1 / c_out^2, which is E |F - (x_0 - c_skip x) / c_out|^2,

    a mean over pixels: in terms of what the network predicts, its weight is 1. So it is with the other predictions,
    where training minimises E |F - e|^2 (w = 1 / s^2, as the VP and VE columns of table 1) or E |F - x_0|^2 (w = 1).

    Validation and test log `loss`, that of the preconditioned prediction at the noise levels of a sampler, evenly
    spread over the path. It is the same for all predictions and distributions of times, so that they compare.

    With a `likelihood`, training dequantises the images and the test logs `bits_per_dim`, an upper bound of the
    negative log-likelihood of 8-bit images. The density is that of x at the lowest noise level, by the differential
    equation of the sampler without its last step (Song et al. 2021, arXiv 2011.13456, section 4.3).

    Departures from the paper: the noise levels of a batch are evenly spread rather than independent, and there is no
    augmentation of the images. With an `autoencoder`, the images of all this are its codes (latent diffusion, Rombach
    et al. 2021, arXiv 2112.10752), scaled to the standard deviation d.

    Args:
        network: Network that predicts what is in noisy images; UNet by default.
        prediction: What the network predicts: `preconditioned`, `noise` or `image`.
        path: Noise levels; KarrasPath from 0.002 to 80 by default.
        times: Distribution of the noise levels of training; LogNormalTimes by default. UniformTimes is that of the
            sampler's levels.
        data_std: Root mean square d of pixels in [-1, 1], or of codes: 0.5 for most photos, 1 for MNIST, whose
            background is -1.
        sampler: Sampler that generates images; EDMSampler of 18 steps, 35 evaluations of the network, by default.
        autoencoder: Checkpoint of an autoencoder, whose codes then take the place of images; `{seed}` stands for the
            run's seed, `none` for no autoencoder.
        likelihood: How `log_prob` and test/bits_per_dim are computed; none to leave out test/bits_per_dim.
        conditional: Learns from labels, and generates images of a class.
        label_dropout: Fraction of the labels that training of a conditional model replaces by "any class".
        guidance_scale: Strength w of the classifier-free guidance of samples of a conditional model; 0 for none.
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
        >>> from lit_models.common.edm_sampler import EDMSampler
        >>> model = EDM(UNet(channels=(8, 16)), sampler=EDMSampler(steps=2))
        >>> model.sample(4).shape
        torch.Size([4, 1, 28, 28])
    """

    monitor = ("val/loss", "min")
    process: ContinuousProcess

    def __init__(
        self,
        network: NoisePredictor | None = None,
        prediction: Literal["preconditioned", "noise", "image"] = "preconditioned",
        path: KarrasPath | None = None,
        times: Times | None = None,
        data_std: float = 0.5,
        sampler: Sampler | None = None,
        autoencoder: str | None = None,
        likelihood: ODELikelihood | None = None,
        conditional: bool = False,
        label_dropout: float = 0.1,
        guidance_scale: float = 0.0,
        ema_decay: float = 0.999,
        lr_schedule: LRSchedule = "constant",
        num_classes: int = 10,
        image_shape: ImageShape = (1, 28, 28),
        autoencoder_config: str | None = None,
        optimizer: OptimizerCallable = lambda params: torch.optim.Adam(params, lr=2e-4),
    ) -> None:
        super().__init__(optimizer)
        if not data_std > 0:
            raise ValueError(f"data_std is {data_std}; it must be positive")
        self.save_hyperparameters()
        self.prediction = prediction
        self.path = path or KarrasPath()
        self.times = times or LogNormalTimes()
        self.data_std = data_std
        self.likelihood = likelihood
        self.lr_schedule = lr_schedule
        process = ContinuousProcess(self.path, data_std)
        self.setup_classes(conditional, num_classes, label_dropout, guidance_scale)
        self.setup_networks(
            process, network or UNet(), sampler or EDMSampler(), ema_decay, image_shape, autoencoder, autoencoder_config
        )
        if likelihood is not None:
            self.require_pixels("likelihood")

    def loss_terms(self, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        clean, labels = self._clean(batch[0]), self.training_labels(batch)
        times, network = (self.times, self.network) if self.training else (UniformTimes(), self.evaluated_network)
        t = times.draw(len(clean), self.process)
        noise = torch.randn_like(clean)
        noisy, level = self.process.add_noise(clean, noise, t), self.process.at(t)
        prediction, kind = self.apply_network(network, noisy, t, labels), self.prediction
        if not self.training and kind != "preconditioned":
            found = denoised(kind, prediction, noisy, level, self.data_std)
            prediction, kind = target("preconditioned", *found, level, self.data_std), "preconditioned"
        return {"loss": squared_error(prediction, target(kind, clean, noise, level, self.data_std)).mean()}

    def _clean(self, images: Tensor) -> Tensor:
        """x_0 of images, N x C x H x W, or of the codes that a loader gives in their place."""
        if self.likelihood is None:
            return self.space.encode(images)
        return dequantise_signed(images, torch.rand_like(images))

    def on_test_epoch_start(self) -> None:
        if self.likelihood is not None:
            self.likelihood.start_test(self.trainer.world_size)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        super().test_step(batch, batch_idx)
        if self.likelihood is not None:
            self.likelihood.test_step(self, batch)

    def log_prob(self, images: Tensor) -> Tensor:
        """log p(y) in nats, N, of y = (255 x + 1/2) / 256, the middle of the bin of each pixel: N x C x H x W -> N.

        For a conditional model, it is that of images of any class.

        Raises:
            ValueError: the model has an autoencoder.
        """
        return (self.likelihood or ODELikelihood()).log_prob_of_images(self, images)
