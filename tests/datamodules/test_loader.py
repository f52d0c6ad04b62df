import pytest
import torch

from datamodules import BatchLoader
from datamodules.loader import Batch
from datamodules.transforms import RandomShift


def loader(n: int = 23, **options: object) -> BatchLoader:
    images = torch.arange(n, dtype=torch.uint8).view(n, 1, 1, 1).expand(n, 1, 2, 2).contiguous()
    return BatchLoader(images, torch.arange(n), **{"batch_size": 4, **options})  # type: ignore[arg-type]


def seen(of: BatchLoader) -> list[int]:
    return [int(label) for _, labels in of for label in labels]


def test_batches_are_float_in_unit_range_and_match_their_labels():
    for images, labels in loader(shuffle=True):
        assert images.dtype == torch.float32 and images.shape == (len(labels), 1, 2, 2)
        assert torch.equal((images[:, 0, 0, 0] * 255).round().long(), labels)


def test_unshuffled_keeps_the_order_and_every_image():
    assert seen(loader()) == list(range(23)) and len(loader()) == 6


def test_an_epoch_is_a_permutation_that_follows_from_seed_and_epoch():
    a, b = loader(shuffle=True, seed=3), loader(shuffle=True, seed=3)
    first = seen(a)
    assert sorted(first) == list(range(23)) and first == seen(b)
    a.set_epoch(1)
    assert seen(a) != first
    a.set_epoch(0)
    assert seen(a) == first
    assert seen(loader(shuffle=True, seed=4)) != first


def test_drop_last_leaves_the_incomplete_batch_out_unless_it_is_the_only_one():
    assert len(seen(loader(shuffle=True, drop_last=True))) == 20
    assert len(seen(loader(3, shuffle=True, drop_last=True))) == 3


@pytest.mark.parametrize(
    ("n", "world_size", "sizes"),
    [(9, 1, [4, 5]), (10, 1, [4, 4, 2]), (19, 2, [8, 11]), (20, 2, [8, 8, 4]), (17, 2, [8, 9]), (1, 1, [1])],
)
def test_no_batch_of_training_has_one_image(n: int, world_size: int, sizes: list[int]):
    ranks = [loader(n, shuffle=True, rank=rank, world_size=world_size) for rank in range(world_size)]
    batches = [[len(labels) for _, labels in rank] for rank in ranks]
    assert [sum(parts) for parts in zip(*batches, strict=True)] == sizes and len(ranks[0]) == len(sizes)
    assert n == 1 or min(map(min, batches)) > 1
    assert max(map(max, batches)) <= ranks[0].max_batch_size
    assert sorted(sum(map(seen, ranks), [])) == list(range(n))
    evaluation = [loader(n, rank=rank, world_size=world_size) for rank in range(world_size)]
    assert min(len(labels) for rank in evaluation for _, labels in rank) > 0
    assert sorted(sum(map(seen, evaluation), [])) == list(range(n))


def test_index_selects_a_split_without_copying_the_images():
    part = loader(index=torch.tensor([2, 3, 11]))
    assert seen(part) == [2, 3, 11]


def test_precomputed_codes_keep_their_labels():
    part = loader(index=torch.tensor([2, 3, 11, 22, 7]), shuffle=True, batch_size=2)
    shapes = []

    def encode(images: torch.Tensor) -> torch.Tensor:
        shapes.append(len(images))
        return images.flatten(1)[:, :3] * 255 + 0.25

    part.precompute_codes(encode)
    for codes, labels in part:
        assert torch.allclose(codes, labels[:, None] + torch.tensor([0.25] * 3))
    assert shapes == [2, 2, 1]


def transformed(images: torch.Tensor, labels: torch.Tensor, index: torch.Tensor, epoch: int) -> Batch:
    """Adds ten times the image's index and a hundred times the epoch."""
    return images * 255 + 10 * index.view(-1, 1, 1, 1) + 100 * epoch, torch.stack([labels, index], 1)


def test_batch_transform_gets_index_and_epoch():
    part = loader(index=torch.tensor([2, 3, 11, 5, 8]), shuffle=True, batch_transform=transformed)
    for epoch in (0, 3):
        part.set_epoch(epoch)
        for images, labels in part:
            assert torch.equal(labels[:, 0], labels[:, 1])
            assert torch.allclose(images[:, 0, 0, 0], 11.0 * labels[:, 0] + 100 * epoch)


def test_batch_transform_gets_epoch_0_without_shuffling():
    part = loader(batch_transform=transformed)
    part.set_epoch(4)
    assert all(torch.allclose(images[:, 0, 0, 0], 11.0 * labels[:, 0]) for images, labels in part)


def test_augmentation_comes_after_batch_transform():
    part = loader(batch_transform=transformed, augmentation=lambda x, g: -x)
    assert all(torch.allclose(images[:, 0, 0, 0], -11.0 * labels[:, 0]) for images, labels in part)


@pytest.mark.parametrize(
    ("options", "deterministic"),
    [
        ({}, True),
        ({"shuffle": True}, True),
        ({"batch_transform": transformed}, True),
        ({"batch_transform": transformed, "shuffle": True}, False),
        ({"augmentation": RandomShift(1)}, False),
    ],
)
def test_codes_are_precomputed_only_for_deterministic_images(options: dict, deterministic: bool):
    part = loader(**options)
    assert part.is_deterministic == deterministic
    if not deterministic:
        with pytest.raises(ValueError, match="cannot be precomputed"):
            part.precompute_codes(lambda images: images)


def test_precomputed_codes_are_those_of_transformed_images_and_labels():
    part = loader(index=torch.tensor([2, 3, 11, 22, 7]), batch_size=2, batch_transform=transformed)
    part.precompute_codes(lambda images: images.flatten(1)[:, :2])
    for _ in range(2):
        for codes, labels in part:
            assert labels.shape[1] == 2 and torch.equal(labels[:, 0], labels[:, 1])
            assert torch.allclose(codes, 11.0 * labels[:, :1].expand(-1, 2))


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("world_size", [2, 3])
@pytest.mark.parametrize("n", [23, 24, 12, 5])
def test_ranks_share_each_slice_disjointly_and_in_order(n: int, world_size: int, shuffle: bool):
    whole = loader(n, shuffle=shuffle, batch_size=4 * world_size)
    ranks = [loader(n, shuffle=shuffle, rank=r, world_size=world_size) for r in range(world_size)]
    assert len({len(rank) for rank in ranks}) == 1
    for parts in zip(whole, *ranks, strict=False):
        joined = torch.cat([labels for _, labels in parts[1:]])
        assert torch.equal(joined, parts[0][1])
    if not shuffle:
        assert sorted(sum((seen(rank) for rank in ranks), [])) == list(range(n))


def test_a_resumed_loader_goes_on_where_it_stopped():
    whole = loader(shuffle=True)
    whole.set_epoch(2)
    expected = seen(whole)
    stopped = loader(shuffle=True)
    stopped.set_epoch(2)
    batches = iter(stopped)
    head = [int(label) for _ in range(3) for label in next(batches)[1]]
    resumed = loader(shuffle=True)
    resumed.load_state_dict(stopped.state_dict())
    resumed.set_epoch(2)
    assert head + seen(resumed) == expected
    assert seen(resumed) == expected  # only the first pass is cut short


def test_a_state_of_another_epoch_or_of_a_finished_pass_starts_afresh():
    done = loader(shuffle=True)
    expected = seen(done)
    resumed = loader(shuffle=True)
    resumed.load_state_dict(done.state_dict())
    assert seen(resumed) == expected
    resumed.load_state_dict({"epoch": 7, "position": 2})
    resumed.set_epoch(0)
    assert seen(resumed) == expected


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="batch_size is 0"):
        loader(batch_size=0)
    with pytest.raises(ValueError, match=r"fewer images \(1\) than processes \(2\)"):
        loader(1, world_size=2)


def test_random_shift_moves_each_image_by_its_own_whole_pixels():
    images = torch.zeros(64, 2, 9, 9)
    images[:, :, 4, 4] = 1
    moved = RandomShift(2)(images, torch.Generator().manual_seed(0))
    places = moved.nonzero()
    assert len(places) == 128 and (moved[:, 0] == moved[:, 1]).all()
    offsets = places[places[:, 1] == 0][:, 2:] - 4
    assert offsets.abs().max() == 2 and len(offsets.unique(dim=0)) > 15  # of 25; fewer has a chance below 1e-6
    again = RandomShift(2)(images, torch.Generator().manual_seed(0))
    assert torch.equal(moved, again)


def test_augmentation_depends_on_epoch_and_batch():
    a = loader(shuffle=True, augmentation=lambda x, g: x + torch.rand(x.shape, generator=g))
    first = [images for images, _ in a]
    assert all(torch.equal(x, y) for x, (y, _) in zip(first, a, strict=True))
    a.set_epoch(1)
    assert not torch.equal(next(iter(a))[0] % 1, first[0] % 1)
