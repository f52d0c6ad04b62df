"""Counter-based random numbers: a hash of (seed, epoch, image, column), independent of order, batch and process."""

import math

import torch
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15
_MIX = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)


def uniform(seed: int, epoch: int, index: Tensor, count: int) -> Tensor:
    """Returns `count` uniform random numbers for each image, on the device of `index`.

    They are a hash of (seed, epoch, index, column), by the counter-based scheme of Salmon et al. 2011 (doi
    10.1145/2063384.2063405): SplitMix64's finaliser (Steele, Lea and Flood 2014, doi 10.1145/2660193.2660195) gives a
    key of 64 bits for each image; MurmurHash3's finaliser over 32 bits combines both halves of the key with the column.

    Args:
        seed: Any integer.
        epoch: Any integer.
        index: int64, N, indices of the images.
        count: Number of columns.

    Returns:
        float32 in [0, 1), multiples of 2^-24, N x count.
    """
    key = _mix(index + _signed(_mix_number(_mix_number(seed) + epoch), 64))  # (N,)
    low, high = ((key >> shift).to(torch.int32)[:, None] for shift in (0, 32))
    columns = _mix(torch.arange(count, device=index.device)).to(torch.int32)
    x = columns + low
    x.bitwise_xor_((x >> 16).bitwise_and_(0xFFFF)).mul_(_signed(0x85EBCA6B, 32)).add_(high)
    x.bitwise_xor_((x >> 13).bitwise_and_(0x7FFFF)).mul_(_signed(0xC2B2AE35, 32))
    x.bitwise_xor_(x >> 16)  # the lower 24 bits stay uniform although the shift copies the sign
    return x.bitwise_and_(0xFFFFFF).float().mul_(2.0**-24)


def integers(seed: int, epoch: int, index: Tensor, high: int) -> Tensor:
    """Returns one uniform integer in 0..high-1 for each image: int64, N. `high` should be at most about 2^16."""
    return (uniform(seed, epoch, index, 1)[:, 0] * high).long().clamp_(max=high - 1)


def normal(seed: int, epoch: int, index: Tensor, count: int) -> Tensor:
    """Returns `count` random numbers of N(0, 1) for each image: the inverse distribution function of `uniform`.

    Each uniform number is taken as the middle of its cell of width 2^-24, so that none is 0 or 1. The distribution is
    symmetric and truncated at 5.3 standard deviations; its distribution function has an error of at most 2^-25.

    Args:
        seed: Any integer.
        epoch: Any integer.
        index: int64, N, indices of the images.
        count: Number of columns.

    Returns:
        float32, N x count, identical on devices of one kind.
    """
    middle = 2 * uniform(seed, epoch, index, count) - (1 - 2.0**-24)  # exact in float32, in (-1, 1)
    return middle.erfinv_().mul_(math.sqrt(2))


def _mix(x: Tensor) -> Tensor:
    """SplitMix64's step and finaliser on int64, with products modulo 2^64."""
    x = x * _signed(_GOLDEN, 64) + _signed(_GOLDEN, 64)
    x = (x ^ _shifted(x, 30)) * _signed(_MIX[0], 64)
    x = (x ^ _shifted(x, 27)) * _signed(_MIX[1], 64)
    return x ^ _shifted(x, 31)


def _shifted(x: Tensor, bits: int) -> Tensor:
    """Right shift that fills with zeros; torch's own shift copies the sign."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _mix_number(x: int) -> int:
    """`_mix` of a Python integer, in 0..2^64-1."""
    x = (x * _GOLDEN + _GOLDEN) % 2**64
    x = (x ^ x >> 30) * _MIX[0] % 2**64
    x = (x ^ x >> 27) * _MIX[1] % 2**64
    return x ^ x >> 31


def _signed(x: int, bits: int) -> int:
    """Returns the signed integer whose two's complement has the bits of x."""
    return x - 2**bits if x >= 2 ** (bits - 1) else x
