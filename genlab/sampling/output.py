"""Turns sampled images into pictures and data files."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from genlab.media import framed, full_row, image_grid, tile_centres
from genlab.sampling.images import to_float
from genlab.sampling.labels import PredictedLabels
from genlab.words import counted

CAPTION_HEIGHT = 17
GAP = 4


def grid(images: Tensor, columns: int) -> Image.Image:
    """Arranges images, uint8 N x C x H x W, in one picture, row by row."""
    return image_grid(to_float(images), columns)


def captioned_grid(images: Tensor, captions: Sequence[str], columns: int) -> Image.Image:
    """Like `grid`, with a caption under each image, shortened by whole words to the width of the image."""
    tiles = [image_grid(image[None], 1) for image in to_float(images)]
    columns = min(columns, len(tiles))
    width, height = tiles[0].width + GAP, tiles[0].height + CAPTION_HEIGHT
    canvas = Image.new("RGB", (columns * width, -(-len(tiles) // columns) * height), "white")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(11)
    for number, (tile, caption) in enumerate(zip(tiles, captions, strict=True)):
        left, top = number % columns * width, number // columns * height
        canvas.paste(tile, (left, top))
        words = caption.split()
        while words and font.getlength(" ".join(words)) > width:
            words.pop()
        draw.text((left + tile.width / 2, top + tile.height), " ".join(words), fill="black", font=font, anchor="ma")
    return canvas


def grid_by_class(images: Tensor, labels: PredictedLabels, names: Sequence[str], columns: int) -> Image.Image:
    """Arranges images with one class a row, the most probable ones first, at most `columns` of each class."""
    rows = []
    for label in range(len(names)):
        of_class = (labels.classes == label).nonzero()[:, 0]
        best = of_class[labels.probabilities[of_class].argsort(descending=True)][:columns]
        rows.append(full_row(images[best], columns))
    picture = grid(torch.cat(rows), columns)
    ticks = list(zip(tile_centres(picture.height, len(names)), names, strict=True))
    source = "the codes" if labels.read_from == "code" else "the images"
    title = f"{counted(len(images), 'image')} by the class predicted from {source}, most probable first"
    return framed(picture, title, yticks=ticks)


def data_arrays(images: Tensor, classes: Tensor | None) -> dict[str, np.ndarray]:
    """The arrays of a data file: one image in seven is a test image, as in MNIST. Without classes, all labels are 0."""
    pixels = images[:, 0].numpy() if images.shape[1] == 1 else images.permute(0, 2, 3, 1).numpy()
    labels = (torch.zeros(len(images)) if classes is None else classes).numpy().astype(np.uint8)
    train = len(images) - max(1, len(images) // 7)
    return {
        "x_train": pixels[:train],
        "y_train": labels[:train],
        "x_test": pixels[train:],
        "y_test": labels[train:],
    }
