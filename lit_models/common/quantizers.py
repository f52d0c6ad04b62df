"""Quantizers: components that build the codebook of a model whose codes are maps of tokens."""

import math
from abc import ABC, abstractmethod
from typing import ClassVar

from lit_models.common.component import Component
from lit_models.networks.quantizers import Codebook, EMACodebook, ScalarCodebook

MAX_CODES = 2**20


class Quantizer(Component, ABC):
    """Builds a codebook."""

    beta: float = 0.0
    """Weight of the commitment of the encoder to the codes; 0 for none."""
    needs_single_precision: ClassVar[bool] = False
    """Whether a buffer is learned in steps that half precision rounds away."""

    @property
    @abstractmethod
    def num_channels(self) -> int:
        """Number c of channels of the maps that the codebook quantises."""

    @abstractmethod
    def build(self) -> Codebook:
        """The codebook, before it has learned anything."""


class VectorQuantizer(Quantizer):
    """Codebook of learned vectors, each the EMA of the encoder's outputs that are nearest to it.

    Van den Oord et al. 2017, arXiv 1711.00937, appendix A.1. The first training batch sets the codes, and codes that
    are not used any more are replaced by outputs of the encoder (Dhariwal et al. 2020, arXiv 2005.00341, section 3.1).

    Args:
        codebook_size: Number K of codes.
        channels: Width c of a code.
        beta: Weight of the commitment ||z - e||^2, which keeps the encoder's output z near its code e.
        decay: Decay of the EMAs.
        renewal: A code is replaced when its use falls to this share of the mean use of all codes; 0 replaces only codes
            that were never used.

    Raises:
        ValueError: a number is out of range.

    Examples:
        >>> import torch
        >>> VectorQuantizer(8, 3).build().tokens(torch.rand(2, 3, 4, 4)).shape
        torch.Size([2, 4, 4])
    """

    needs_single_precision = True

    def __init__(
        self,
        codebook_size: int = 512,
        channels: int = 16,
        beta: float = 0.25,
        decay: float = 0.99,
        renewal: float = 0.01,
    ) -> None:
        if not 2 <= codebook_size <= MAX_CODES or channels < 1:
            raise ValueError(
                f"codebook_size is {codebook_size} and channels {channels}; they must be 2 to {MAX_CODES} and at least"
                " 1"
            )
        if not (beta >= 0 and 0 <= decay < 1 and 0 <= renewal < 1):
            raise ValueError(
                f"beta is {beta}, decay {decay} and renewal {renewal}; beta may not be negative, and the others must be"
                " in [0, 1)"
            )
        self.codebook_size = codebook_size
        self.channels = channels
        self.beta = beta
        self.decay = decay
        self.renewal = renewal

    @property
    def num_channels(self) -> int:
        return self.channels

    def build(self) -> Codebook:
        return EMACodebook(self.codebook_size, self.channels, self.decay, self.renewal)


class FiniteScalarQuantizer(Quantizer):
    """Finite scalar quantization (FSQ): each channel of a map is rounded to one of a few levels.

    Mentzer et al. 2023, arXiv 2309.15505. The codes are all combinations of levels. They are not learned, so that there
    is no further loss and no code that is never found. The paper recommends at least 5 levels, and (8, 6, 5) for about
    2^8 codes, (8, 5, 5, 5) for 2^10, (7, 5, 5, 5, 5) for 2^12 and (8, 8, 8, 6, 5) for 2^14.

    Args:
        levels: Number of levels of each channel.

    Raises:
        ValueError: there is no channel, one with fewer than two levels, or there are too many combinations.

    Examples:
        >>> FiniteScalarQuantizer((8, 5, 5, 5)).build().size
        1000
    """

    def __init__(self, levels: tuple[int, ...] = (8, 5, 5, 5)) -> None:
        if not levels or min(levels) < 2 or math.prod(levels) > MAX_CODES:
            raise ValueError(
                f"levels is {list(levels)}; there must be at least one number, each at least 2, and their product at"
                f" most {MAX_CODES}"
            )
        self.levels = levels

    @property
    def num_channels(self) -> int:
        return len(self.levels)

    def build(self) -> Codebook:
        return ScalarCodebook(self.levels)
