"""Pictures: written to the run's media/ and, where the run is logged to W&B, shown there under the same name."""

import errno
import os
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
import torch
from lightning import Trainer
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torchvision.utils import make_grid

from genlab.runs.wandb_run import RunLogger

DIGIT_SCALE = 2
MIN_WIDTH = 320
GREY_LEVELS = 32

Ticks = Sequence[tuple[float, str]]
"""Pixels and what is written there."""
Save = Callable[[IO[bytes]], object]
"""Writes a file's contents."""


def save_picture(trainer: Trainer, name: str, picture: Image.Image | Figure) -> None:
    """Writes `media/<name>.png` in the run folder, and logs it as media/<name>."""
    if not trainer.is_global_zero:
        return
    image = render(picture) if isinstance(picture, Figure) else picture
    write_file(media_folder(trainer) / f"{name}.png", lambda file: image.save(file, format="PNG"))
    for logger in trainer.loggers:
        if isinstance(logger, RunLogger):
            logger.log_image(f"media/{name}", [image], step=trainer.global_step)


def save_gif(trainer: Trainer, name: str, frames: Sequence[Image.Image], seconds: float, last: float) -> None:
    """Writes `media/<name>.gif`, which starts over for ever, and logs it as media/<name>.

    Args:
        seconds, last: how long a frame is shown, and the last one.
    """
    if not trainer.is_global_zero:
        return
    path = media_folder(trainer) / f"{name}.gif"
    write_file(path, gif(frames, seconds, last))
    for logger in trainer.loggers:
        if isinstance(logger, RunLogger):
            logger.log_video(f"media/{name}", [str(path)], step=trainer.global_step)


def gif(frames: Sequence[Image.Image], seconds: float, last: float) -> Save:
    """What writes a GIF that starts over for ever; frames and times as in `save_gif`."""
    few = [_few_colours(frame) for frame in frames]
    held = [round(1000 * seconds)] * (len(few) - 1) + [round(1000 * last)]
    return lambda file: few[0].save(file, "GIF", save_all=True, append_images=few[1:], duration=held, loop=0)


def _few_colours(frame: Image.Image) -> Image.Image:
    """A frame in at most 256 colours, a grey one in fewer levels: half the bytes in a GIF."""
    if frame.mode == "L":
        step = 255 / (GREY_LEVELS - 1)
        return frame.point([round(round(level / step) * step) for level in range(256)])
    return frame.quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)


def media_folder(trainer: Trainer) -> Path:
    """Where the run keeps its pictures."""
    return Path(trainer.default_root_dir) / "media"


def write_file(path: Path, save: Save) -> None:
    """Writes a file beside its place and moves it there when it is whole.

    Raises:
        OSError: it could not be written; its `filename` is the path.
    """
    write_files({path: save})


def write_files(files: Mapping[Path, Save]) -> None:
    """Writes files beside their places and moves them there when all are whole: all of them, or none.

    Raises:
        OSError: one of them could not be written; its `filename` is that one's path.
    """
    parts = {path: path.with_name(f".{path.name}") for path in files}
    for path in files:
        with _blaming(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    try:
        for path, save in files.items():
            with _blaming(path), open(parts[path], "wb") as file:
                save(file)
        for path, part in parts.items():
            with _blaming(path):
                part.replace(path)
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)


@contextmanager
def _blaming(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OSError(error.errno or errno.EIO, error.strerror or str(error), str(path)) from error


def image_grid(images: Tensor, columns: int, padding: int = 2, scale: int | None = None) -> Image.Image:
    """N x C x H x W in [0, 1] -> one picture, row by row, white between them; small images are enlarged by `scale`."""
    grid = make_grid(images.detach().float().cpu().clamp(0, 1), nrow=columns, padding=padding, pad_value=1.0)
    pixels = grid.mul(255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    scale = scale or (DIGIT_SCALE if images.shape[-1] <= 64 else 1)
    return picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)


def alike(*sets: Tensor) -> list[Tensor]:
    """Sets of images, each N x C x H x W, in the shape of the largest, float32, on the CPU, to stand in one picture.

    Grey ones get equal channels, small ones larger pixels, and numbers that are none become 0.
    """
    channels, *size = (max(images.shape[k] for images in sets) for k in (1, 2, 3))
    found = []
    for images in sets:
        coloured = images.detach().float().cpu().nan_to_num().expand(-1, channels, -1, -1)
        found.append(coloured if list(coloured.shape[2:]) == size else F.interpolate(coloured, size))
    return found


def full_row(images: Tensor, columns: int) -> Tensor:
    """A row of at most that many images, N x C x H x W, filled up with white ones: columns x C x H x W."""
    white = 1 if images.is_floating_point() else 255
    return torch.cat([images, images.new_full((columns - len(images), *images.shape[1:]), white)])


def tile_centres(length: int, count: int) -> list[float]:
    """The middles of `count` equal tiles along `length` pixels."""
    return [(number + 0.5) * length / count for number in range(count)]


def framed(
    picture: Image.Image, title: str, xlabel: str = "", ylabel: str = "", xticks: Ticks = (), yticks: Ticks = ()
) -> Image.Image:
    """A picture, each of its pixels as it was, with a title above, and axes with labels at given pixels around it."""
    longest = max((len(label) for _, label in yticks), default=0)
    left = 12 + 7 * longest + (28 if ylabel else 0)
    below = 12 + (18 if xticks else 0) + (20 if xlabel else 0)
    width = max(picture.width + left + 12, MIN_WIDTH)
    lines = textwrap.wrap(title, max(20, width // 8))
    above = 14 + 18 * len(lines)
    height = above + picture.height + below
    figure = Figure(figsize=(width / 100, height / 100), dpi=100)
    box = (left / width, below / height, picture.width / width, picture.height / height)
    axes = figure.add_axes(box)
    axes.set(xlim=(0, picture.width), ylim=(picture.height, 0), xlabel=xlabel, ylabel=ylabel)
    axes.set_xticks([at for at, _ in xticks], [label for _, label in xticks], fontsize=8)
    axes.set_yticks([at for at, _ in yticks], [label for _, label in yticks], fontsize=8)
    axes.tick_params(length=2)
    axes.spines[:].set_visible(False)
    figure.text(12 / width, 1 - 8 / height, "\n".join(lines), fontsize=10, va="top")
    whole = render(figure)
    whole.paste(picture, (left, above))
    return whole


def beside(pictures: Sequence[Image.Image], upright: bool = False) -> Image.Image:
    """Pictures from left to right, or one under the other, on white."""
    sizes = np.array([picture.size for picture in pictures])
    width, height = (sizes[:, 0].max(), sizes[:, 1].sum()) if upright else (sizes[:, 0].sum(), sizes[:, 1].max())
    canvas = Image.new("RGB", (int(width), int(height)), "white")
    at = 0
    for picture in pictures:
        canvas.paste(picture, (0, at) if upright else (at, 0))
        at += picture.height if upright else picture.width
    return canvas


def render(figure: Figure) -> Image.Image:
    """A matplotlib figure as pixels, without pyplot and its global state."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
