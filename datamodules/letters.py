"""Capital letters in the format of MNIST, rendered from the fonts that come with matplotlib."""

from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

LETTERS = "ACEFHJKLMNPRTUVWXY"
"""The letters that look like digits are left out: B (8), D, O and Q (0), G (6), I (1), S (5), Z (2)."""
FONTS = tuple(
    f"DejaVu{family}{style}.ttf"
    for family, slanted in (("Sans", "Oblique"), ("SansMono", "Oblique"), ("Serif", "Italic"))
    for style in ("", "-Bold", f"-{slanted}", f"-Bold{slanted}")
)
_CANVAS, _POINTS, _SIZE = 96, 64, 28


def letters(n: int, seed: int = 0) -> np.ndarray:
    """Returns images of white capital letters on black: uint8, n x 28 x 28.

    Font, size, rotation and position are random. The longer side has 16 to 20 pixels and the rotation is at most 15
    degrees. As in MNIST (LeCun et al. 1998) the centre of mass is at the centre of the image, up to a random shift of
    at most one pixel along each axis.
    """
    random = np.random.default_rng(seed)
    folder = Path(matplotlib.get_data_path(), "fonts", "ttf")
    fonts = [ImageFont.truetype(str(folder / name), _POINTS) for name in FONTS]
    return np.stack([_letter(LETTERS[i % len(LETTERS)], fonts[random.integers(len(fonts))], random) for i in range(n)])


def _letter(letter: str, font: ImageFont.FreeTypeFont, random: np.random.Generator) -> np.ndarray:
    canvas = Image.new("L", (_CANVAS, _CANVAS))
    ImageDraw.Draw(canvas).text((_CANVAS // 2, _CANVAS // 2), letter, fill=255, font=font, anchor="mm")
    rotated = canvas.rotate(random.uniform(-15, 15), Image.Resampling.BICUBIC)
    cropped = rotated.crop(rotated.getbbox())
    scale = random.integers(16, 21) / max(cropped.size)
    small = cropped.resize([max(1, round(side * scale)) for side in cropped.size], Image.Resampling.LANCZOS)
    ink = np.asarray(small, dtype=np.float64)
    placed = np.zeros((_SIZE, _SIZE), dtype=np.uint8)
    corner = []
    for axis, side in enumerate(ink.shape):
        mass = (ink.sum(axis=1 - axis) * np.arange(side)).sum() / ink.sum()
        wanted = round((_SIZE - 1) / 2 - mass) + random.integers(-1, 2)
        corner.append(int(np.clip(wanted, 0, _SIZE - side)))
    placed[corner[0] : corner[0] + ink.shape[0], corner[1] : corner[1] + ink.shape[1]] = ink
    return placed
