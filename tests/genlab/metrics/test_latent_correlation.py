import os

import numpy as np
import pytest
import torch
import torch.distributed as dist

from genlab.metrics import LatentCorrelation
from tests.preloaded import two_processes


def codes(n: int = 1000, d: int = 6, offset: float = 0.0) -> torch.Tensor:
    random = torch.Generator().manual_seed(0)
    mix = torch.randn(d, d, generator=random)
    return torch.randn(n, d, generator=random, dtype=torch.float64) @ mix.double() + offset


def reference(x: torch.Tensor) -> tuple[float, float]:
    matrix = np.abs(np.corrcoef(x.numpy().T))
    d = len(matrix)
    return matrix[~np.eye(d, dtype=bool)].mean(), matrix.mean()


@pytest.mark.parametrize("offset", [0.0, 1e4, -1e6])
def test_equals_numpy_over_uneven_batches(offset: float):
    x = codes(offset=offset)
    metric = LatentCorrelation(6)
    for batch in x.split(77):
        metric.update(batch)
    result = metric.compute()
    off, full = reference(x)
    assert float(result.abs_correlation) == pytest.approx(off, abs=1e-9)
    assert float(result.abs_correlation_full) == pytest.approx(full, abs=1e-9)
    assert np.allclose(result.matrix.numpy(), np.corrcoef(x.numpy().T), atol=1e-9)


def test_independent_dimensions_leave_only_the_diagonal():
    x = torch.randn(200_000, 5, generator=torch.Generator().manual_seed(0))
    metric = LatentCorrelation(5)
    metric.update(x)
    result = metric.compute()
    assert float(result.abs_correlation) < 0.01  # each entry has standard deviation 0.0022
    assert float(result.abs_correlation_full) == pytest.approx(1 / 5, abs=0.01)


def test_a_constant_dimension_counts_as_uncorrelated():
    x = codes(d=3)
    x[:, 1] = 4.2
    metric = LatentCorrelation(3)
    metric.update(x)
    matrix = metric.compute().matrix
    assert matrix[1].tolist() == [0, 1, 0] and torch.isfinite(matrix).all()


def test_one_dimension_and_too_few_codes():
    metric = LatentCorrelation(1)
    metric.update(torch.zeros(0, 1))
    with pytest.raises(ValueError, match="at least two codes"):
        metric.compute()
    metric.update(torch.tensor([[1.0], [2.0]]))
    assert float(metric.compute().abs_correlation) == 0
    with pytest.raises(ValueError, match="give N x 1"):
        metric.update(torch.zeros(3, 2))


def test_reset_and_forward():
    metric = LatentCorrelation(6)
    metric(codes())
    metric.reset()
    metric(codes()[:500])
    metric(codes()[500:])
    assert float(metric.compute().abs_correlation) == pytest.approx(reference(codes())[0], abs=1e-9)


def _rank(rank: int, folder: str) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    x = codes(offset=1e4)
    metric = LatentCorrelation(6)
    metric.update(x[:700] if rank == 0 else x[700:])
    result = metric.compute()
    np.testing.assert_allclose(float(result.abs_correlation), reference(x)[0], atol=1e-9)
    np.testing.assert_allclose(float(result.abs_correlation_full), reference(x)[1], atol=1e-9)
    dist.destroy_process_group()


def test_equals_numpy_over_two_ranks_of_uneven_size(tmp_path):
    two_processes(_rank, str(tmp_path))
