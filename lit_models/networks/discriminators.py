"""Discriminators: a network of features and the layers on top of it."""

import torch
from torch import Tensor, nn


class UnconditionalDiscriminator(nn.Module):
    """One logit for each image, or for each patch of an image: is it real?

    Args:
        features: Network from images to features.
        head: Layer from features to one logit.
    """

    def __init__(self, features: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.features = features
        self.head = head

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """N x C x H x W -> logits, N, or N x h x w for patches. Labels are ignored."""
        return self.head(self.features(images))[:, 0]


class LabelEmbeddingDiscriminator(nn.Module):
    """One logit for each image and label: is it a real image of its class? The label is one more channel of the image.

    Each class has a learned channel. Mirza and Osindero 2014, arXiv 1411.1784.

    Args:
        features: Network from images with one more channel to features.
        head: Layer from features to one logit.
        num_classes: Number of classes.
        size: Height and width of the images.
    """

    def __init__(self, features: nn.Module, head: nn.Module, num_classes: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.features = features
        self.head = head
        self.label_channels = nn.Parameter(torch.rand(num_classes, 1, *size))

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """N x C x H x W and int64, N -> logits, N."""
        return self.head(self.features(torch.cat([images, self.label_channels[labels]], dim=1)))[:, 0]

    def unconditional_features(self, images: Tensor) -> Tensor:
        """Features, N x F, of images without labels, with the mean of the classes' channels."""
        channel = self.label_channels.mean(dim=0, keepdim=True).expand(len(images), -1, -1, -1)
        return self.features(torch.cat([images, channel], dim=1))


class ProjectionDiscriminator(nn.Module):
    """One logit for each image and label: psi(phi(x)) + y^T V phi(x), phi the features, psi the head.

    Miyato and Koyama 2018, arXiv 1802.05637, eq. 3.

    Args:
        features: Network phi from images to features.
        head: Layer psi from features to one logit.
        label_embedding: Embedding V from labels to vectors as wide as the features.
    """

    def __init__(self, features: nn.Module, head: nn.Module, label_embedding: nn.Module) -> None:
        super().__init__()
        self.features = features
        self.head = head
        self.label_embedding = label_embedding

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """N x C x H x W and int64, N -> logits, N."""
        features = self.features(images)  # (N, F)
        return self.head(features)[:, 0] + (features * self.label_embedding(labels)).sum(dim=1)


class AuxiliaryClassifierDiscriminator(nn.Module):
    """Logits of the source, real or generated, and of the class, from one layer.

    Args:
        features: Network from images to features.
        head: Layer from features to 1 + K logits, for K classes.
    """

    def __init__(self, features: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.features = features
        self.head = head

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """N x C x H x W -> logits of the source, N, and of the classes, N x K."""
        logits = self.head(self.features(images))
        return logits[:, 0], logits[:, 1:]


class InformationDiscriminator(nn.Module):
    """A logit for each image, real or generated, and parameters of a distribution Q of its code, on shared features.

    Args:
        features: Network from images to features, N x F.
        head: Layer from features to one logit.
        q_head: Network from features to the parameters of Q.
    """

    def __init__(self, features: nn.Module, head: nn.Module, q_head: nn.Module) -> None:
        super().__init__()
        self.features = features
        self.head = head
        self.q_head = q_head

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """N x C x H x W -> logits, N, and parameters of Q, N x P."""
        features = self.features(images)
        return self.head(features)[:, 0], self.q_head(features)
