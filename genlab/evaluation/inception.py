"""The Frechet Inception distance (FID) of the literature."""

import pickle
import zipfile
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor
from torchmetrics.image.fid import FrechetInceptionDistance

from genlab.runs.errors import UsageError

WEIGHTS = "weights-inception-2015-12-05-6726825d.pth"
"""The file that torch-fidelity downloads into torch.hub's folder of checkpoints."""


def default_weights() -> Path:
    """The file of Inception's weights in torch.hub's folder; it may be missing."""
    return Path(torch.hub.get_dir()) / "checkpoints" / WEIGHTS


def inception_distance(
    weights: str | None = None, option: str = "quality.inception_weights"
) -> FrechetInceptionDistance:
    """FID with TensorFlow's Inception network of 2015, 2,048 features and its way of resizing images.

    Heusel et al. 2017, arXiv 1706.08500. The weights are those that torch-fidelity converted. `update` takes the images
    that `inception_images` returns.

    Args:
        weights: File of the weights; None for the file in torch.hub's folder, which is downloaded if missing.
        option: The option that names the file, for messages.

    Raises:
        UsageError: torch-fidelity is not installed, or the weights cannot be loaded.
    """
    if find_spec("torch_fidelity") is None:
        raise UsageError("the features of Inception need torch-fidelity: pip install 'genlab[inception]'")
    path = _path(weights)
    try:
        if weights or path.is_file():
            torch.load(path, map_location="cpu", weights_only=True)  # torch-fidelity would run code in the file
        return FrechetInceptionDistance(feature_extractor_weights_path=weights, antialias=False)
    except (
        OSError,
        EOFError,
        RuntimeError,
        TypeError,
        ValueError,
        KeyError,
        pickle.UnpicklingError,
        zipfile.BadZipFile,
    ) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        if isinstance(error, pickle.UnpicklingError):
            reason = "it is no file of weights"
        raise UsageError(
            f"the weights of Inception cannot be loaded from {path} ({reason}); give a copy of torch-fidelity's file"
            f" {WEIGHTS} as {option}"
        ) from error


def has_inception(weights: str | None = None) -> bool:
    """Returns whether `inception_distance` needs no download: its package and its weights are there."""
    return find_spec("torch_fidelity") is not None and _path(weights).is_file()


def _path(weights: str | None) -> Path:
    return Path(weights) if weights else default_weights()


def inception_images(images: Tensor) -> Tensor:
    """Converts images, N x C x H x W in [0, 1], C 1 or 3, to uint8, N x 3 x H x W; grey ones get equal channels."""
    return images.nan_to_num().clamp(0, 1).mul(255).round().byte().expand(-1, 3, -1, -1)
