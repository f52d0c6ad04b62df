"""Walks through a model's latent space: the plane, one dimension at a time, all combinations of categories."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from genlab.callbacks.class_codes import class_block
from genlab.callbacks.latent_codes import encode_all, has_normal_prior, latent_blocks, principal_axes
from genlab.media import beside, framed, image_grid, save_picture, tile_centres
from genlab.metrics.color import foreground_hue
from lit_models.common.capabilities import Decodes, Encodes, HasLatentBlocks, LatentBlock

BLOCK_GAP = 2
MOST_FULL_SIZE = 2500
"""Pixels on each side of a block; combinations beyond which images are drawn at half their size."""


class LatentPlane(Callback):
    """Images decoded over a plane of the latent space: media/latent_plane.png.

    Codes of two real numbers are the plane themselves: the nodes lie at the standard normal's quantiles, where the
    model has such a prior, else at those of a normal law with the codes' own mean and standard deviations. Larger codes
    of real numbers are shown on the plane of their first two principal components. z1 grows to the right, z2 upwards.
    A model that does not encode has a plane only by its prior.

    Args:
        steps: nodes along each axis; 0 for no picture.
        num_images: how many test images are encoded to find the plane.
    """

    def __init__(self, steps: int = 20, num_images: int = 2000) -> None:
        self.steps = steps
        self.num_images = num_images

    @torch.no_grad()
    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero or not isinstance(pl_module, Decodes) or self.steps < 2:
            return
        plane = PRIOR_PLANE if is_prior_plane(pl_module) else self._plane_of_codes(trainer, pl_module)
        if plane is None:
            return
        quantiles = normal_quantiles(self.steps)
        codes = plane_codes(plane.centre, plane.directions, quantiles)
        grid = image_grid(decode_all(pl_module, codes), self.steps, 0)
        ticks = _quantile_ticks(self.steps, grid.width)
        flipped = [(grid.height - at, label) for at, label in ticks]
        shown = "codes" if len(plane.centre) == 2 else "principal plane of the codes"
        title = f"decoded {shown}, at the quantiles of a normal law"
        save_picture(trainer, "latent_plane", framed(grid, title, *plane.names, ticks, flipped))

    def _plane_of_codes(self, trainer: Trainer, model: LightningModule) -> "Plane | None":
        if not isinstance(model, Encodes):
            return None
        images, _ = trainer.datamodule.examples("test", self.num_images)  # type: ignore[attr-defined]
        codes = encode_all(model, images)
        if codes.shape[1] < 2 or any(part.kind != "continuous" for part in latent_blocks(model, codes.shape[1])):
            return None
        return plane_of(codes)


class Traversals(Callback):
    """One latent dimension a row, changed alone around an example's code: media/traversals.png.

    A real number walks from -3 to 3 standard deviations around its mean over test images, rows in falling order of
    that standard deviation, as a dimension that carries nothing has nearly none; a categorical variable takes each of
    its categories, one a column.

    Args:
        most_rows: of real numbers, and of categorical variables; 0 for no picture.
        steps: images in a row of a real number.
        example: which of the test images' codes is changed.
        num_images: how many test images are encoded to find means and deviations.
    """

    def __init__(self, most_rows: int = 20, steps: int = 13, example: int = 0, num_images: int = 2000) -> None:
        self.most_rows = most_rows
        self.steps = steps
        self.example = example
        self.num_images = num_images

    @torch.no_grad()
    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not _walks(trainer, pl_module) or self.most_rows < 1 or self.steps < 2:
            return
        images, _ = trainer.datamodule.examples("test", self.num_images)  # type: ignore[attr-defined]
        codes = encode_all(pl_module, images)
        example = codes[self.example % len(codes)]
        pictures = []
        for part in latent_blocks(pl_module, codes.shape[1]):
            if part.kind == "continuous":
                pictures.append(self._numbers(pl_module, codes, example, part))
            else:
                pictures.append(self._categories(pl_module, example, part))
        save_picture(trainer, "traversals", beside(pictures, upright=True))

    def _numbers(self, model: Any, codes: Tensor, example: Tensor, part: LatentBlock) -> Image.Image:
        deviation = codes.std(dim=0, correction=0)
        rows = part.start + deviation[part.start : part.stop].argsort(descending=True)[: self.most_rows]
        walks = number_walks(example, codes.mean(dim=0), deviation, rows, self.steps)
        grid = image_grid(decode_all(model, walks), self.steps)
        offsets = torch.linspace(-3, 3, self.steps).tolist()
        columns = zip(tile_centres(grid.width, self.steps), (f"{offset:+.1f}" for offset in offsets), strict=True)
        names = [f"z{int(row) - part.start + 1} (sd {deviation[row]:.2f})" for row in rows]
        return framed(
            grid,
            f"one number changed at a time, {len(rows)} of {part.variables}, most active first",
            "standard deviations from the mean code",
            "",
            list(columns),
            list(zip(tile_centres(grid.height, len(rows)), names, strict=True)),
        )

    def _categories(self, model: Any, example: Tensor, part: LatentBlock) -> Image.Image:
        rows = min(part.variables, self.most_rows)
        grid = image_grid(decode_all(model, category_walks(example, part)[: rows * part.categories]), part.categories)
        columns = zip(tile_centres(grid.width, part.categories), map(str, range(part.categories)), strict=True)
        names = [f"variable {row + 1}" for row in range(rows)]
        return framed(
            grid,
            f"one categorical variable changed at a time, {rows} of {part.variables}",
            "category",
            "",
            list(columns),
            list(zip(tile_centres(grid.height, rows), names, strict=True)),
        )


class Combinations(Callback):
    """Every combination of categories, decoded in one sweep: media/combinations.png, and coloured ones sorted by hue
    as media/combinations_by_hue.png.

    Real numbers beside the categories stay at the mean of their prior, 0. Memory holds one batch and the small
    pictures. A class that a model can be asked for is no such category: ClassGrid shows it.

    Args:
        limit: beyond so many combinations, so many random ones are drawn instead; 0 for no picture.
        batch_size: combinations decoded at once.
    """

    def __init__(self, limit: int = 20000, batch_size: int = 1000) -> None:
        self.limit = limit
        self.batch_size = batch_size

    @torch.no_grad()
    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        model: Any = pl_module
        able = isinstance(model, Decodes) and isinstance(model, HasLatentBlocks)
        if not able or class_block(model) is not None or not trainer.is_global_zero or self.limit < 1:
            return
        parts = model.latent_blocks()
        sizes = category_counts(parts)
        if not sizes:
            return
        total = math.prod(sizes)
        if total <= self.limit:
            sweep = enumerate_codes(parts, self.batch_size, model.device)
            title = f"all {total:,} combinations of {len(sizes)} variables"
        else:
            sweep = random_codes(parts, self.limit, self.batch_size, model.device)
            title = f"{self.limit:,} random combinations out of {float(total):.3g} of {len(sizes)} variables"
        count = min(total, self.limit)
        factor = 1 if count <= MOST_FULL_SIZE else 2
        small, hues = [], []
        for codes in sweep:
            images = model.decode(codes.to(model.dtype)).float()
            small.append(thumbnails(images, factor))
            hues.append(foreground_hue(images).cpu() if images.shape[1] == 3 else torch.zeros(len(images)))
        tiles = torch.cat(small)
        if factor > 1:
            title += f", at 1/{factor} of their size"
        if total <= self.limit:
            grid = image_grid(block_mosaic(tiles, sizes), 1, 0, 1)
            last = f"variable {len(sizes)} to the right"
            other = f", variable {len(sizes) - 1} downwards" if len(sizes) > 1 else ""
            rest = ", the others from block to block" if len(sizes) > 2 else ""
            save_picture(trainer, "combinations", framed(grid, f"{title}; {last}{other}{rest}"))
        else:
            save_picture(trainer, "combinations", framed(image_grid(tiles, _near_square(count), 0, 1), title))
        if tiles.shape[1] == 3:
            grid = image_grid(tiles[torch.cat(hues).argsort()], _near_square(count), 0, 1)
            title += "; sorted by hue from left to right, row by row, those without one last"
            save_picture(trainer, "combinations_by_hue", framed(grid, title))


def enumerate_codes(
    parts: list[LatentBlock], batch_size: int = 1000, device: torch.device | str = "cpu"
) -> Iterator[Tensor]:
    """Codes of all combinations of categories, one-hot, in batches: at most batch_size x d, float32, on `device`.

    The last variable changes fastest, as in a number's digits; columns of real numbers are 0. No more than a batch is
    ever in memory.

    Raises:
        ValueError: no part is categorical, or there are more combinations than int64 counts.
    """
    sizes = category_counts(parts)
    total = math.prod(sizes)
    if not sizes or total >= 2**63:
        raise ValueError(f"{len(sizes)} categorical variables have {total} combinations, which cannot be enumerated")
    for start in range(0, total, batch_size):
        numbers = torch.arange(start, min(start + batch_size, total), device=device)
        yield codes_of(parts, combinations(numbers, sizes))


def random_codes(
    parts: list[LatentBlock], count: int, batch_size: int = 1000, device: torch.device | str = "cpu", seed: int = 0
) -> Iterator[Tensor]:
    """Codes of `count` random combinations of categories, as `enumerate_codes` makes them; repeats may occur."""
    generator = torch.Generator(device).manual_seed(seed)
    sizes = torch.tensor(category_counts(parts), device=device)
    for start in range(0, count, batch_size):
        number = min(batch_size, count - start)
        uniform = torch.rand(number, len(sizes), generator=generator, device=device, dtype=torch.float32)
        yield codes_of(parts, (uniform * sizes).long().minimum(sizes - 1))


def category_counts(parts: list[LatentBlock]) -> list[int]:
    """The number of categories of each categorical variable, in the order of the code's columns."""
    return [part.categories for part in parts if part.kind == "categorical" for _ in range(part.variables)]


def combinations(numbers: Tensor, sizes: list[int]) -> Tensor:
    """The digits of numbers, N, in the mixed radix `sizes`, most significant first: int64 N x len(sizes)."""
    digits = []
    for size in reversed(sizes):
        digits.append(numbers % size)
        numbers = numbers // size
    return torch.stack(digits[::-1], dim=1)


def codes_of(parts: list[LatentBlock], categories: Tensor) -> Tensor:
    """Codes, N x d, float32, of categories, int64 N x variables: one-hot; columns of real numbers are 0."""
    columns, variable = [], 0
    for part in parts:
        if part.kind == "continuous":
            columns.append(torch.zeros(len(categories), part.variables, device=categories.device))
            continue
        chosen = categories[:, variable : variable + part.variables]
        columns.append(F.one_hot(chosen, part.categories).flatten(1).float())
        variable += part.variables
    return torch.cat(columns, dim=1)


@torch.no_grad()
def decode_all(model: Any, codes: Tensor, batch_size: int = 500) -> Tensor:
    """Images of many codes, N x d, batch by batch: N x C x H x W, float32, on the CPU."""
    batches = codes.split(batch_size)
    return torch.cat([model.decode(batch.to(model.device, model.dtype)).float().cpu() for batch in batches])


def normal_quantiles(steps: int) -> Tensor:
    """The standard normal's quantiles at the middles of `steps` equal shares, rising."""
    shares = (torch.arange(steps, dtype=torch.float64) + 0.5) / steps
    return torch.special.ndtri(shares).float()


class Plane(NamedTuple):
    """A plane of the latent space."""

    centre: Tensor
    """d."""
    directions: Tensor
    """To the right and upwards, each a standard deviation long, 2 x d."""
    names: tuple[str, str]
    """What they are."""


PRIOR_PLANE = Plane(torch.zeros(2), torch.eye(2), ("z1", "z2"))


def is_prior_plane(model: object) -> bool:
    """Whether a model's codes are two numbers of a standard normal law."""
    if not isinstance(model, HasLatentBlocks) or not has_normal_prior(model):
        return False
    return [(part.kind, part.variables) for part in model.latent_blocks()] == [("continuous", 2)]


def plane_of(codes: Tensor) -> Plane:
    """The plane to draw codes, N x d, on: their own where d is 2, else that of their first two principal components."""
    centre = codes.mean(dim=0)
    if codes.shape[1] == 2:
        names = ("z1, in standard deviations", "z2, in standard deviations")
        return Plane(centre, torch.diag(codes.std(dim=0, correction=0)), names)
    axes, shares = principal_axes(codes)
    deviation = ((codes - centre).cpu().double() @ axes.T).std(dim=0, correction=0)
    first, second = (f"principal component {k + 1} ({shares[k]:.0%}), in standard deviations" for k in range(2))
    return Plane(centre, (axes * deviation[:, None]).to(codes), (first, second))


def plane_codes(centre: Tensor, directions: Tensor, along: Tensor) -> Tensor:
    """Codes of a grid, row by row from the top left: the first direction grows to the right, the second upwards.

    Args:
        centre, directions: of the plane, d and 2 x d.
        along: where the nodes lie on each axis, S, rising.

    Returns:
        S * S x d.
    """
    along = along.to(centre)
    upwards, right = torch.meshgrid(along.flip(0), along, indexing="ij")
    return centre + right.reshape(-1, 1) * directions[0] + upwards.reshape(-1, 1) * directions[1]


def number_walks(example: Tensor, mean: Tensor, deviation: Tensor, rows: Tensor, steps: int) -> Tensor:
    """Copies of a code, d, each with one dimension at mean + a * deviation, a from -3 to 3: rows * steps x d."""
    a = torch.linspace(-3, 3, steps, device=example.device, dtype=example.dtype)
    walks = example.repeat(len(rows), steps, 1)
    for k, row in enumerate(rows.tolist()):
        walks[k, :, row] = mean[row] + a * deviation[row]
    return walks.flatten(0, 1)


def category_walks(example: Tensor, part: LatentBlock) -> Tensor:
    """Copies of a code, d, each with one variable of `part` at one category: variables * categories x d."""
    walks = example.repeat(part.variables, part.categories, 1)
    for row in range(part.variables):
        start = part.start + row * part.categories
        walks[row, :, start : start + part.categories] = torch.eye(part.categories).to(example)
    return walks.flatten(0, 1)


def thumbnails(images: Tensor, factor: int) -> Tensor:
    """Images in [0, 1] made `factor` times smaller, by means over squares, on the CPU."""
    return F.avg_pool2d(images, factor).cpu() if factor > 1 else images.cpu()


def block_mosaic(tiles: Tensor, sizes: list[int]) -> Tensor:
    """All combinations as one image: a block for each choice of all variables but the last two.

    Args:
        tiles: the image of each combination in the order of `enumerate_codes`, N x C x H x W.
        sizes: categories of each variable; in a block the last runs to the right, the one before it downwards.

    Returns:
        1 x C x height x width, white between the blocks.
    """
    height, width = [1, *sizes][-2:]
    blocks = math.prod(sizes) // (height * width)
    columns = _near_square(blocks)
    rows = math.ceil(blocks / columns)
    c, h, w = tiles.shape[1:]
    places = tiles.new_ones(rows * columns * height * width, c, h, w)
    places[: len(tiles)] = tiles
    apart = places.view(rows, columns, height, width, c, h, w).permute(4, 0, 2, 5, 1, 3, 6)
    apart = apart.reshape(c, rows, height * h, columns, width * w)
    gap = BLOCK_GAP
    apart = F.pad(apart, (gap, gap, 0, 0, gap, gap), value=1.0)
    return apart.reshape(1, c, rows * (height * h + 2 * gap), columns * (width * w + 2 * gap))


def _walks(trainer: Trainer, model: object) -> bool:
    return trainer.is_global_zero and isinstance(model, Encodes) and isinstance(model, Decodes)


def _near_square(count: int) -> int:
    """Columns of a grid of `count` tiles about as wide as high."""
    return math.ceil(math.sqrt(count))


def _quantile_ticks(steps: int, length: int) -> list[tuple[float, str]]:
    """Labels at about six nodes along `length` pixels, the outermost ones among them."""
    nodes = normal_quantiles(steps).tolist()
    shown = sorted({round(k * (steps - 1) / 5) for k in range(6)})
    centres = tile_centres(length, steps)
    return [(centres[k], f"{nodes[k]:+.2f}") for k in shown]
