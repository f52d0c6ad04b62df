"""Small folders of image files."""

from pathlib import Path

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 6, 8


def numbered(number: int) -> np.ndarray:
    """An image of H x W x 3 in which red is the number, green 0, and blue brighter to the right."""
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    pixels[..., 0] = number
    pixels[..., 2] = np.linspace(0, 210, WIDTH, dtype=np.uint8)
    return pixels


def write_images(folder: Path, numbers: range, suffix: str = ".png") -> Path:
    """Writes `numbered` images that are named by their numbers, less the first; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, number in enumerate(numbers):
        Image.fromarray(numbered(number)).save(folder / f"{name:03}{suffix}")
    return folder
