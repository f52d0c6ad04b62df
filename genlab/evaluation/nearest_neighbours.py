"""Shows the training images that are nearest to samples, to detect memorization."""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor

from genlab.evaluation.classifier import EvaluationClassifier
from genlab.finite import check_finite
from genlab.media import framed, image_grid, tile_centres
from genlab.words import counted


class Nearest(NamedTuple):
    """The nearest row to each of Q queries."""

    distance: Tensor
    """Its Euclidean distance, float32, Q."""
    row: Tensor
    """Its number, int64, Q."""


class NearestSearch:
    """Finds the nearest row to each query, chunk by chunk.

    Args:
        queries: Q x F.
    """

    def __init__(self, queries: Tensor) -> None:
        self.queries = queries
        self.nearest = Nearest(queries.new_full((len(queries),), torch.inf), torch.zeros_like(queries[:, 0]).long())
        self.rows = 0
        """Number of rows that were searched."""

    def add(self, rows: Tensor) -> None:
        """Searches the next rows, N x F, whose numbers follow those of the rows before."""
        # Equal images are at distance 0, which a matrix product would miss by rounding.
        distance, row = torch.cdist(self.queries, rows, compute_mode="donot_use_mm_for_euclid_dist").min(dim=1)
        nearer = distance < self.nearest.distance
        self.nearest = Nearest(
            torch.where(nearer, distance, self.nearest.distance),
            torch.where(nearer, row + self.rows, self.nearest.row),
        )
        self.rows += len(rows)


def nearest_picture(
    classifier: EvaluationClassifier, samples: Tensor, train: Iterable[Tensor], test: Tensor
) -> Image.Image:
    """Draws a row of samples above the training images nearest to them by the classifier's features and by pixels.

    The title has the median distance of the samples to their nearest training images, divided by that of test images: a
    model that memorized its training images is near 0, and one whose samples are as new as test images near 1.

    Args:
        classifier: The evaluation classifier.
        samples: S x C x H x W in [0, 1].
        train: Batches of training images of the same shape; one at a time is in memory.
        test: Test images of the same shape.

    Raises:
        NotFiniteError: A sample is NaN or infinite.
    """
    count, device = len(samples), classifier.device
    queries = torch.cat([check_finite(samples, "samples").to(device, torch.float32), test.to(device)])
    searches = {"features": NearestSearch(classifier.features(queries)), "pixels": NearestSearch(queries.flatten(1))}
    shown = {name: torch.zeros_like(queries[:count]) for name in searches}
    for batch in train:
        images = batch.to(device)
        for name, found in (("features", classifier.features(images)), ("pixels", images.flatten(1))):
            before = searches[name].rows
            searches[name].add(found)
            row = searches[name].nearest.row[:count] - before
            shown[name][row >= 0] = images[row[row >= 0]]
    rows, ratios = [queries[:count], *shown.values()], []
    for name, search in searches.items():
        distance = search.nearest.distance
        ratio = distance[:count].median() / distance[count:].median().clamp(min=1e-12)
        ratios.append(f"{ratio.item():.2f} by {name}")
    grid = image_grid(torch.cat(rows), count)
    labels = ["samples", *(f"by {name}" for name in searches)]
    ticks = list(zip(tile_centres(grid.height, len(rows)), labels, strict=True))
    title = (
        f"{counted(count, 'sample')} and the nearest of {searches['pixels'].rows:,} training images; median distance"
        f" divided by that of {len(test):,} test images: {' and '.join(ratios)}"
    )
    return framed(grid, title, yticks=ticks)
