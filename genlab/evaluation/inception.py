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


def inception_distance(weights: str | None = None) -> FrechetInceptionDistance:
    """FID with TensorFlow's Inception network of 2015, 2,048 features and its way of resizing images.

    Heusel et al. 2017, arXiv 1706.08500. The weights are those that torch-fidelity converted. `update` takes the images
    that `inception_images` returns.

    Args:
        weights: File of the weights; None for the file in torch.hub's folder, which is downloaded if missing.

    Raises:
        UsageError: torch-fidelity is not installed, or the weights cannot be loaded.
    """
    if find_spec("torch_fidelity") is None:
        raise UsageError("quality.inception needs torch-fidelity: pip install 'genlab[inception]'")
    path = Path(weights) if weights else Path(torch.hub.get_dir()) / "checkpoints" / WEIGHTS
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
            f" {WEIGHTS} as quality.inception_weights"
        ) from error


def inception_images(images: Tensor) -> Tensor:
    """Converts images, N x C x H x W in [0, 1], C 1 or 3, to uint8, N x 3 x H x W; grey ones get equal channels."""
    return images.nan_to_num().clamp(0, 1).mul(255).round().byte().expand(-1, 3, -1, -1)
