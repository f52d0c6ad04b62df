import json
import math
from typing import Any

import torch
from lightning import Trainer
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn
from torch.nn import functional as F

from lit_models.common.autoregressive_networks import AutoregressiveNetwork, GatedPixelCNN
from lit_models.common.capabilities import check_num_classes, class_labels
from lit_models.common.ema import check_ema_precision, ema_copy, update_ema
from lit_models.common.lr_schedules import LRSchedule
from lit_models.common.module import GenerativeModule, ImageShape
from lit_models.common.pretrained_encoder import numbers_of
from lit_models.common.value_spaces import Tokens, value_space
from lit_models.losses.classification import class_of


class AutoregressiveModel(GenerativeModule):
    """Autoregressive model: maximises the exact likelihood log p(x) = sum_t log p(x_t | x_1, ..., x_{t-1}).

    The values x_t are the grey levels of the channels of the pixels in raster order (van den Oord et al. 2016,
    arXiv 1601.06759), or the tokens of a trained tokenizer (van den Oord et al. 2017, arXiv 1711.00937, section 3.3). A
    network gives the logits of each value from those before it, of all values at once in training.

    Logs `nll`, -log p(x) in nats per image. It is that of the image if `values` is 256 and for images of two levels
    with `values` 2; with fewer levels it is that of the rounded image, and of tokens it is that of the tokens. Only for
    256 values is it also logged as `bits_per_dim`.

    A conditional model learns p(x | y) and logs its likelihood; `log_prob` is that of p(x), the mean of p(x | y) over
    all classes y.

    Args:
        network: Network that predicts the values; GatedPixelCNN by default, or CausalTransformer.
        values: Number of grey levels of a pixel: 256 by default, 2 for black and white images, or any number between
            for a coarser model. Leave it out with a tokenizer.
        tokenizer: Checkpoint of a tokenizer, such as a VQVAE, whose tokens are learned in place of pixels; `{seed}` in
            the path stands for the run's seed. It is fixed.
        conditional: Learns from labels, and generates images of a class.
        temperature: Factor T of sampling: the probability of a value is p^(1 / T), normalised. Below 1, samples are
            more likely and less diverse; at 0 each value is the most likely one.
        top_k: Samples only the k most likely values; all by default.
        ema_decay: Decay of the exponential moving average (EMA) of the network's weights, which is validated, tested
            and sampled; 0 for none.
        lr_schedule: Learning-rate schedule: `constant`, or `one_cycle` over the whole training.
        num_classes: Number of classes; train.py takes it from the data.
        image_shape: Channels, height, width of the images; train.py takes them from the data.
        tokenizer_config: Hyper-parameters of the tokenizer, as JSON. A checkpoint of this model holds them, so that the
            tokenizer's checkpoint is not needed again; they are not meant to be set by hand.
        optimizer: Optimizer; in Python, a function that makes it from the parameters.

    Raises:
        ValueError: a number is out of range, or `values` and `tokenizer` are both given.
        CheckpointError: the tokenizer's checkpoint is missing, damaged, or does not fit.

    Examples:
        >>> from lit_models.common.autoregressive_networks import CausalTransformer
        >>> model = AutoregressiveModel(CausalTransformer(width=8, layers=1), values=2, image_shape=(1, 4, 4))
        >>> model.log_prob(torch.rand(3, 1, 4, 4)).shape, model.sample(2).shape
        (torch.Size([3]), torch.Size([2, 1, 4, 4]))
    """

    monitor = ("val/nll", "min")
    embedded_configs = ("tokenizer_config",)

    def __init__(
        self,
        network: AutoregressiveNetwork | None = None,
        values: int | None = None,
        tokenizer: str | None = None,
        conditional: bool = False,
        temperature: float = 1.0,
        top_k: int | None = None,
        ema_decay: float = 0.0,
        lr_schedule: LRSchedule = "constant",
        num_classes: int = 10,
        image_shape: ImageShape = (1, 28, 28),
        tokenizer_config: str | None = None,
        optimizer: OptimizerCallable = lambda params: torch.optim.Adam(params, lr=1e-3),
    ) -> None:
        super().__init__(optimizer)
        if not temperature >= 0 or (top_k is not None and top_k < 1) or not 0 <= ema_decay < 1:
            raise ValueError(
                f"temperature is {temperature}, top_k {top_k} and ema_decay {ema_decay}; they must be at least 0, at"
                " least 1, and in [0, 1)"
            )
        if conditional:
            check_num_classes(num_classes)
        self.save_hyperparameters()
        self.temperature = temperature
        self.top_k = top_k
        self.ema_decay = ema_decay
        self.lr_schedule = lr_schedule
        self.num_classes = num_classes if conditional else None
        self.space = value_space(image_shape, values, tokenizer, tokenizer_config)
        self.network = (network or GatedPixelCNN()).build(
            self.space.shape, self.space.num_values, self.space.ordered, self.num_classes
        )
        self.ema_network = ema_copy(self.network) if ema_decay else None

    @property
    def evaluated_network(self) -> Any:
        """The network that is validated, tested and sampled: `ema_network` if there is one, else `network`."""
        return self.network if self.ema_network is None else self.ema_network

    def forward(self, images: Tensor) -> Tensor:
        """Log-probability of images, N x C x H x W, in nats: N."""
        return self.log_prob(images)

    def log_prob(self, images: Tensor) -> Tensor:
        """Log-probability of the values of images, N x C x H x W, in nats: N."""
        values, network = self.space.values(images), self.evaluated_network
        if self.num_classes is None:
            return log_likelihood(network, values, None)
        of_classes = [
            log_likelihood(network, values, torch.full_like(values[:, 0, 0, 0], label))
            for label in range(self.num_classes)
        ]
        return torch.stack(of_classes).logsumexp(dim=0) - math.log(self.num_classes)

    def loss_terms(self, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        values = self.space.values(batch[0])
        labels = None if self.num_classes is None else class_of(batch[1])
        network = self.network if self.training else self.evaluated_network
        nll = -log_likelihood(network, values, labels).mean()
        if isinstance(self.space, Tokens) or self.space.num_values < 256:
            return {"nll": nll}
        return {"nll": nll, "bits_per_dim": nll / (math.log(2) * math.prod(self.space.shape))}

    def predict_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        return {"log_prob": self.log_prob(batch[0]), "labels": batch[1]}

    @torch.no_grad()
    def sample(self, n: int, label: int | None = None) -> Tensor:
        """Generates n images, of class `label`, or of random classes if the model has classes."""
        labels = class_labels(self, n, label)
        return self.space.images(self.evaluated_network.generate(n, labels, self._draw))

    def _draw(self, logits: Tensor) -> Tensor:
        """Draws values from logits, N x K, with the temperature and `top_k`: int64, N.

        The largest logit plus T times Gumbel noise is a draw from p^(1 / T) (the Gumbel-max trick).
        """
        logits = logits.float()
        noisy = logits - self.temperature * torch.empty_like(logits).exponential_().log()
        if self.top_k is not None and self.top_k < logits.shape[1]:
            lowest = logits.topk(self.top_k, dim=1).values[:, -1:]
            noisy = noisy.masked_fill(logits < lowest, -math.inf)
        return noisy.argmax(dim=1)

    def on_train_start(self) -> None:
        """Turns training images into tokens once, if they do not change between epochs."""
        if isinstance(self.space, Tokens):
            self.space.start(self.trainer.train_dataloader)

    def check_trainer(self, trainer: Trainer) -> None:
        super().check_trainer(trainer)
        if self.ema_network is not None:
            check_ema_precision(trainer)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        if self.ema_network is not None:
            update_ema(self.ema_network, self.network, self.ema_decay, self.trainer.global_step + 1)

    def derived_config(self) -> dict[str, Any]:
        """Numeric hyper-parameters of the tokenizer, such as tokenizer.depth, by which runs can be grouped."""
        return numbers_of("tokenizer", self.space.config) if isinstance(self.space, Tokens) else {}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        if isinstance(self.space, Tokens):
            checkpoint[self.CHECKPOINT_HYPER_PARAMS_KEY]["tokenizer_config"] = json.dumps(self.space.config)


def log_likelihood(network: nn.Module, values: Tensor, labels: Tensor | None) -> Tensor:
    """Sum of the log-probabilities of the values of each image, int64, N x C x H x W, in nats: N, float32."""
    logits = network(values, labels)  # (N, C, H, W, K)
    nats = F.cross_entropy(logits.flatten(0, 3).float(), values.flatten(), reduction="none")
    return -nats.view(len(values), -1).sum(dim=1)
