"""Lower bounds of the mutual information between a part c of a generator's code and the image, in nats.

I(c; x) >= E[log Q(c|x)] + H(c) for any distribution Q (Barber and Agakov 2003; Chen et al. 2016, arXiv 1606.03657,
eq. 4). The bound is I(c; x) itself where Q is the posterior of c.
"""

import math

from torch import Tensor


def categorical_information(logits: Tensor, one_hot: Tensor) -> Tensor:
    """Bound for V independent variables, each uniform on K categories, whose entropy H is V log K.

    Args:
        logits: Logits of Q's probabilities, N x V x K.
        one_hot: The drawn categories, N x V x K.

    Returns:
        A scalar, at most V log K, float32.
    """
    variables, categories = one_hot.shape[1:]
    log_q = (one_hot.float() * logits.float().log_softmax(dim=2)).sum(dim=(1, 2))  # (N,)
    return variables * math.log(categories) + log_q.mean()


def uniform_information(means: Tensor, log_stds: Tensor, values: Tensor) -> Tensor:
    """Bound for m independent numbers, each uniform on [-1, 1], whose entropy H is m log 2; Q is a normal distribution.

    Args:
        means: Means of Q, N x m.
        log_stds: Logarithms of Q's standard deviations, N x m.
        values: The drawn numbers, N x m.

    Returns:
        A scalar, float32. It has no maximum, as numbers that are known exactly carry infinite information.
    """
    means, log_stds, values = means.float(), log_stds.float(), values.float()
    squares = ((values - means) / log_stds.exp()).square()
    log_q = (-0.5 * squares - log_stds - 0.5 * math.log(2 * math.pi)).sum(dim=1)  # (N,)
    return values.shape[1] * math.log(2) + log_q.mean()
