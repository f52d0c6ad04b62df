"""DiffAugment: what each change does to an image, how it is distributed, and that gradients flow through it."""

import math

import pytest
import torch

from lit_models.networks.diff_augment import diff_augment

EVERY = ("color", "translation", "cutout")


def test_no_augmentation_is_the_identity():
    images = torch.rand(2, 3, 8, 8)
    assert diff_augment(images, ()) is images


def assert_shares(counts: torch.Tensor, shares: torch.Tensor, draws: int) -> None:
    """Each count is within five standard deviations of its expectation."""
    assert ((counts - draws * shares).abs() < 5 * (draws * shares * (1 - shares)).sqrt() + 1e-6).all()


@pytest.mark.parametrize("size", [(16, 8), (28, 20)])
def test_translation_moves_by_up_to_an_eighth_and_fills_with_grey(size: tuple[int, int]):
    """Every shift of rows and columns is equally likely; both channels move together."""
    torch.manual_seed(0)
    draws, (rows, columns) = 2000, (int(side / 8 + 0.5) for side in size)
    image = torch.rand(1, 2, *size) / 4
    moved = diff_augment(image.expand(draws, -1, -1, -1), ["translation"])
    padded = torch.nn.functional.pad(image, (columns, columns, rows, rows), value=0.5)
    windows = padded.unfold(2, size[0], 1).unfold(3, size[1], 1)[0].transpose(0, 1).transpose(1, 2)
    same = torch.stack([(moved == window).flatten(1).all(dim=1) for window in windows.flatten(0, 1)])
    assert (same.sum(dim=0) == 1).all()
    shifts = (2 * rows + 1) * (2 * columns + 1)
    assert len(same) == shifts
    assert_shares(same.sum(dim=1), torch.full((shifts,), 1 / shifts), draws)


@pytest.mark.parametrize("size", [(8, 8), (7, 10)])
def test_cutout_fills_half_of_each_side_with_grey(size: tuple[int, int]):
    """Its centre is drawn from the whole image, and it is cut off at the border."""
    torch.manual_seed(0)
    draws, images = 4000, torch.rand(1, 2, *size) / 4
    cut = diff_augment(images.expand(draws, -1, -1, -1), ["cutout"])
    empty = (cut == 0.5).all(dim=1)  # (draws, H, W)
    assert torch.equal(cut, torch.where(empty[:, None], 0.5, images))
    shares = []
    for side, seen in zip(size, (empty.any(dim=2), empty.any(dim=1)), strict=True):
        length = int(side / 2 + 0.5)
        centres = range(side + 1 - length % 2)
        covers = [
            [-(length // 2) <= place - centre < length - length // 2 for centre in centres] for place in range(side)
        ]
        shares.append(torch.tensor(covers).float().mean(dim=1))
        assert_shares(seen.sum(dim=0), shares[-1], draws)
        assert seen.sum(dim=1).max() == length and not (seen.int().diff(dim=1) == 1).sum(dim=1).max() > 1
    assert torch.equal(empty, empty.any(dim=2)[:, :, None] & empty.any(dim=1)[:, None, :])


def test_color_changes_brightness_saturation_and_contrast():
    """Brightness moves the mean of an image, contrast and saturation its distance from the mean."""
    torch.manual_seed(0)
    draws = 4000
    grey, colour = torch.rand(1, 1, 4, 4), torch.rand(1, 3, 4, 4)
    changed = diff_augment(grey.expand(draws, -1, -1, -1), ["color"])
    brightness = changed.mean(dim=(1, 2, 3)) - grey.mean()
    ratio = (changed - changed.mean(dim=(1, 2, 3), keepdim=True)) / (grey - grey.mean())
    contrast = ratio.mean(dim=(1, 2, 3))
    torch.testing.assert_close(ratio, contrast[:, None, None, None].expand_as(ratio), rtol=1e-2, atol=1e-3)
    changed = diff_augment(colour.expand(draws, -1, -1, -1), ["color"])
    hues = [images - images.mean(dim=1, keepdim=True) for images in (changed, colour)]
    levels = [images.mean(dim=1) - images.mean(dim=(1, 2, 3))[:, None, None] for images in (changed, colour)]
    contrasts = (levels[0] * levels[1]).sum(dim=(1, 2)) / levels[1].square().sum()
    saturation = (hues[0] * hues[1]).sum(dim=(1, 2, 3)) / hues[1].square().sum() / contrasts
    for values, low, high in (
        (brightness, -0.25, 0.25),
        (contrast, 0.5, 1.5),
        (contrasts, 0.5, 1.5),
        (saturation, 0, 2),
    ):
        assert low - 1e-4 <= values.min() < low + 0.01 * (high - low) and high + 1e-4 >= values.max()
        assert values.max() > high - 0.01 * (high - low)
        error = (high - low) / math.sqrt(12 * draws)
        assert abs(values.mean().item() - (low + high) / 2) < 5 * error


def test_gradients_flow_through_every_change():
    def augmented(images: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(0)
        return diff_augment(images, EVERY)

    assert torch.autograd.gradcheck(augmented, torch.rand(2, 2, 5, 6, dtype=torch.float64, requires_grad=True))
