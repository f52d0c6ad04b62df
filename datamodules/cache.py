"""The copies of data that a process keeps, and their keys, which follow from a data module's class and arguments."""

import functools
import hashlib
import inspect
from collections.abc import Callable, Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

Key = tuple[Hashable, ...]
Place = torch.device | Literal["memory"]
"""Where data are kept: the CPU as they were read, in memory or on disk; `memory` for a copy of those on disk; a GPU."""
Data = dict[str, Any]
"""Of each part, such as `train`: images `x_train`, a tensor or ImagesOnDisk, and labels `y_train`, a tensor."""

MAX_ENTRIES = 4
FINGERPRINT_BYTES = 2**26
"""Largest number of bytes of images that a fingerprint reads: all images of MNIST, every third of CIFAR-10."""
HASHED_AT_ONCE = 256
"""Number of images that are copied at once for a fingerprint."""

_KEPT: dict[tuple[Key, Place], Data] = {}
_EQUAL: dict[Key, Key] = {}
"""For the key of data that equal others that the process had already read, the key of these others."""
_FINGERPRINTS: dict[Key, str] = {}


def kept(key: Key, place: Place) -> Data | None:
    return _KEPT.get((_EQUAL.get(key, key), place))


def keep(key: Key, place: Place, data: Data) -> Data:
    """Keeps data, drops the oldest entry if there are too many, and returns what is kept.

    If nothing is kept of this key and equal data are, these are returned, now and later. So data sets that read the
    same file share it.
    """
    owners = {owner for owner, _ in _KEPT}
    if _EQUAL.get(key, key) not in owners:
        _EQUAL.pop(key, None)
        for (other, other_place), already in _KEPT.items():
            if other_place == place and _equal(already, data):
                _EQUAL[key] = other
                return already
    while len(_KEPT) >= MAX_ENTRIES:
        _KEPT.pop(next(iter(_KEPT)))
    _KEPT[_EQUAL.get(key, key), place] = data
    return data


def forget() -> None:
    """Drops everything that is kept, so that it is read again."""
    for kept_of_all in (_KEPT, _EQUAL, _FINGERPRINTS):
        kept_of_all.clear()


def _equal(some: Data, others: Data) -> bool:
    return some.keys() == others.keys() and all(_same(some[name], others[name]) for name in some)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    return bool(one == other)  # images on disk


def recorded(init: Callable[..., None]) -> Callable[..., None]:
    """Wraps a constructor so that the instance knows the arguments that it was made with, see `constructor_arguments`.

    Of the constructors of one instance, the first one called counts, which is that of its own class.
    """

    @functools.wraps(init)
    def record(self: Any, *args: Any, **options: Any) -> None:
        if not hasattr(self, "_arguments"):
            self._arguments = (args, options)
        init(self, *args, **options)

    return record


def constructor_arguments(instance: Any) -> dict[str, Any]:
    """Returns the arguments of a `recorded` constructor by name, with the defaults of those that were not given."""
    args, options = instance._arguments
    signature = inspect.signature(type(instance).__init__)
    bound = signature.bind(instance, *args, **options)
    bound.apply_defaults()
    found = dict(bound.arguments)
    found.pop(next(iter(signature.parameters)))  # the instance
    for name, parameter in signature.parameters.items():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            found |= found.pop(name)
    return found


def frozen(value: Any) -> Hashable:
    """Returns a hashable stand-in, equal for equal values. A value that cannot be hashed is equal to itself only."""
    if isinstance(value, Mapping):
        return "mapping", frozen([*value.items()])
    if isinstance(value, list | tuple):
        return "sequence", tuple(map(frozen, value))
    if isinstance(value, set | frozenset):
        return "set", frozenset(map(frozen, value))
    if isinstance(value, Tensor):
        return "tensor", str(value.dtype), frozen(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        return "array", value.dtype.str, value.shape, hashlib.sha256(_bytes(value)).digest()
    typed = type(value), value  # the type, because 1 == 1.0 == True
    return typed if _is_hashable(value) else _Identity(value)


def _bytes(array: np.ndarray) -> memoryview:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def _is_hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


class _Identity:
    """A value that is equal to itself only. It is kept alive, so that no other value can have its address."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Identity) and other.value is self.value

    def __hash__(self) -> int:
        return id(self.value)


def state_of_files(paths: Iterable[Path]) -> str:
    """Returns a hash of the path, size and modification time of each file; a missing file has none of these two."""
    digest = hashlib.sha256()
    for path in paths:
        try:
            stat = path.stat()
        except OSError:
            state = None  # reading it raises the error
        else:
            state = (stat.st_mtime_ns, stat.st_size)
        digest.update(repr((str(path.absolute()), state)).encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def fingerprint(key: Key, data: Data) -> str:
    """Returns a hash of training images and labels, which is computed once for each key.

    Of images that take more than FINGERPRINT_BYTES, evenly spaced ones are read.
    """
    if key not in _FINGERPRINTS:
        images, labels = data["x_train"], data["y_train"]
        step = -(-images.nbytes // FINGERPRINT_BYTES) or 1
        digest = hashlib.sha256(repr((tuple(images.shape), str(images.dtype), tuple(labels.shape))).encode())
        for index in torch.arange(0, len(images), step).split(HASHED_AT_ONCE):
            digest.update(_bytes(images[index].numpy()))
        digest.update(_bytes(labels.numpy()))
        _FINGERPRINTS[key] = digest.hexdigest()
    return _FINGERPRINTS[key]
