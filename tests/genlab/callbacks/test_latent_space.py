import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from genlab.callbacks import CategoryCombinations, LatentPlane, LatentTraversals
from genlab.callbacks.category_combinations import block_mosaic
from genlab.latent_paths import traverse_categories, traverse_dimensions
from genlab.latent_planes import normal_quantiles, plane_grid, principal_plane
from genlab.latents import enumerate_codes, random_codes
from genlab.media import image_grid
from genlab.metrics.color import foreground_hue
from lit_models.common.capabilities import LatentBlock
from tests.genlab.callbacks.toys import Painter, contains, picture, trainer

MIXED = [
    LatentBlock("continuous", 0, 2),
    LatentBlock("categorical", 2, 2 + 2 * 3, 3),
    LatentBlock("categorical", 8, 12, 4),
]


def reference_codes() -> np.ndarray:
    """All codes of MIXED, in the order of nested loops."""
    rows = []
    for a, b, c in itertools.product(range(3), range(3), range(4)):
        rows.append(np.concatenate([np.zeros(2), np.eye(3)[a], np.eye(3)[b], np.eye(4)[c]]))
    return np.stack(rows)


@pytest.mark.parametrize("batch_size", [1, 7, 36, 1000])
def test_enumeration_is_that_of_nested_loops(batch_size: int):
    batches = list(enumerate_codes(MIXED, batch_size))
    assert max(len(batch) for batch in batches) == min(batch_size, 36)
    np.testing.assert_array_equal(torch.cat(batches).numpy(), reference_codes())


def test_enumeration_holds_one_batch_of_any_number_of_combinations():
    batch = next(enumerate_codes([LatentBlock("categorical", 0, 240, 20)], 10))  # 20^12 combinations
    assert batch.shape == (10, 240) and batch[:, -20:].argmax(dim=1).tolist() == list(range(10))


@pytest.mark.parametrize("parts", [[LatentBlock("continuous", 0, 3)], [LatentBlock("categorical", 0, 400, 20)]])
def test_what_cannot_be_enumerated_is_refused(parts: list[LatentBlock]):
    with pytest.raises(ValueError, match="cannot be enumerated"):
        next(enumerate_codes(parts))


def test_random_codes_are_valid_seeded_and_reach_every_category():
    first, second = (torch.cat(list(random_codes(MIXED, 200, 64))) for _ in range(2))
    assert torch.equal(first, second) and first.shape == (200, 12)
    for start, stop in ((2, 5), (5, 8), (8, 12)):
        assert (first[:, start:stop].sum(dim=1) == 1).all() and (first[:, start:stop].sum(dim=0) > 10).all()


def test_quantiles_cut_the_normal_law_into_equal_shares():
    quantiles = normal_quantiles(4)
    shares = torch.distributions.Normal(0.0, 1.0).cdf(quantiles)
    torch.testing.assert_close(shares, torch.tensor([0.125, 0.375, 0.625, 0.875]))


def test_the_plane_grows_to_the_right_and_upwards():
    codes = plane_grid(torch.zeros(2), torch.eye(2), torch.tensor([-1.0, 0.0, 2.0])).view(3, 3, 2)
    assert codes[0, 0].tolist() == [-1, 2] and codes[0, 2].tolist() == [2, 2] and codes[2, 0].tolist() == [-1, -1]


def test_the_plane_of_larger_codes_is_that_of_their_largest_variance():
    generator = torch.Generator().manual_seed(0)
    spread = torch.tensor([0.1, 3.0, 0.1, 5.0])
    codes = torch.randn(4000, 4, generator=generator) * spread + 7
    centre, directions, names = principal_plane(codes)
    torch.testing.assert_close(centre, torch.full((4,), 7.0), atol=0.3, rtol=0)
    expected = torch.tensor([[0, 0, 0, 5.0], [0, 3.0, 0, 0]])
    torch.testing.assert_close(directions, expected, atol=0.2, rtol=0)
    assert names[0].startswith("principal component 1 (73%)")


def two_colours(codes: Tensor) -> Tensor:
    """Red is the normal share below z1, green that below z2."""
    shares = torch.special.ndtr(codes[:, :2])
    return torch.cat([shares, torch.zeros(len(codes), 1)], dim=1)


def test_plane_picture_decodes_the_prior_at_its_quantiles(tmp_path: Path):
    model = Painter([LatentBlock("continuous", 0, 2)], two_colours)
    codes = 50 + torch.randn(10, 2)  # what the codes are does not matter where there is a prior
    LatentPlane(steps=4).on_test_end(trainer(tmp_path, codes), model)  # type: ignore[arg-type]
    shares = torch.tensor([0.125, 0.375, 0.625, 0.875])
    red, green = shares.repeat(4), shares.flip(0).repeat_interleave(4)
    tiles = torch.stack([red, green, torch.zeros(16)], dim=1)[:, :, None, None].expand(-1, -1, 4, 4)
    assert contains(picture(tmp_path, "latent_plane.png"), np.asarray(image_grid(tiles, 4, 0)))


def test_no_plane_of_categories(tmp_path: Path):
    model = Painter([LatentBlock("categorical", 0, 2, 2)], two_colours)
    LatentPlane().on_test_end(trainer(tmp_path, torch.eye(2)), model)  # type: ignore[arg-type]
    assert not (tmp_path / "media").exists()


def test_a_walk_changes_one_dimension_of_the_example():
    example, mean, deviation = torch.tensor([9.0, 8.0, 7.0]), torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.5, 1, 2])
    walks = traverse_dimensions(example, mean, deviation, torch.tensor([2, 0]), 3).view(2, 3, 3)
    assert walks[0].tolist() == [[9, 8, -3], [9, 8, 3], [9, 8, 9]]
    assert walks[1].tolist() == [[-0.5, 8, 7], [1, 8, 7], [2.5, 8, 7]]


def test_a_walk_takes_each_category_of_a_variable():
    example = torch.tensor([5.0, 1, 0, 0, 0, 1, 0])
    walks = traverse_categories(example, LatentBlock("categorical", 1, 7, 3)).view(2, 3, 7)
    assert walks[0].tolist() == [[5, *one, 0, 1, 0] for one in np.eye(3).tolist()]
    assert walks[1].tolist() == [[5, 1, 0, 0, *one] for one in np.eye(3).tolist()]


def test_traversals_begin_with_the_most_active_dimension(tmp_path: Path):
    model = Painter([LatentBlock("continuous", 0, 2)], lambda codes: torch.special.ndtr(codes[:, :1] / 2))
    codes = torch.tensor([[0.0, 5.0], [1.0, -5.0], [-1.0, 0.0]])  # the second varies more, the first alone is seen
    LatentTraversals(steps=3).on_test_end(trainer(tmp_path, codes), model)  # type: ignore[arg-type]
    low, high = torch.special.ndtr(torch.tensor([-1.0, 1.0]) * 3 * (2 / 3) ** 0.5 / 2)
    values = torch.tensor([0.5, 0.5, 0.5, low, 0.5, high])
    tiles = values[:, None, None, None].expand(-1, 1, 4, 4)
    assert contains(picture(tmp_path, "traversals.png"), np.asarray(image_grid(tiles, 3)))


def test_traversals_show_numbers_above_categories(tmp_path: Path):
    parts = [LatentBlock("continuous", 0, 1), LatentBlock("categorical", 1, 4, 3)]
    model = Painter(parts, lambda codes: codes[:, 1:] @ torch.tensor([[0.2], [0.4], [0.8]]))
    LatentTraversals(steps=3).on_test_end(trainer(tmp_path, torch.tensor([[1.0, 0, 1, 0]])), model)  # type: ignore[arg-type]
    drawn = picture(tmp_path, "traversals.png")
    numbers, categories = (
        np.asarray(image_grid(torch.tensor(row)[:, None, None, None].expand(-1, 1, 4, 4), 3))
        for row in ([0.4, 0.4, 0.4], [0.2, 0.4, 0.8])
    )
    top, bottom = drawn[: len(drawn) // 2], drawn[len(drawn) // 2 :]
    assert contains(top, numbers) and contains(bottom, categories)


def test_a_mosaic_has_a_block_for_each_category_of_the_first_variable():
    sizes = [3, 2, 4]
    tiles = (torch.arange(24) / 24)[:, None, None, None].expand(-1, 1, 5, 5)
    mosaic = block_mosaic(tiles, sizes)[0, 0]
    gap, columns = 2, 2  # three blocks stand two in a row
    for number, (a, b, c) in enumerate(itertools.product(*map(range, sizes))):
        row = (a // columns) * (2 * 5 + 2 * gap) + gap + b * 5 + 2
        column = (a % columns) * (4 * 5 + 2 * gap) + gap + c * 5 + 2
        assert mosaic[row, column] == pytest.approx(number / 24)
    assert (mosaic[2 * 5 + 2 * gap :, 4 * 5 + 2 * gap :] == 1).all()


def test_all_combinations_are_decoded_once_and_sorted_by_hue(tmp_path: Path):
    parts = [LatentBlock("continuous", 0, 1), LatentBlock("categorical", 1, 7, 3)]
    hues = F.one_hot(torch.tensor([1, 2, 0, 0, 1, 2, 2, 0, 1]), 3).float()  # green, blue, red, ...
    model = Painter(parts, lambda codes: hues[3 * codes[:, 1:4].argmax(dim=1) + codes[:, 4:].argmax(dim=1)])
    CategoryCombinations(batch_size=4).on_test_end(trainer(tmp_path, torch.zeros(1, 7)), model)  # type: ignore[arg-type]
    assert model.decoded == [4, 4, 1]
    tiles = hues[:, :, None, None].expand(-1, -1, 4, 4)
    assert contains(picture(tmp_path, "combinations.png"), np.asarray(image_grid(block_mosaic(tiles, [3, 3]), 1, 0, 1)))
    by_hue = tiles[foreground_hue(tiles).argsort()]
    assert contains(picture(tmp_path, "combinations_by_hue.png"), np.asarray(image_grid(by_hue, 3, 0, 1)))
    assert by_hue[0, :, 0, 0].tolist() == [1, 0, 0] and by_hue[8, :, 0, 0].tolist() == [0, 0, 1]


def test_too_many_combinations_are_drawn_at_random(tmp_path: Path):
    model = Painter([LatentBlock("categorical", 0, 40, 4)], lambda codes: codes[:, :1])  # 4^10
    CategoryCombinations(limit=50, batch_size=20).on_test_end(trainer(tmp_path, torch.zeros(1, 40)), model)  # type: ignore[arg-type]
    assert model.decoded == [20, 20, 10] and picture(tmp_path, "combinations.png").size
    assert not (tmp_path / "media" / "combinations_by_hue.png").exists()
