import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor

from lit_models.common.couplings import Coupling, Independent
from lit_models.common.diffusion_base import DiffusionBase, squared_error
from lit_models.common.latent_space import PixelSpace
from lit_models.common.lr_schedules import LRSchedule
from lit_models.common.module import ImageShape
from lit_models.common.noise_paths import LinearPath, NoisePath
from lit_models.common.noise_predictors import NoisePredictor, UNet
from lit_models.common.noise_process import ContinuousProcess
from lit_models.common.ode_likelihood import ODELikelihood, dequantise_signed
from lit_models.common.ode_samplers import Midpoint
from lit_models.common.predictions import target
from lit_models.common.samplers import Sampler
from lit_models.common.times import Times, UniformTimes
from lit_models.losses.classification import class_of


class FlowMatching(DiffusionBase):
    """Flow matching: a network v(x, t) learns the velocity of x_t = alpha_t x_0 + sigma_t e, from image to noise.

    It minimises E |v(x_t, t) - (alpha_t' x_0 + sigma_t' e)|^2, a mean over pixels (Lipman et al. 2022, arXiv
    2210.02747, eq. 9). Along the linear path this is rectified flow, E |v(x_t, t) - (e - x_0)|^2 (Liu et al. 2022,
    arXiv 2209.03003, eq. 1). The differential equation dx/dt = v(x, t), solved from noise to t = 0, generates images;
    solved from an image to noise, it gives the exact likelihood of the image.

    Departures from the papers: time runs from image, t = 0, to noise, t = 1, as in the other models from noise; the
    times of a batch are evenly spread rather than independent; images are dequantised in training, as a likelihood
    requires, which does not change what 8 bits show.

    Validation and test log `loss` at uniform times. With a `likelihood` the test logs `bits_per_dim`, an upper bound of
    the negative log-likelihood of 8-bit images, as that of Glow. With an `autoencoder`, the images of all this are its
    codes, which are not dequantised and have no likelihood of images.

    Args:
        network: Network that predicts the velocity; UNet by default.
        path: Path from image to noise; LinearPath by default, or VariancePreservingPath.
        times: Distribution of the times of training; UniformTimes by default, or LogitNormalTimes (Esser et al. 2024,
            arXiv 2403.03206).
        coupling: Which noise an image is joined to in training; Independent by default, or OptimalTransport or Reflow.
        sampler: Sampler that generates images; Midpoint of 5 steps, 10 evaluations, by default. Euler, Heun and
            AdaptiveODE are others; DDIM works, too.
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
        CheckpointError: the autoencoder or, from `prepare_fit`, the first model of a reflow cannot be loaded or does
            not fit.

    Examples:
        >>> from lit_models.common.noise_predictors import UNet
        >>> from lit_models.common.ode_samplers import Euler
        >>> model = FlowMatching(UNet(channels=(8, 16)), sampler=Euler(steps=2))
        >>> model.sample(4).shape
        torch.Size([4, 1, 28, 28])
    """

    monitor = ("val/loss", "min")
    prediction = "velocity"
    process: ContinuousProcess

    def __init__(
        self,
        network: NoisePredictor | None = None,
        path: NoisePath | None = None,
        times: Times | None = None,
        coupling: Coupling | None = None,
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
        self.save_hyperparameters()
        self.path = path or LinearPath()
        self.times = times or UniformTimes()
        self.coupling = coupling or Independent()
        self.likelihood = likelihood
        self.lr_schedule = lr_schedule
        process = ContinuousProcess(self.path)
        if process.level(1.0).alpha > 1e-3 or process.level(0.0).sigma > 0:
            raise ValueError(
                f"{type(self.path).__name__} does not go from the image alone to noise alone, as flow matching needs:"
                " use LinearPath or VariancePreservingPath"
            )
        self.setup_classes(conditional, num_classes, label_dropout, guidance_scale)
        self.setup_networks(
            process, network or UNet(), sampler or Midpoint(5), ema_decay, image_shape, autoencoder, autoencoder_config
        )
        if likelihood is not None:
            self.require_pixels("likelihood")

    def prepare_fit(self) -> None:
        self.coupling.prepare(self.space, self.num_classes)

    def on_fit_start(self) -> None:
        super().on_fit_start()
        self.prepare_fit()
        self.coupling.start(self.device, self.global_rank, self.trainer.world_size)

    def on_fit_end(self) -> None:
        self.coupling.stop()

    def loss_terms(self, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        labels = None if self.num_classes is None else class_of(batch[1])
        pairs = self.coupling.draw(self._clean(batch[0]), labels, self.training)
        if pairs is None:
            return {}
        clean, noise, labels = pairs
        if labels is not None:
            labels = self.training_labels((clean, labels))
        times = self.times if self.training else UniformTimes()
        t = times.draw(len(clean), self.process)
        noisy = self.process.add_noise(clean, noise, t)
        network = self.network if self.training else self.evaluated_network
        velocity = target("velocity", clean, noise, self.process.at(t))
        return {"loss": squared_error(self.apply_network(network, noisy, t, labels), velocity).mean()}

    def _clean(self, images: Tensor) -> Tensor:
        """x_0 of images, N x C x H x W, or of the codes that a loader gives in their place; pixels are dequantised."""
        if isinstance(self.space, PixelSpace):
            return dequantise_signed(images, torch.rand_like(images))
        return self.space.encode(images)

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
