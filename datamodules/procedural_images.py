"""Procedurally generated images that need no files: textures, scenes, and images in the style of paintings."""

from collections.abc import Callable

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.spatial import cKDTree

Field = np.ndarray
"""One number per point of an image, H x W."""
Colour = tuple[float, float, float]
"""Red, green and blue in [0, 1]."""
SUPERSAMPLING = 3
"""Points per pixel along each axis."""


class Canvas:
    """Canvas of coloured points. The shorter side has length 1; x points right and y down.

    Args:
        height: Height in points.
        width: Width in points.
        seed: Seed of all random numbers; the result hardly depends on the number of points.
    """

    def __init__(self, height: int, width: int, seed: int) -> None:
        side = min(height, width)
        self.y, self.x = np.meshgrid((np.arange(height) + 0.5) / side, (np.arange(width) + 0.5) / side, indexing="ij")
        self.height, self.width = height / side, width / side
        self.random = np.random.default_rng(seed)
        self.pixels = np.zeros((height, width, 3))

    def fill(self, colour: Colour | np.ndarray) -> None:
        self.pixels[:] = colour

    def blend(self, where: Field, colour: Colour | np.ndarray) -> None:
        """Blends a colour, or one colour per point, over the canvas with the opacity `where` in [0, 1]."""
        self.pixels += where[..., None] * (np.asarray(colour) - self.pixels)

    def noise(self, bumps: float, octaves: int = 1, y: Field | None = None) -> Field:
        """Value noise from about -1 to 1 with `bumps` bumps along the shorter side, plus finer and weaker octaves."""
        total, y = np.zeros_like(self.x), self.y if y is None else y
        for octave in range(octaves):
            values, scale = self.random.uniform(-1, 1, (64, 64)), bumps * 2**octave
            total += map_coordinates(values, [y * scale, self.x * scale], order=3, mode="grid-wrap") / 2**octave
        return total

    def cells(self, count: float) -> tuple[np.ndarray, Field, Field]:
        """Voronoi cells, about `count` along the shorter side, whose seeds are a grid with random displacements.

        Returns:
            The cell of each point, and the distances to its nearest and second nearest seed.
        """
        rows, columns = (int(np.ceil(count * side)) + 4 for side in (self.height, self.width))
        grid = np.stack(np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij"), axis=-1).reshape(-1, 2)
        seeds = (grid - 2 + self.random.uniform(0.1, 0.9, grid.shape)) / count
        distance, nearest = cKDTree(seeds).query(np.stack([self.y, self.x], axis=-1), k=2)
        return nearest[..., 0], distance[..., 0], distance[..., 1]

    def ellipse(self, x: float, y: float, width: float, height: float, softness: float = 0.02) -> Field:
        """Opacity of an ellipse around (x, y) with the semi-axes `width` and `height`."""
        return edge(1 - np.hypot((self.x - x) / width, (self.y - y) / height), softness)

    def box(self, left: float, top: float, right: float, bottom: float) -> Field:
        """Opacity of a rectangle."""
        return (self.x > left) & (self.x < right) & (self.y > top) & (self.y < bottom)


def mix(colours: list[Colour], place: Field) -> np.ndarray:
    """Interpolates between colours that are evenly spaced from 0 to 1: H x W x 3."""
    at = np.linspace(0, 1, len(colours))
    return np.stack([np.interp(place, at, channel) for channel in np.array(colours).T], axis=-1)


def edge(value: Field, width: float) -> Field:
    """Smooth step from 0 to 1 around value 0, of about this width."""
    step = np.clip(value / width + 0.5, 0, 1)
    return step * step * (3 - 2 * step)


# Textures.


def bricks(c: Canvas) -> None:
    rows, columns = 8.0, 4.0
    y = (c.y + 0.004 * c.noise(8, 2)) * rows
    row = np.floor(y)
    x = (c.x + 0.004 * c.noise(8, 2)) * columns + 0.5 * (row % 2)
    column = np.floor(x)
    u, v = x - column, y - row
    shade = c.random.uniform(0, 1, (64, 64))[row.astype(int) % 64, column.astype(int) % 64]
    clay = mix([(0.45, 0.15, 0.1), (0.66, 0.26, 0.16), (0.8, 0.42, 0.28)], shade)
    relief = 1 + 0.12 * c.noise(40, 2) + 0.14 * (0.5 - v)
    c.fill(np.array((0.72, 0.69, 0.63)) * (1 + 0.08 * c.noise(60, 2)[..., None]))
    inside = np.minimum(np.minimum(u, 1 - u) * rows / columns, np.minimum(v, 1 - v))
    c.blend(edge(inside - 0.09, 0.05), clay * relief[..., None])


def pebbles(c: Canvas) -> None:
    cell, near, far = c.cells(8)
    shade = c.random.uniform(0, 1, cell.max() + 1)[cell]
    stone = mix([(0.3, 0.32, 0.36), (0.55, 0.5, 0.45), (0.78, 0.75, 0.7), (0.5, 0.38, 0.3)], shade)
    rise = np.sqrt(np.clip((far - near) * 8, 0, 1))
    light = 0.45 + 0.6 * rise + 0.08 * c.noise(50, 2)
    c.fill((0.1, 0.09, 0.08))
    c.blend(edge(rise - 0.3, 0.15), stone * light[..., None])


def shingles(c: Canvas) -> None:
    rows, columns = 8, 7
    for row in range(int(np.ceil(c.height * rows)), -3, -1):  # each row covers the one below it
        x = c.x * columns + 0.5 * (row % 2)
        u, v = x - np.floor(x) - 0.5, c.y * rows - row
        rim = 1 - np.hypot(u / 0.53, np.clip(v - 0.7, 0, None) / 0.8)
        shade = c.random.uniform(0, 1, 64)[np.floor(x).astype(int) % 64]
        tile = mix([(0.1, 0.25, 0.35), (0.12, 0.45, 0.5), (0.35, 0.65, 0.55), (0.85, 0.7, 0.3)], shade)
        light = 0.45 + 0.6 * edge(rim - 0.2, 0.3) - 0.15 * (v < 0.2)
        c.blend((v > 0) * edge(rim, 0.06), tile * light[..., None])


# Scenes.


def lake(c: Canvas) -> None:
    """A lake with mountains and firs."""
    shore = 0.66 * c.height
    c.fill(mix([(0.2, 0.42, 0.75), (0.62, 0.77, 0.9), (0.97, 0.86, 0.72)], c.y / shore))
    c.blend(c.ellipse(0.74 * c.width, 0.2 * c.height, 0.085, 0.085), (1.0, 0.93, 0.7))
    peaks, hills = (
        base * c.height + rough * c.noise(3, 4, y=np.zeros_like(c.y)) for base, rough in ((0.36, 0.2), (0.5, 0.13))
    )
    rock = edge(c.y - peaks, 0.01)
    c.blend(rock, (0.45, 0.5, 0.66))
    c.blend(rock * edge(peaks + 0.07 + 0.03 * c.noise(14, 2) - c.y, 0.015), (0.95, 0.96, 0.98))
    c.blend(edge(c.y - hills, 0.01), (0.27, 0.36, 0.45))
    c.blend(c.y > shore, mix([(0.55, 0.65, 0.75), (0.1, 0.28, 0.42)], (c.y - shore) / (c.height - shore)))
    ripples = np.sin(2 * np.pi * (26 * c.y + 1.2 * c.noise(4, 2))) > 0.55
    c.blend(0.35 * ((c.y > shore) & ripples), (0.9, 0.92, 0.9))
    for x, foot, tall in ((0.1, 0.86, 0.46), (0.24, 0.8, 0.32), (0.9, 0.9, 0.42), (0.36, 0.75, 0.2)):
        fir(c, x * c.width, foot * c.height, tall)


def fir(c: Canvas, x: float, foot: float, tall: float) -> None:
    down = 1 - (foot - c.y) / tall
    width = 0.3 * tall * down * (0.55 + 0.45 * (5 * down % 1))
    c.blend((down > 0) & (down < 1) & (np.abs(c.x - x) < width), (0.07, 0.22, 0.14))
    c.blend(c.box(x - 0.02 * tall, foot, x + 0.02 * tall, foot + 0.1 * tall), (0.25, 0.15, 0.1))


def portrait(c: Canvas) -> None:
    """A head and shoulders in front of a curtain."""
    x, y = 0.5 * c.width, c.height - 1  # the head's middle, and the top of a square below which there is no room
    skin, shade, hair = (0.9, 0.7, 0.56), (0.72, 0.47, 0.36), (0.22, 0.12, 0.08)
    c.fill(mix([(0.2, 0.3, 0.35), (0.4, 0.55, 0.55)], 0.5 + 0.5 * np.sin(2 * np.pi * (4 * c.x + 0.25 * c.noise(2)))))
    c.blend(c.ellipse(x, y + 0.43, 0.27, 0.33), hair)
    c.blend(c.ellipse(x, y + 1.06, 0.42, 0.36), (0.6, 0.16, 0.18))
    c.blend(c.ellipse(x, y + 0.75, 0.1, 0.16), (0.78, 0.56, 0.43))
    c.blend(c.ellipse(x, y + 0.47, 0.19, 0.25), skin)
    c.blend(0.45 * c.ellipse(x + 0.07, y + 0.5, 0.12, 0.22, 0.6), shade)
    c.blend(c.ellipse(x, y + 0.24, 0.21, 0.09), hair)
    for eye in (x - 0.075, x + 0.075):
        c.blend(c.ellipse(eye, y + 0.435, 0.045, 0.022), (0.97, 0.96, 0.94))
        c.blend(c.ellipse(eye, y + 0.435, 0.02, 0.02), (0.15, 0.3, 0.35))
        c.blend(c.ellipse(eye, y + 0.435, 0.009, 0.009), (0.03, 0.03, 0.03))
        brow = np.abs(c.y - y - 0.385 - 3 * (c.x - eye) ** 2) < 0.01
        c.blend(brow & (np.abs(c.x - eye) < 0.05), hair)
    nose = (c.x > x - 0.008) & (c.x < x + 0.25 * (c.y - y - 0.4))
    c.blend(nose & (c.y > y + 0.44) & (c.y < y + 0.545), shade)
    smile = np.abs(c.y - y - 0.615 + 2.2 * (c.x - x) ** 2) < 0.016 - 1.6 * (c.x - x) ** 2
    c.blend(smile, (0.72, 0.22, 0.22))


def houses(c: Canvas) -> None:
    """A row of gabled houses along a quay."""
    quay, count = 0.8 * c.height, int(np.ceil(4 * c.width))
    walls = [(0.78, 0.35, 0.25), (0.93, 0.8, 0.5), (0.42, 0.55, 0.62), (0.88, 0.87, 0.82), (0.6, 0.25, 0.3)]
    c.fill(mix([(0.45, 0.65, 0.85), (0.85, 0.9, 0.92)], c.y / quay))
    c.blend(0.8 * edge(c.noise(3, 3) - 0.25 - c.y, 0.3), (1.0, 1.0, 1.0))
    for number in range(count):
        left, width = number * c.width / count, c.width / count
        house(c, left, width, quay - 0.46 + 0.07 * (number * 7 % 3), quay, walls[number % len(walls)])
    water = c.y > quay + 0.03
    c.blend(c.y > quay, (0.4, 0.38, 0.36))
    c.blend(water, (0.15, 0.32, 0.42))
    c.blend(water & (np.sin(2 * np.pi * (30 * c.y + c.noise(5, 2))) > 0.4), (0.4, 0.6, 0.68))


def house(c: Canvas, left: float, width: float, eaves: float, ground: float, wall: Colour) -> None:
    middle, white = left + width / 2, (0.97, 0.96, 0.92)
    below_roof = c.y - (eaves - 0.16 + 1.3 * np.abs(c.x - middle))
    inside = c.box(left, 0, left + width, ground)
    c.blend(inside & (below_roof > 0), (0.35, 0.17, 0.14))
    c.blend(c.box(left + 0.012, 0, left + width - 0.012, ground) & ((below_roof > 0.035) | (c.y > eaves)), wall)
    for top in (eaves + 0.03, eaves + 0.165, eaves + 0.3):
        for x in (middle - 0.06, middle + 0.06):
            c.blend(inside & c.box(x - 0.032, top - 0.008, x + 0.032, top + 0.078), white)
            c.blend(inside & c.box(x - 0.024, top, x + 0.024, top + 0.07), (0.12, 0.2, 0.3))
            c.blend(inside & c.box(x - 0.003, top, x + 0.003, top + 0.07), white)


# Images in the style of paintings.


def strokes(c: Canvas) -> None:
    """Swirls of short brush strokes in blue and yellow."""
    eyes = [
        (0.27 * c.width, 0.3 * c.height, 1),
        (0.72 * c.width, 0.36 * c.height, -1),
        (c.width / 2, 0.8 * c.height, 1),
    ]
    right, down = np.full_like(c.x, 0.04), 0.015 * c.noise(2)
    warmth = 0.35 + 0.25 * c.noise(3, 2)
    for x, y, turn in eyes:
        across, below = c.x - x * c.width, c.y - y * c.height
        square = across**2 + below**2
        right -= turn * np.exp(-square / 0.05) * below
        down += turn * np.exp(-square / 0.05) * across
        warmth += np.exp(-square / 0.012)
    paint = line_integral_convolution(c.random.normal(size=c.x.shape), right, down)
    colours = [(0.05, 0.1, 0.3), (0.1, 0.27, 0.55), (0.3, 0.53, 0.72), (0.65, 0.75, 0.6), (0.95, 0.8, 0.3)]
    c.fill(mix([*colours, (0.98, 0.9, 0.55)], 0.15 + 0.6 * warmth + 0.11 * np.clip(paint / paint.std(), -2.5, 2.5)))


def line_integral_convolution(values: Field, right: Field, down: Field) -> Field:
    """Blurs values along a vector field: line integral convolution (Cabral and Leedom 1993)."""
    side = min(values.shape)
    values = gaussian_filter(values, side / 160, mode="wrap")
    length = np.hypot(right, down) + 1e-9
    total = values.copy()
    for sign in (-1, 1):
        y, x = np.indices(values.shape).astype(float)
        for _ in range(side // 22):
            step = [map_coordinates(sign * way / length, [y, x], order=1, mode="nearest") for way in (down, right)]
            y, x = y + step[0], x + step[1]
            total += map_coordinates(values, [y, x], order=1, mode="grid-wrap")
    return total


def glass(c: Canvas) -> None:
    """A stained-glass window."""
    cell, near, far = c.cells(7)
    panes = np.array([(0.8, 0.1, 0.12), (0.95, 0.65, 0.1), (0.1, 0.3, 0.75), (0.1, 0.55, 0.35), (0.9, 0.85, 0.6)])
    colour = panes[c.random.integers(0, len(panes), cell.max() + 1)][cell]
    c.fill((0.03, 0.03, 0.04))
    c.blend(edge(far - near - 0.022, 0.012), colour * (0.85 + 0.25 * c.noise(6, 3)[..., None]))


SETS: dict[str, tuple[Callable[[Canvas], None], ...]] = {
    "textures": (bricks, pebbles, shingles),
    "scenes": (lake, portrait, houses),
    "paintings": (strokes, glass),
}
IMAGES = {draw.__name__: draw for functions in SETS.values() for draw in functions}


def names(which: str) -> list[str]:
    """Returns the names of the images of a set, or the name of one image; an empty list if `which` is unknown."""
    return [draw.__name__ for draw in SETS[which]] if which in SETS else [which] * (which in IMAGES)


def generate(name: str, size: tuple[int, int]) -> np.ndarray:
    """Generates the image of this name with the given height and width: uint8 H x W x 3."""
    height, width = size
    canvas = Canvas(height * SUPERSAMPLING, width * SUPERSAMPLING, int.from_bytes(name.encode(), "big") % 2**32)
    IMAGES[name](canvas)
    points = canvas.pixels.clip(0, 1).reshape(height, SUPERSAMPLING, width, SUPERSAMPLING, 3)
    return np.rint(255 * points.mean(axis=(1, 3))).astype(np.uint8)
