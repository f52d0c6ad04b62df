"""Samples beside the training images that are nearest to them."""

from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor

from genlab.evaluation.classifier import EvaluationClassifier
from genlab.media import framed, image_grid, tile_centres


class Nearest(NamedTuple):
    """The nearest of many rows to each of Q queries."""

    distance: Tensor
    """float32, Q, Euclidean."""
    row: Tensor
    """Its number, int64, Q."""


class NearestSearch:
    """Looks for the nearest rows to each query, chunk by chunk.

    Args:
        queries: Q x F.
    """

    def __init__(self, queries: Tensor) -> None:
        self.queries = queries
        self.found = Nearest(queries.new_full((len(queries),), torch.inf), torch.zeros_like(queries[:, 0]).long())
        self._seen = 0

    def look_through(self, rows: Tensor) -> None:
        """rows: N x F, numbered on from those before."""
        distance, row = torch.cdist(self.queries, rows).min(dim=1)
        nearer = distance < self.found.distance
        self.found = Nearest(
            torch.where(nearer, distance, self.found.distance),
            torch.where(nearer, row + self._seen, self.found.row),
        )
        self._seen += len(rows)


def nearest_picture(
    judge: EvaluationClassifier, samples: Tensor, train: Tensor, test: Tensor, chunk: int = 1000
) -> Image.Image:
    """A row of samples, and below each the training image nearest to it by the judge's features and by pixels.

    The title compares the median distance of samples to training images with that of test images: a model that repeats
    its training images is near 0, one as good as new images near 1.

    Args:
        samples: S x C x H x W in [0, 1].
        train, test: images likewise, any numbers of them.
    """
    count, device = len(samples), judge.classifier.device
    queries = torch.cat([samples.nan_to_num().to(device, torch.float32), test.to(device)])
    searches = {"features": NearestSearch(judge.features(queries)), "pixels": NearestSearch(queries.flatten(1))}
    for part in train.split(chunk):
        images = part.to(device)
        searches["features"].look_through(judge.features(images))
        searches["pixels"].look_through(images.flatten(1))
    rows, ratios = [queries[:count]], []
    for name, search in searches.items():
        distance, row = search.found
        rows.append(train[row[:count].to(train.device)].to(device))
        ratio = distance[:count].median() / distance[count:].median().clamp(min=1e-12)
        ratios.append(f"{ratio.item():.2f} by {name}")
    grid = image_grid(torch.cat(rows), count)
    labels = ["samples", *(f"by {name}" for name in searches)]
    ticks = list(zip(tile_centres(grid.height, len(rows)), labels, strict=True))
    title = (
        f"{count} samples and the nearest of {len(train):,} training images; median distance in units of that of"
        f" {len(test):,} test images: {' and '.join(ratios)}"
    )
    return framed(grid, title, yticks=ticks)
