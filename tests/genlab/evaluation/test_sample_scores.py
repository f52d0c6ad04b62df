from types import SimpleNamespace

import torch

from genlab.evaluation.sample_scores import draw_samples


def test_processes_draw_their_share_of_the_samples():
    model = SimpleNamespace(sample=lambda n, label: torch.zeros(n))
    sizes = [[len(x) for x, _ in draw_samples(model, 25, 5, rank, 2)] for rank in range(2)]
    assert sizes == [[5, 5, 3], [5, 5, 2]]
    model.num_classes = 4
    asked = [[(len(x), k) for x, k in draw_samples(model, 10, 2, rank, 2)] for rank in range(2)]
    assert asked == [[(2, 0), (1, 0), (2, 2)], [(2, 1), (1, 1), (2, 3)]]
