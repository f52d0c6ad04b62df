"""What a network predicts at a noise level, and the one place that converts it to image and noise.

Every kind of prediction is a sum F = p x_0 + q e of image and noise. With x_t = alpha x_0 + sigma e, these are two
linear equations for x_0 and e.
"""

from typing import Literal

from torch import Tensor

from lit_models.common.noise_process import Denoised, Level

AnyLevel = Level[float] | Level[Tensor]

Prediction = Literal["noise", "image", "velocity", "score", "preconditioned"]
"""What a network predicts:

- noise: e (Ho et al. 2020, arXiv 2006.11239).
- image: x_0.
- velocity: alpha' x_0 + sigma' e, the derivative of x_t (Salimans and Ho 2022, arXiv 2202.00512, appendix D; Lipman et
  al. 2022, arXiv 2210.02747).
- score: -e / sigma, the gradient of log q(x_t | x_0) (Song and Ermon 2019, arXiv 1907.05600).
- preconditioned: (x_0 - c_skip x_t) / c_out, which has unit variance for data of standard deviation `data_std` (Karras
  et al. 2022, arXiv 2206.00364, table 1, for alpha = 1).
"""


def weights(kind: Prediction, level: AnyLevel, data_std: float = 1.0) -> tuple[float | Tensor, float | Tensor]:
    """The weights p and q of a prediction F = p x_0 + q e at a noise level."""
    if kind == "noise":
        return 0.0, 1.0
    if kind == "image":
        return 1.0, 0.0
    if kind == "velocity":
        return level.alpha_rate, level.sigma_rate
    if kind == "score":
        return 0.0, -1 / level.sigma
    scale = data_std * ((data_std * level.alpha) ** 2 + level.sigma**2) ** 0.5
    return level.sigma / scale, -level.alpha * data_std**2 / scale


def target(kind: Prediction, clean: Tensor, noise: Tensor, level: AnyLevel, data_std: float = 1.0) -> Tensor:
    """What a perfect network predicts of x_t, from x_0 and the noise in it: N x C x H x W."""
    p, q = weights(kind, level, data_std)
    return p * clean + q * noise


def denoised(kind: Prediction, prediction: Tensor, noisy: Tensor, level: AnyLevel, data_std: float = 1.0) -> Denoised:
    """Image and noise in x_t from a network's prediction, N x C x H x W: the inverse of `target`."""
    p, q = weights(kind, level, data_std)
    determinant = level.alpha * q - level.sigma * p
    clean = (q * noisy - level.sigma * prediction) / determinant
    noise = (level.alpha * prediction - p * noisy) / determinant
    return Denoised(clean, noise)
