import math

import torch
from lightning import Trainer
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import Metric

from lit_models.common.autoencoder_base import AutoencoderBase
from lit_models.common.lr_schedules import LRSchedule
from lit_models.common.map_networks import MapNetworks
from lit_models.common.module import ImageShape
from lit_models.common.precision import refuse_half_precision
from lit_models.common.quantizers import Quantizer, VectorQuantizer
from lit_models.losses.likelihood import LikelihoodKind, log_likelihood
from lit_models.networks.quantizers import Codebook, QuantizedEncoder, perplexity, token_counts


class VQVAE(AutoencoderBase):
    """Vector-quantised autoencoder: minimises E[-log p(x|e(x)) + beta ||z(x) - sg e(x)||^2], in nats per image.

    Van den Oord et al. 2017, arXiv 1711.00937, eq. 3. At each position of the encoder's map z, e is the nearest code of
    a codebook, and its number is a token. The decoder's gradient is that of z (straight-through), and sg stops the
    gradient. The likelihood is summed over the pixels and the squared distance over the whole map. The codebook is a
    component: vectors that follow the encoder (the paper's appendix A.1), or a grid of scalars, which has no term of
    beta (FSQ, Mentzer et al. 2023, arXiv 2309.15505). Unlike in the paper, the first batch sets the codes, and unused
    codes are replaced.

    Logs `commitment`, the squared distance; `perplexity`, the number of codes in use, were all used equally; and
    `usage`, the share of codes in use. The last two are those of a batch in training, else of all images.

    Args:
        networks: Encoder and decoder of maps; MapNetworks by default.
        quantizer: Codebook; VectorQuantizer by default.
        likelihood: Distribution of a pixel given its mean.
        likelihood_scale: Standard deviation of a gaussian, or scale b of a laplace likelihood; bernoulli has none.
        lr_schedule: Learning-rate schedule: `constant`, or `one_cycle` over the whole training.
        image_shape: Channels, height, width of the images; train.py takes them from the data.
        optimizer: Optimizer; in Python, a function that makes it from the parameters.

    Raises:
        ValueError: the scale is not positive, or the image is too small for the networks.

    Examples:
        >>> model = VQVAE(MapNetworks(depth=2, channels=4))
        >>> tokens = model.tokenize(torch.rand(3, 1, 28, 28))
        >>> tokens.shape, model.detokenize(tokens).shape
        (torch.Size([3, 7, 7]), torch.Size([3, 1, 28, 28]))
    """

    monitor = ("val/loss", "min")
    encoder: QuantizedEncoder

    def __init__(
        self,
        networks: MapNetworks | None = None,
        quantizer: Quantizer | None = None,
        likelihood: LikelihoodKind = "bernoulli",
        likelihood_scale: float = 0.1,
        lr_schedule: LRSchedule = "constant",
        image_shape: ImageShape = (1, 28, 28),
        optimizer: OptimizerCallable = lambda params: torch.optim.Adam(params, lr=1e-3),
    ) -> None:
        super().__init__(optimizer)
        if not likelihood_scale > 0:
            raise ValueError(f"likelihood_scale is {likelihood_scale}; it must be positive")
        self.save_hyperparameters()
        self.networks = networks or MapNetworks()
        self.quantizer = quantizer or VectorQuantizer()
        self.likelihood: LikelihoodKind = likelihood
        self.likelihood_scale = likelihood_scale
        self.lr_schedule = lr_schedule
        self.token_shape = self.networks.map_size(image_shape)
        self.code_shape = (self.quantizer.num_channels, *self.token_shape)
        width = math.prod(self.code_shape)
        network = self.networks.build_encoder(image_shape, width)
        self.encoder = QuantizedEncoder(network, self.quantizer.build(), self.code_shape)
        self.codebook_size = self.codebook.size
        self.decoder = self.networks.build_decoder(image_shape, width)
        self.use = CodebookUse(self.codebook_size)

    @property
    def codebook(self) -> Codebook:
        """The codes of the tokens."""
        return self.encoder.codebook

    def check_trainer(self, trainer: Trainer) -> None:
        super().check_trainer(trainer)
        if self.quantizer.needs_single_precision:
            refuse_half_precision(trainer, "a codebook does not change", "--trainer.precision bf16-mixed or 16-mixed")

    def tokenize(self, images: Tensor) -> Tensor:
        """N x C x H x W -> tokens, int64, N x h x w."""
        return self.codebook.tokens(self.encoder.maps(images))

    def detokenize(self, tokens: Tensor) -> Tensor:
        """Tokens, int64, N x h x w -> images in [0, 1], N x C x H x W."""
        return self.decode(self.codebook.lookup(tokens).flatten(1).to(self.dtype))

    def loss_terms(self, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        images = batch[0]
        maps = self.encoder.maps(images)  # (N, c, h, w)
        if self.training:
            self.codebook.renew(maps)
        tokens = self.codebook.tokens(maps)  # (N, h, w)
        quantized = self.codebook.quantize(maps, tokens)  # (N, c, h, w)
        logits = self.decoder(quantized.flatten(1).to(images.dtype))
        reconstruction = -log_likelihood(self.likelihood, logits, images, self.likelihood_scale).mean()
        terms = {"loss": reconstruction, "reconstruction": reconstruction}
        if self.quantizer.beta:
            commitment = (maps.float() - quantized.detach()).square().sum(dim=(1, 2, 3)).mean()
            terms |= {"loss": reconstruction + self.quantizer.beta * commitment, "commitment": commitment}
        terms["mse"] = F.mse_loss(logits.float().sigmoid(), images)
        if self.training:
            self.codebook.update(maps, tokens)
            return terms | use_of(token_counts(tokens, self.codebook_size))
        self.use.update(tokens)
        return terms

    def on_validation_epoch_start(self) -> None:
        self.use.reset()

    def on_test_epoch_start(self) -> None:
        self.use.reset()

    def on_validation_epoch_end(self) -> None:
        self._log_use("val")

    def on_test_epoch_end(self) -> None:
        self._log_use("test")

    def _log_use(self, stage: str) -> None:
        terms = use_of(self.use.compute())
        self.log_dict({f"{stage}/{name}": value for name, value in terms.items()}, sync_dist=True, prog_bar=True)


class CodebookUse(Metric):
    """Counts tokens, on the device and from all processes.

    Args:
        size: Number K of different tokens.
    """

    full_state_update = False
    is_differentiable = False
    counts: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.add_state("counts", torch.zeros(size, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, tokens: Tensor) -> None:
        """Adds tokens, int64 of any shape."""
        self.counts += token_counts(tokens, len(self.counts))

    def compute(self) -> Tensor:
        """Number of each token, int64, K."""
        return self.counts


def use_of(counts: Tensor) -> dict[str, Tensor]:
    """Perplexity and share of the codes that are used, of the number of each token, K."""
    return {"perplexity": perplexity(counts), "usage": (counts > 0).float().mean()}
