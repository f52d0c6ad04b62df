from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance


class _Ready(nn.Identity):
    """In the place of a network, for features that are computed already."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features


class FrechetDistance(FrechetInceptionDistance):
    """Squared Frechet distance between normal laws fitted to two sets of features, N x F.

    |m_r - m_f|^2 + tr(S_r + S_f - 2 (S_r S_f)^(1/2)) (Dowson and Landau 1982, doi 10.1016/0047-259X(82)90077-X;
    Heusel et al. 2017, arXiv 1706.08500). Sums are kept in float64, on any number of processes. It is infinite where
    a fake feature is not finite, and NaN for a set of less than two. `reset` forgets the fakes and keeps the real ones.

    Args:
        num_features: width F.
    """

    def __init__(self, num_features: int) -> None:
        super().__init__(feature=_Ready(num_features), reset_real_features=False)

    def compute(self) -> Tensor:
        total = self.fake_features_sum
        if not bool(total.isfinite().all()):
            return total.new_full((), float("inf"))
        if min(int(self.real_features_num_samples), int(self.fake_features_num_samples)) < 2:
            return total.new_full((), float("nan"))
        return super().compute()
