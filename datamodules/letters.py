"""Capital letters as MNIST would hold them, drawn from the fonts that matplotlib brings."""

from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

LETTERS = "ACEFHJKLMNPRTUVWXY"
"""Without those that pass for a digit: B (8), D and O and Q (0), G (6), I (1), S (5), Z (2)."""
FONTS = tuple(
    f"DejaVu{family}{style}.ttf"
    for family, slanted in (("Sans", "Oblique"), ("SansMono", "Oblique"), ("Serif", "Italic"))
    for style in ("", "-Bold", f"-{slanted}", f"-Bold{slanted}")
)
_CANVAS, _POINTS, _SIZE = 96, 64, 28


def letters(n: int, seed: int = 0) -> np.ndarray:
    """White capitals on black, of random font, size, tilt and place: uint8, n x 28 x 28.

    The larger side is 16 to 20 pixels, the tilt up to 15 degrees. As in MNIST the centre of mass is in the middle
    (LeCun et al. 1998), but for a random shift by up to one pixel.
    """
    random = np.random.default_rng(seed)
    folder = Path(matplotlib.get_data_path(), "fonts", "ttf")
    fonts = [ImageFont.truetype(str(folder / name), _POINTS) for name in FONTS]
    return np.stack([_letter(LETTERS[i % len(LETTERS)], fonts[random.integers(len(fonts))], random) for i in range(n)])


def _letter(letter: str, font: ImageFont.FreeTypeFont, random: np.random.Generator) -> np.ndarray:
    canvas = Image.new("L", (_CANVAS, _CANVAS))
    ImageDraw.Draw(canvas).text((_CANVAS // 2, _CANVAS // 2), letter, fill=255, font=font, anchor="mm")
    tilted = canvas.rotate(random.uniform(-15, 15), Image.Resampling.BICUBIC)
    whole = tilted.crop(tilted.getbbox())
    scale = random.integers(16, 21) / max(whole.size)
    small = whole.resize([max(1, round(side * scale)) for side in whole.size], Image.Resampling.LANCZOS)
    ink = np.asarray(small, dtype=np.float64)
    placed = np.zeros((_SIZE, _SIZE), dtype=np.uint8)
    corner = []
    for axis, side in enumerate(ink.shape):
        mass = (ink.sum(axis=1 - axis) * np.arange(side)).sum() / ink.sum()
        wanted = round((_SIZE - 1) / 2 - mass) + random.integers(-1, 2)
        corner.append(int(np.clip(wanted, 0, _SIZE - side)))
    placed[corner[0] : corner[0] + ink.shape[0], corner[1] : corner[1] + ink.shape[1]] = ink
    return placed
