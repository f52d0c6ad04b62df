from typing import Protocol, runtime_checkable

import torch
from lightning import LightningModule, Trainer
from matplotlib.figure import Figure
from torch import Tensor

from genlab.callbacks.picture import PictureCallback
from genlab.finite import check_finite
from genlab.media import full_row, image_grid, save_picture
from lit_models.anomaly_detector import NORMAL
from lit_models.common.capabilities import Reconstructs


@runtime_checkable
class ScoresImages(Protocol):
    """A model that scores images; scores above its `threshold`, a scalar tensor, are anomalies."""

    def score_images(self, images: Tensor) -> Tensor:
        """The anomaly score of each image, N, above 0."""


class AnomalyScores(PictureCallback):
    """Saves media/anomaly_scores.png, histograms of an anomaly detector's scores of test images, and
    media/anomaly_mistakes.png, the images that it scores worst, above their reconstructions.

    There is a histogram for each kind of image, with the threshold. The worst images are the normal ones with the
    highest scores, and those of each anomalous kind with the lowest.

    Args:
        num_images: Test images that are scored, chosen at random but always the same; 0 for no pictures.
        columns: Number of the worst images of each kind.
    """

    def __init__(self, num_images: int = 5000, columns: int = 16) -> None:
        self.num_images = num_images
        self.columns = columns

    def draw(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not isinstance(pl_module, ScoresImages) or not isinstance(pl_module, Reconstructs):
            return
        like = getattr(pl_module, "threshold", None)  # a buffer, which isinstance does not see from Python 3.12 on
        data = trainer.datamodule  # type: ignore[attr-defined]
        if like is None or data.classes[0] != NORMAL or self.num_images < 1:
            return
        images, kinds = data.examples("test", self.num_images)
        scores = torch.cat([pl_module.score_images(part.to(like.device, like.dtype)) for part in images.split(500)])
        images, kinds, scores = images.cpu(), kinds.cpu(), check_finite(scores.cpu(), "scores")
        save_picture(trainer, "anomaly_scores", _score_figure(scores, kinds, data.classes, float(like)))
        worst = [images[index] for index in _worst(scores, kinds, len(data.classes), self.columns)]
        rows: list[Tensor] = []
        for originals in worst:
            versions = pl_module.reconstruct(originals.to(like.device, like.dtype)).float().cpu()
            rows += [full_row(originals, self.columns), full_row(versions, self.columns)]
        save_picture(trainer, "anomaly_mistakes", image_grid(torch.cat(rows), self.columns))


def _worst(scores: Tensor, kinds: Tensor, count: int, n: int) -> list[Tensor]:
    """The numbers of the n normal images with the highest scores and of the n lowest of each other kind."""
    worst = []
    for kind in range(count):
        of_kind = (kinds == kind).nonzero()[:, 0]
        worst.append(of_kind[scores[of_kind].argsort(descending=kind == 0)[:n]])
    return worst


def _score_figure(scores: Tensor, kinds: Tensor, classes: tuple[str, ...], threshold: float) -> Figure:
    """Histograms of the scores of each kind, one below the other, on a common logarithmic axis."""
    figure = Figure(figsize=(6.4, 1.1 * len(classes) + 0.8), layout="constrained")
    panels = figure.subplots(len(classes), sharex=True, squeeze=False)[:, 0]
    logs = scores.clamp(min=1e-12).log10()
    low, high = float(logs.min()), float(logs.max())
    edges = torch.logspace(low, high if high > low else low + 1, 61).tolist()
    for kind, (axes, name) in enumerate(zip(panels, classes, strict=True)):
        axes.hist(scores[kinds == kind].tolist(), bins=edges, color=f"C{kind}")
        axes.axvline(threshold, color="black", linestyle="--", linewidth=1)
        axes.set(ylabel=name, yticks=[])
    panels[0].set_title(f"images with a score above {threshold:.4g} are anomalies", fontsize=10)
    panels[-1].set(xscale="log", xlabel="score")
    return figure
