"""Generator of images of given classes."""

import torch
from torch import Tensor, nn


class LabelEmbeddingGenerator(nn.Module):
    """Codes and one-hot labels, N x (d + K), to images: the label is embedded, and the network takes both.

    Args:
        network: Network from N x (d + embedding_dim) to images.
        latent_dim: Width d of the code.
        num_classes: Number K of classes.
        embedding_dim: Width of the label's embedding.
    """

    def __init__(self, network: nn.Module, latent_dim: int, num_classes: int, embedding_dim: int) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.embedding = nn.Linear(num_classes, embedding_dim, bias=False)
        self.network = network
        # An embedding has about the norm of a one-hot label, which is below that of z.
        nn.init.normal_(self.embedding.weight, 0.0, embedding_dim**-0.5)

    def forward(self, codes: Tensor) -> Tensor:
        """N x (d + K) -> images in [0, 1], N x C x H x W."""
        z, one_hot = codes[:, : self.latent_dim], codes[:, self.latent_dim :]
        return self.network(torch.cat([z, self.embedding(one_hot).to(z.dtype)], dim=1))
