"""Penalties on the codes of images: their L1 norm, and their sensitivity to the image."""

from collections.abc import Callable

import torch
from torch import Tensor


def l1_norm(codes: Tensor) -> Tensor:
    """Returns sum_j |h_j| of codes: N x d -> N, float32."""
    return codes.float().abs().sum(dim=1)


def sigmoid_layer_contraction(codes: Tensor, weight: Tensor) -> Tensor:
    """Returns ||dh/dx||_F^2 of a layer h = sigmoid(W x + c) in closed form (Rifai et al. 2011, ICML, eq. 4).

    sum_j (h_j (1 - h_j))^2 sum_i W_ji^2.

    Args:
        codes: h, N x d.
        weight: W, d x D.

    Returns:
        N, float32.
    """
    codes, weight = codes.float(), weight.float()
    return (codes * (1 - codes)).square() @ weight.square().sum(dim=1)


def estimated_contraction(encoder: Callable[[Tensor], Tensor], images: Tensor, probes: int = 1) -> Tensor:
    """Returns an unbiased estimate of ||dh/dx||_F^2 for any encoder that treats each image independently.

    E_v ||J^T v||^2 = tr(J J^T) for v of independent random signs (Hutchinson 1990, doi 10.1080/03610919008812866), with
    one vector-Jacobian product per probe. The variance is 2 sum_{i != j} (J J^T)_ij^2 / probes; it is 0 if the
    gradients of the code's dimensions are orthogonal. The result is differentiable if gradients are enabled, and is
    computed also if they are disabled. Random numbers come from torch's global generator.

    Args:
        encoder: Function from images, N x C x H x W, to codes, N x d.
        images: N x C x H x W.
        probes: Number of random vectors to average over, at least 1.

    Returns:
        N, float32.
    """
    training = torch.is_grad_enabled()
    with torch.inference_mode(False), torch.enable_grad():
        images = images.detach().clone().requires_grad_()
        codes = encoder(images)
        total = codes.new_zeros(len(images), dtype=torch.float32)
        for probe in range(probes):
            signs = 2 * torch.randint_like(codes, 2) - 1
            last = probe == probes - 1
            [product] = torch.autograd.grad(codes, images, signs, create_graph=training, retain_graph=not last or None)
            total = total + product.float().square().flatten(1).sum(dim=1)
    return total / probes
