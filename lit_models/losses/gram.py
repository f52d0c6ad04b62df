"""Gram matrices of a network's maps, which tell a texture: what goes together, and not where."""

import torch
from torch import Tensor


def gram_matrix(maps: Tensor) -> Tensor:
    """G_ij = sum_k F_ik F_jk / (C H W), k over the places of a map: N x C x H x W -> N x C x C.

    Gatys et al. 2015, arXiv 1505.07376, eq. 1; divided as in Johnson et al. 2016, arXiv 1603.08155, eq. 4, so that maps
    of different sizes compare. In single precision at least, also under autocast: a Gram matrix is mostly that of the
    mean map, beside which half precision loses the rest.
    """
    with torch.autocast(maps.device.type, enabled=False):
        flat = maps.to(torch.promote_types(maps.dtype, torch.float32)).flatten(2)  # (N, C, H W)
        return flat @ flat.transpose(1, 2) / flat[0].numel()
