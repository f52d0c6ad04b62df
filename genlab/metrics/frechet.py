from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance


class _Precomputed(nn.Identity):
    """Takes the place of the feature extractor if features are computed elsewhere."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features


class FrechetDistance(FrechetInceptionDistance):
    """Squared Frechet distance between Gaussians fitted to two sets of features, N x F; at least 0, lower is better.

    |m_r - m_f|^2 + tr(S_r + S_f - 2 (S_r S_f)^(1/2)), as FID is by Inception's features. Sources: Dowson and Landau
    1982, doi 10.1016/0047-259X(82)90077-X; Heusel et al. 2017, arXiv 1706.08500. Sums are kept in float64, on any
    number of processes. The distance is infinite if a generated feature is not finite, and NaN if a set has fewer than
    two features. `reset` keeps the real features.

    Args:
        num_features: Width F of the features.

    Examples:
        >>> import torch
        >>> metric = FrechetDistance(2)
        >>> square = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
        >>> metric.update(square, real=True)
        >>> metric.update(square + 1, real=False)  # the means differ by (1, 1)
        >>> round(float(metric.compute()), 4)
        2.0
    """

    def __init__(self, num_features: int) -> None:
        super().__init__(feature=_Precomputed(num_features), reset_real_features=False)

    def compute(self) -> Tensor:
        total = self.fake_features_sum
        if not bool(total.isfinite().all()):
            return total.new_full((), float("inf"))
        if min(int(self.real_features_num_samples), int(self.fake_features_num_samples)) < 2:
            return total.new_full((), float("nan"))
        return super().compute().clamp(min=0)  # rounding makes it less
