import pytest
import torch

from datamodules import DataError
from datamodules.splits import check_amount, hold_out, number_of


@pytest.mark.parametrize("seed", range(20))
def test_each_class_is_held_out_in_its_share_and_keeps_an_image_while_it_can(seed: int):
    generator = torch.Generator().manual_seed(seed)
    classes, total = (int(torch.randint(1, most, (), generator=generator)) for most in (30, 200))
    labels = torch.randint(0, classes, (total,), generator=generator)
    number = int(torch.randint(0, total, (), generator=generator))
    stay, held = hold_out(labels, number, torch.Generator().manual_seed(seed))
    assert len(held) == number and sorted([*stay.tolist(), *held.tolist()]) == list(range(total))
    assert torch.equal(held, hold_out(labels, number, torch.Generator().manual_seed(seed))[1])
    counts, quotas = labels.bincount(minlength=classes), labels[held].bincount(minlength=classes)
    if number <= total - len(labels.unique()):
        assert ((counts - quotas > 0) | (counts == 0)).all()
    if counts.min() > classes:
        assert ((quotas - counts * number / total).abs() <= 1).all()


def test_many_classes_of_one_image_stay_in_training():
    labels = torch.cat([torch.arange(1000), torch.arange(1000, 1010).repeat(100)])
    held = hold_out(labels, 500, torch.Generator())[1]
    assert labels[held].bincount(minlength=1010)[1000:].tolist() == [50] * 10


def test_shares_and_numbers():
    assert [number_of(amount, 50, "o", "x", "it") for amount in (0, 0.001, 0.5, 1, 49)] == [0, 1, 25, 1, 49]
    with pytest.raises(DataError, match="x has 50 images for training and it, of which 50 would be"):
        number_of(50, 50, "o", "x", "it")
    for amount in (-1, 1.5, float("nan"), float("inf"), 0):
        with pytest.raises(ValueError, match="o is .*; give a share below 1 or a whole number of images"):
            check_amount("o", amount)
    check_amount("o", 0, may_be_none=True)
