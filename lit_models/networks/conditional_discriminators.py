"""A discriminator's features with what stands on top of them."""

from typing import Literal

import torch
from torch import Tensor, nn

Conditioning = Literal["embedding", "projection"]


class Critic(nn.Module):
    """How real an image is: one logit."""

    def __init__(self, features: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.features = features
        self.head = head

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """N x C x H x W -> logits, N, or N x h x w of a discriminator of patches."""
        return self.head(self.features(images))[:, 0]


class EmbeddingCritic(nn.Module):
    """How real an image is as one of its class, which is learned as one more channel of the image."""

    def __init__(self, features: nn.Module, head: nn.Module, num_classes: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.features = features
        self.head = head
        self.planes = nn.Parameter(torch.rand(num_classes, 1, *size))

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """N x C x H x W and int64, N -> logits, N."""
        return self.head(self.features(torch.cat([images, self.planes[labels]], dim=1)))[:, 0]

    def of_any_class(self, images: Tensor) -> Tensor:
        """Features, N x F, with the mean of the classes' channels."""
        plane = self.planes.mean(dim=0, keepdim=True).expand(len(images), -1, -1, -1)
        return self.features(torch.cat([images, plane], dim=1))


class ProjectionCritic(nn.Module):
    """How real an image is as one of its class: a logit of its features, and their product with the class's vector.

    Miyato and Koyama 2018, arXiv 1802.05637, eq. 3.
    """

    def __init__(self, features: nn.Module, head: nn.Module, classes: nn.Module) -> None:
        super().__init__()
        self.features = features
        self.head = head
        self.classes = classes

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """N x C x H x W and int64, N -> logits, N."""
        features = self.features(images)  # (N, F)
        return self.head(features)[:, 0] + (features * self.classes(labels)).sum(dim=1)


class AuxiliaryCritic(nn.Module):
    """How real an image is, and its class: 1 + K logits by one layer."""

    def __init__(self, features: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.features = features
        self.head = head

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """N x C x H x W -> logits of the source, N, and of the classes, N x K."""
        logits = self.head(self.features(images))
        return logits[:, 0], logits[:, 1:]


class ClassEmbedding(nn.Module):
    """Codes with a one-hot label behind them, N x (d + K), to images, the label embedded first.

    Args:
        network: N x (d + embedding_dim) to images.
    """

    def __init__(self, network: nn.Module, latent_dim: int, num_classes: int, embedding_dim: int) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.embedding = nn.Linear(num_classes, embedding_dim, bias=False)
        self.network = network
        nn.init.normal_(self.embedding.weight, 0.0, embedding_dim**-0.5)  # as long as a one-hot label: z stays louder

    def forward(self, codes: Tensor) -> Tensor:
        z, one_hot = codes[:, : self.latent_dim], codes[:, self.latent_dim :]
        return self.network(torch.cat([z, self.embedding(one_hot).to(z.dtype)], dim=1))
