import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torchmetrics import Metric


class CategoryAccuracy(Metric):
    """Share of images whose category, found without labels, is the one matched to their class; higher is better.

    Categories and classes are matched one to one so that the share is largest (Xie et al. 2015, arXiv 1511.06335, eq.
    10), by scipy. With more categories than classes, the images of some categories count as errors. Of C balanced
    classes, categories that tell nothing reach about 1 / C.

    Args:
        num_categories: Number of categories.
        num_classes: Number of classes.

    Examples:
        >>> metric = CategoryAccuracy(3, 3)
        >>> metric.update(torch.tensor([2, 2, 0, 1]), torch.tensor([0, 0, 1, 1]))
        >>> metric.compute()
        tensor(0.7500)
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = True

    counts: Tensor

    def __init__(self, num_categories: int, num_classes: int) -> None:
        super().__init__()
        zeros = torch.zeros(num_categories, num_classes, dtype=torch.long)
        self.add_state("counts", zeros, dist_reduce_fx="sum")

    def update(self, categories: Tensor, classes: Tensor) -> None:
        """Adds the category and the class of each image, int64, N each."""
        pairs = categories * self.counts.shape[1] + classes
        self.counts += pairs.bincount(minlength=self.counts.numel()).view_as(self.counts)

    def compute(self) -> Tensor:
        rows, columns = linear_sum_assignment(self.counts.cpu().numpy(), maximize=True)
        return self.counts[rows, columns].sum() / self.counts.sum()
