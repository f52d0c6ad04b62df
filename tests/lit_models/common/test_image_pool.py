"""The pool of earlier generated images."""

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from lit_models.common.image_pool import ImagePool


def images(*numbers: int) -> Tensor:
    """Images of constant value, one for each number."""
    return torch.tensor(numbers, dtype=torch.float32)[:, None, None, None].expand(-1, 3, 2, 2).clone()


def numbers(some: Tensor | None) -> list[int]:
    """The numbers that the images stand for."""
    if some is None:
        return []
    assert torch.equal(some, some[:, :1, :1, :1].expand_as(some))
    return [int(x) for x in some[:, 0, 0, 0]]


def test_a_pool_that_is_not_full_stores_images_and_returns_them():
    pool = ImagePool(5)
    for batch in ((0, 1), (2, 3)):
        assert numbers(pool(images(*batch))) == [*batch]
    assert numbers(pool.images) == [0, 1, 2, 3]
    out = numbers(pool(images(4, 5, 6)))  # the first one fills the pool, the others may be exchanged
    assert out[0] == 4 and len(numbers(pool.images)) == 5
    assert sorted(numbers(pool.images) + out[1:]) == [0, 1, 2, 3, 4, 5, 6]


def test_stored_images_are_no_views_of_a_batch():
    pool, batch = ImagePool(3), images(1, 2)
    returned = pool(batch)
    batch.zero_()
    returned.zero_()
    assert numbers(pool.images) == [1, 2]
    pool(images(3))
    returned = pool(images(4, 5, 6))
    before = numbers(pool.images)
    returned.zero_()
    assert numbers(pool.images) == before


@pytest.mark.parametrize(("size", "batch"), [(50, 8), (4, 4), (6, 16), (1, 1), (3, 7)])
def test_every_image_is_returned_or_stored_exactly_once(size: int, batch: int):
    """A full pool returns each new image, or stores it and returns an earlier one."""
    torch.manual_seed(0)
    pool = ImagePool(size)
    pool(images(*range(-size, 0)))
    out: list[int] = []
    for start in range(0, 20 * batch, batch):
        given = [*range(start, start + batch)]
        out += numbers(pool(images(*given)))
        assert len(out) == start + batch and len(numbers(pool.images)) == size
        assert sorted(out + numbers(pool.images)) == [*range(-size, start + batch)]


def test_each_image_is_exchanged_with_probability_one_half():
    """4,000 images, each exchanged with probability 1/2: the share has a standard deviation of 0.008, and the bound is
    five of those: a false positive in 2 million, if the seed were not fixed. The share at each of the eight positions
    of a batch, of 500 images, has 0.022; that of each batch has 0.177 if its images are exchanged independently."""
    torch.manual_seed(0)
    pool, exchanged = ImagePool(20), []
    pool(images(*range(-20, 0)))
    for start in range(0, 4000, 8):
        given = torch.arange(start, start + 8)
        exchanged.append(pool(images(*given.tolist()))[:, 0, 0, 0] != given)
    shares = torch.stack(exchanged).float()
    assert abs(shares.mean().item() - 0.5) < 5 * 0.008
    assert (shares.mean(dim=0) - 0.5).abs().max() < 5 * 0.0224
    assert shares.mean(dim=1).std().item() == pytest.approx((0.25 / 8) ** 0.5, abs=0.03)  # not whole batches


def test_the_time_in_the_pool_has_a_geometric_distribution():
    """Of 40 places 8 are drawn a batch, each exchanged with probability 1/2: an image stays k more batches with
    probability 0.1 (0.9)^k, 9 on average. Of 8,000 images 4,000 stay, give or take 45, of which 40 are still there at
    the end; the mean of so many stays has a standard deviation of 9.5 / sqrt(4000) = 0.15. The bounds are five of
    those: a false positive in a million, if the seed were not fixed."""
    torch.manual_seed(0)
    pool, came, stays = ImagePool(40), {}, []
    pool(images(*range(-40, 0)))
    for k in range(1000):
        given = [*range(8 * k, 8 * k + 8)]
        out = numbers(pool(images(*given)))
        came |= dict.fromkeys(given, k)
        stays += [k - came[number] - 1 for number in out if 0 <= number < given[0]]
    assert len(stays) == pytest.approx(3960, abs=5 * 45)
    assert sum(stays) / len(stays) == pytest.approx(9.0, abs=0.75)


def test_a_batch_larger_than_the_pool():
    torch.manual_seed(0)
    pool = ImagePool(3)
    assert numbers(pool(images(*range(5))))[:3] == [0, 1, 2] and len(numbers(pool.images)) == 3
    out = numbers(pool(images(*range(10, 20))))
    assert out[3:] == [*range(13, 20)]  # images beyond the pool's size are returned as they are


def test_a_pool_of_size_0_returns_its_input():
    pool, batch = ImagePool(0), images(1, 2)
    assert pool(batch) is batch and pool.images is None


def test_it_draws_from_the_global_generator_and_takes_the_dtype_of_the_batch():
    found = []
    for _ in range(2):
        torch.manual_seed(7)
        pool = ImagePool(4)
        found.append([numbers(pool(images(*range(k, k + 4)))) for k in range(0, 40, 4)])
    assert found[0] == found[1]
    out = pool(images(1, 2, 3, 4).to(torch.bfloat16))
    assert out.dtype == torch.bfloat16 and pool.images is not None and pool.images.dtype == torch.bfloat16


class SyncRecorder(TorchDispatchMode):
    """Records operations that wait for the device: those that return a number, or a shape that depends on values."""

    names = ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal", "unique")

    def __init__(self) -> None:
        super().__init__()
        self.names_seen: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if any(name in str(func) for name in self.names):
            self.names_seen.append(str(func))
        return func(*args, **(kwargs or {}))


def test_it_does_not_synchronise_with_the_device():
    pool = ImagePool(6)
    with SyncRecorder() as recorder:
        for start in range(0, 40, 4):
            pool(images(*range(start, start + 4)))
    assert not recorder.names_seen
    with SyncRecorder() as recorder:
        torch.ones(3)[torch.ones(3) > 0].sum().item()
    assert recorder.names_seen  # the recorder works


def test_a_negative_size_is_an_error():
    with pytest.raises(ValueError, match="pool_size is -1"):
        ImagePool(-1)
