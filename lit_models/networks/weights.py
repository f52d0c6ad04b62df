"""Loads trained weights of torchvision's networks, by name or from a file."""

import pickle
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
from torch import nn
from torchvision.models import WeightsEnum

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
UNREADABLE = (OSError, RuntimeError, EOFError, pickle.UnpicklingError, ValueError, KeyError)


def load_features(
    features: nn.Module, weights: str, names: type[WeightsEnum], option: str, others: Container[str] = ()
) -> None:
    """Loads weights, by torchvision's name or from a file, into the `features` of a torchvision network.

    Args:
        features: The network's `features`, or the first layers of them.
        weights: A name in `names`, which is downloaded once, or a file with a state_dict.
        names: Torchvision's enumeration of the weights of that network.
        option: Command-line option that accepts a file; error messages name it.
        others: Keys of other weights of that network, which the file may also hold.

    Raises:
        ValueError: the weights cannot be loaded, or belong to another network. The message tells how to get them.
    """
    network = _network(names)
    state = _named(names[weights], option) if weights in names.__members__ else _from_file(Path(weights), names)
    found = {k.removeprefix("features."): v for k, v in state.items() if str(k).startswith("features.")}
    given = {k: v for k, v in found.items() if k not in others}
    wanted = features.state_dict().keys()
    try:
        features.load_state_dict(given)
    except RuntimeError:
        incomplete = given and given.keys() < wanted
        missing = next((k for k in wanted if k not in given), None)
        what = f"lack features.{missing}" if incomplete else f"are of another network than {network.replace('_', '-')}"
        raise ValueError(f"weights {weights} {what}; give a state_dict of torchvision's {network.lower()}") from None


def _network(names: type[WeightsEnum]) -> str:
    """Name of the network: VGG19 for VGG19_Weights."""
    return names.__name__.removesuffix("_Weights")


def _named(weights: WeightsEnum, option: str) -> Mapping[str, Any]:
    """Reads torchvision's weights from its download folder, or downloads them."""
    cached = Path(torch.hub.get_dir(), "checkpoints", Path(urlparse(weights.url).path).name)
    was_cached = cached.is_file()
    try:
        return weights.get_state_dict(progress=False, check_hash=True, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        if was_cached:
            raise ValueError(f"{cached} is damaged ({_reason(error)}); delete it or replace it") from None
        raise ValueError(
            f"weights {weights.name} cannot be downloaded ({_reason(error)}); download {weights.url} on another"
            f" machine and copy it to {cached}, or to any place and give {option} FILE"
        ) from None


def _from_file(path: Path, names: type[WeightsEnum]) -> Mapping[str, Any]:
    path = path.expanduser()
    if not path.is_file():
        known = " or ".join(names.__members__)
        raise ValueError(
            f"there are no weights {path}: it is neither a file nor {known}, the names that torchvision knows"
        )
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        raise ValueError(
            f"{path} is damaged or is not a file of weights ({_reason(error)}); copy or download it again"
        ) from None
    if not isinstance(state, Mapping):
        kind, network = type(state).__name__, _network(names).lower()
        raise ValueError(f"{path} holds a {kind}, not a state_dict of torchvision's {network}")
    return state


def _reason(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
