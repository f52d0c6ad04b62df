"""Gram matrices of feature maps, which describe a texture: which features occur together, but not where."""

import torch
from torch import Tensor


def gram_matrix(maps: Tensor) -> Tensor:
    """Returns G_ij = sum_k F_ik F_jk / (C H W), k over the positions of a map: N x C x H x W -> N x C x C.

    Gatys et al. 2015, arXiv 1505.07376, eq. 1; divided as in Johnson et al. 2016, arXiv 1603.08155, eq. 4, so that maps
    of different sizes are comparable. The result has at least single precision, also under autocast: the mean map
    dominates a Gram matrix, and half precision would lose the rest.
    """
    with torch.autocast(maps.device.type, enabled=False):
        flat = maps.to(torch.promote_types(maps.dtype, torch.float32)).flatten(2)  # (N, C, H W)
        return flat @ flat.transpose(1, 2) / flat[0].numel()
