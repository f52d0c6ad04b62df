"""Random numbers that follow from where they are used alone, so that no order, batch or process can change them."""

import math

import torch
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15
_MIX = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)


def uniform(seed: int, epoch: int, index: Tensor, count: int) -> Tensor:
    """`count` uniform numbers for each image: a hash of (seed, epoch, index, column), on the device of `index`.

    The counter-based scheme of Salmon et al. 2011 (doi 10.1145/2063384.2063405): a key of 64 bits for each image by
    SplitMix64's finaliser (Steele, Lea and Flood 2014, doi 10.1145/2660193.2660195), then for each column the one of
    MurmurHash3 over 32 bits, into which both halves of the key go.

    Args:
        seed, epoch: any whole numbers.
        index: int64, N, the images' numbers.
        count: columns.

    Returns:
        float32 in [0, 1), multiples of 2^-24, N x count.
    """
    key = _mix(index + _signed(_mix_number(_mix_number(seed) + epoch), 64))  # (N,)
    low, high = ((key >> shift).to(torch.int32)[:, None] for shift in (0, 32))
    columns = _mix(torch.arange(count, device=index.device)).to(torch.int32)
    x = columns + low
    x.bitwise_xor_((x >> 16).bitwise_and_(0xFFFF)).mul_(_signed(0x85EBCA6B, 32)).add_(high)
    x.bitwise_xor_((x >> 13).bitwise_and_(0x7FFFF)).mul_(_signed(0xC2B2AE35, 32))
    x.bitwise_xor_(x >> 16)  # the copied sign leaves the lower 24 bits uniform
    return x.bitwise_and_(0xFFFFFF).float().mul_(2.0**-24)


def whole_numbers(seed: int, epoch: int, index: Tensor, below: int) -> Tensor:
    """One whole number in 0..below-1 for each image, from `uniform`: int64, N. `below` is at most 2^16 or so."""
    return (uniform(seed, epoch, index, 1)[:, 0] * below).long().clamp_(max=below - 1)


def normal(seed: int, epoch: int, index: Tensor, count: int) -> Tensor:
    """`count` numbers of N(0, 1) for each image, by the inverse of its distribution function at `uniform`.

    Each uniform number stands for the middle of its cell of width 2^-24, so that none is 0 or 1: the law is symmetric,
    cut at 5.3 standard deviations, and its distribution function is off by 2^-25 at most.

    Args:
        seed, epoch, index, count: as in `uniform`.

    Returns:
        float32, N x count; equal to the last bit on devices of one kind.
    """
    middle = 2 * uniform(seed, epoch, index, count) - (1 - 2.0**-24)  # exact in float32, in (-1, 1)
    return middle.erfinv_().mul_(math.sqrt(2))


def _mix(x: Tensor) -> Tensor:
    """SplitMix64's step and finaliser of int64, whose products wrap around."""
    x = x * _signed(_GOLDEN, 64) + _signed(_GOLDEN, 64)
    x = (x ^ _shifted(x, 30)) * _signed(_MIX[0], 64)
    x = (x ^ _shifted(x, 27)) * _signed(_MIX[1], 64)
    return x ^ _shifted(x, 31)


def _shifted(x: Tensor, bits: int) -> Tensor:
    """To the right, filled with zeros: torch's own shift copies the sign."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _mix_number(x: int) -> int:
    """`_mix` of a Python number, in 0..2^64-1."""
    x = (x * _GOLDEN + _GOLDEN) % 2**64
    x = (x ^ x >> 30) * _MIX[0] % 2**64
    x = (x ^ x >> 27) * _MIX[1] % 2**64
    return x ^ x >> 31


def _signed(x: int, bits: int) -> int:
    """The number of two's complement that has the bits of x."""
    return x - 2**bits if x >= 2 ** (bits - 1) else x
