"""Torchvision's trained weights, by their name or out of a file."""

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
    """Puts the weights of a torchvision name or of a file into the features of that network, or into some of them.

    Args:
        features: torchvision's own, or the first of them.
        weights: one of the names, which is downloaded once, or a file of a state_dict.
        names: torchvision's, of that network.
        option: that can name a file, for the message.
        others: weights of the network that are not among these features, and may be in the file all the same.

    Raises:
        ValueError: they cannot be had or are those of another network; the message says how to bring them.
    """
    network = _network(names)
    state = _named(names[weights], option) if weights in names.__members__ else _from_file(Path(weights), names)
    found = {k.removeprefix("features."): v for k, v in state.items() if str(k).startswith("features.")}
    given = {k: v for k, v in found.items() if k not in others}
    wanted = features.state_dict().keys()
    try:
        features.load_state_dict(given)
    except RuntimeError:
        cut = given and given.keys() < wanted
        missing = next((k for k in wanted if k not in given), None)
        what = f"lack features.{missing}" if cut else f"are of another network than {network.replace('_', '-')}"
        raise ValueError(f"weights {weights} {what}; give a state_dict of torchvision's {network.lower()}") from None


def _network(names: type[WeightsEnum]) -> str:
    """VGG19 of VGG19_Weights."""
    return names.__name__.removesuffix("_Weights")


def _named(weights: WeightsEnum, option: str) -> Mapping[str, Any]:
    """Torchvision's weights, from its folder of downloads or from the network."""
    kept = Path(torch.hub.get_dir(), "checkpoints", Path(urlparse(weights.url).path).name)
    was_there = kept.is_file()
    try:
        return weights.get_state_dict(progress=False, check_hash=True, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        if was_there:
            raise ValueError(f"{kept} is damaged ({_reason(error)}); remove it or bring it again") from None
        raise ValueError(
            f"weights {weights.name} cannot be downloaded ({_reason(error)}); bring {weights.url} from elsewhere"
            f" and put it at {kept}, or anywhere and name it: {option} FILE"
        ) from None


def _from_file(path: Path, names: type[WeightsEnum]) -> Mapping[str, Any]:
    path = path.expanduser()
    if not path.is_file():
        known = " or ".join(names.__members__)
        raise ValueError(f"there are no weights {path}: neither a file nor {known}, which torchvision knows")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        raise ValueError(f"{path} is damaged or is no file of weights ({_reason(error)}); bring it again") from None
    if not isinstance(state, Mapping):
        kind, network = type(state).__name__, _network(names).lower()
        raise ValueError(f"{path} holds a {kind}, not a state_dict of torchvision's {network}")
    return state


def _reason(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
