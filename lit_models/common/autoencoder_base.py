"""Base class of autoencoders whose code is a deterministic function of the image."""

from collections.abc import Sequence

from torch import Tensor, nn

from lit_models.common.encoder_decoders import Networks
from lit_models.common.map_networks import MapNetworks
from lit_models.common.module import GenerativeModule


class AutoencoderBase(GenerativeModule):
    """Base of models with an `encoder`, images to codes N x d, and a `decoder`, codes to logits of the pixels.

    encode(x) = encoder(x), decode(z) = sigmoid(decoder(z)), reconstruct(x) = decode(encode(x)).
    """

    encoder: nn.Module
    decoder: nn.Module
    code_shape: tuple[int, int, int]
    """Channels, height and width of a code that is a map; models whose codes are no maps lack this attribute."""

    def set_code_shape(self, networks: Networks | None, image_shape: Sequence[int], code_dim: int) -> None:
        """Sets `code_shape` if the networks make maps.

        Raises:
            ValueError: `code_dim` numbers are no map.
        """
        if isinstance(networks, MapNetworks):
            self.code_shape = networks.code_shape(image_shape, code_dim)

    def encode(self, images: Tensor) -> Tensor:
        """N x C x H x W -> N x d."""
        return self.encoder(images)

    def encoder_network(self) -> nn.Module:
        return self.encoder

    def decode(self, codes: Tensor) -> Tensor:
        """N x d -> images in [0, 1], N x C x H x W."""
        return self.decoder(codes).sigmoid()

    def reconstruct(self, images: Tensor) -> Tensor:
        """N x C x H x W -> N x C x H x W."""
        return self.decode(self.encode(images))

    def forward(self, images: Tensor) -> Tensor:
        return self.reconstruct(images)

    def predict_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        return {"codes": self.encode(batch[0]), "labels": batch[1]}
