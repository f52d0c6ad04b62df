"""The Frechet distance by the features of Inception, as the literature has it."""

import pickle
import zipfile
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor
from torchmetrics.image.fid import FrechetInceptionDistance

from genlab.runs.errors import UsageError

WEIGHTS = "weights-inception-2015-12-05-6726825d.pth"
"""The file that torch-fidelity downloads, in torch.hub's folder of checkpoints."""
_UNREADABLE = (
    OSError,
    EOFError,
    RuntimeError,
    TypeError,
    ValueError,
    KeyError,
    pickle.UnpicklingError,
    zipfile.BadZipFile,
)
"""What reading a file of weights, or downloading it, may raise."""


def inception_distance(weights: str | None = None) -> FrechetInceptionDistance:
    """FID by TensorFlow's Inception of 2015, 2,048 features, images enlarged as there (Heusel et al. 2017, 1706.08500).

    Its weights are those that torch-fidelity converted; `update` takes what `inception_images` gives.

    Args:
        weights: a file of them; by default the one that torch.hub has, or else it is downloaded.

    Raises:
        UsageError: torch-fidelity is not installed, or the weights cannot be had.
    """
    if find_spec("torch_fidelity") is None:
        raise UsageError("quality.inception needs torch-fidelity: pip install 'genlab[inception]'")
    path = Path(weights) if weights else Path(torch.hub.get_dir()) / "checkpoints" / WEIGHTS
    try:
        if weights or path.is_file():
            torch.load(path, map_location="cpu", weights_only=True)  # torch-fidelity would run a file's code
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
        raise UsageError(
            f"the weights of Inception cannot be had from {path} ({reason}); give a copy of torch-fidelity's file"
            f" {WEIGHTS} as quality.inception_weights"
        ) from error


def inception_images(images: Tensor) -> Tensor:
    """N x C x H x W in [0, 1], C 1 or 3 -> uint8, N x 3 x H x W; grey ones get three equal channels."""
    return images.nan_to_num().clamp(0, 1).mul(255).round().byte().expand(-1, 3, -1, -1)
