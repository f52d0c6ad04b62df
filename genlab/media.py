"""Makes pictures and GIFs, saves them in the run's folder media/ and gives them to its loggers."""

import errno
import functools
import os
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from lightning import Trainer
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional as F
from torchvision.utils import make_grid

from genlab.finite import check_finite
from genlab.runs.other_loggers import log_gif, log_picture
from genlab.runs.wandb_run import RunLogger

DIGIT_SCALE = 2
MIN_WIDTH = 320
GREY_LEVELS = 32
TITLE_SIZE, TICK_SIZE = 14, 11
"""Sizes of the text beside a picture, in pixels."""

Ticks = Sequence[tuple[float, str]]
"""Positions in pixels, and the labels there."""
Save = Callable[[IO[bytes]], object]
"""Writes the content of a file."""


def save_picture(trainer: Trainer, name: str, picture: Image.Image | Figure) -> None:
    """Writes `media/<name>.png` in the run folder, and logs it as media/<name>."""
    if not trainer.is_global_zero:
        return
    image = render(picture) if isinstance(picture, Figure) else picture
    write_file(media_folder(trainer) / f"{name}.png", lambda file: image.save(file, format="PNG"))
    for logger in trainer.loggers:
        if isinstance(logger, RunLogger):
            logger.log_image(f"media/{name}", [image], step=batches_so_far(trainer))
        else:
            log_picture(logger, f"media/{name}", image, batches_so_far(trainer))


def save_gif(trainer: Trainer, name: str, frames: Sequence[Image.Image], seconds: float, last: float) -> None:
    """Writes `media/<name>.gif`, which repeats for ever, in the run folder, and logs it as media/<name>.

    Args:
        trainer: The trainer of the run.
        name: The name without a suffix.
        frames: The pictures, all of one size.
        seconds: How long each frame but the last is shown, in seconds.
        last: How long the last frame is shown, in seconds.
    """
    if not trainer.is_global_zero:
        return
    path = media_folder(trainer) / f"{name}.gif"
    write_file(path, gif(frames, seconds, last))
    for logger in trainer.loggers:
        if isinstance(logger, RunLogger):
            logger.log_video(f"media/{name}", [str(path)], step=batches_so_far(trainer))
        else:
            log_gif(logger, f"media/{name}", path, batches_so_far(trainer))


def batches_so_far(trainer: Trainer) -> int:
    """The number of training batches so far, by which Lightning logs metrics; global_step counts each optimizer."""
    return trainer.fit_loop.epoch_loop._batches_that_stepped


def gif(frames: Sequence[Image.Image], seconds: float, last: float) -> Save:
    """A function that writes a GIF that repeats for ever; the arguments are those of `save_gif`."""
    reduced = [_reduce_colours(frame) for frame in frames]
    durations = [round(1000 * seconds)] * (len(reduced) - 1) + [round(1000 * last)]
    options: dict[str, Any] = {"save_all": True, "append_images": reduced[1:], "duration": durations, "loop": 0}
    return lambda file: reduced[0].save(file, "GIF", **options)


def _reduce_colours(frame: Image.Image) -> Image.Image:
    """Reduces a frame to 256 colours, and a grey one to 32 levels, which halves the size of a GIF."""
    if frame.mode == "L":
        step = 255 / (GREY_LEVELS - 1)
        return frame.point([round(round(level / step) * step) for level in range(256)])
    return frame.quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)


def media_folder(trainer: Trainer) -> Path:
    """The folder of the run's pictures."""
    return Path(trainer.default_root_dir) / "media"


def write_file(path: Path, save: Save) -> None:
    """Writes a file atomically: to a temporary file in the same folder, which is renamed once it is complete.

    Raises:
        OSError: The file could not be written; `filename` of the error is the path.
    """
    write_files({path: save})


def write_files(files: Mapping[Path, Save]) -> None:
    """Writes several files atomically: all of them, or none.

    Raises:
        OSError: A file could not be written; `filename` of the error is its path.
    """
    temporary = {path: path.with_name(f".{path.name}") for path in files}
    for path in files:
        with _naming(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    try:
        for path, save in files.items():
            with _naming(path), open(temporary[path], "wb") as file:
                save(file)
        for path, part in temporary.items():
            with _naming(path):
                part.replace(path)
    finally:
        for part in temporary.values():
            part.unlink(missing_ok=True)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Sets the path as the `filename` of an OSError."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno or errno.EIO, error.strerror or str(error), str(path)) from error


def image_grid(images: Tensor, columns: int, padding: int = 2, scale: int | None = None) -> Image.Image:
    """Arranges images, N x C x H x W in [0, 1], in one picture, row by row.

    Args:
        images: The images.
        columns: Images in a row.
        padding: White pixels between images.
        scale: Factor by which pixels are enlarged; None for 2 for images of at most 64 pixels a side, else 1.

    Raises:
        NotFiniteError: A pixel is NaN or infinite.
    """
    tiles = check_finite(images, "images").detach().float().cpu().clamp(0, 1)
    grid = make_grid(tiles, nrow=columns, padding=padding, pad_value=1.0)
    pixels = grid.mul(255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    scale = scale or (DIGIT_SCALE if max(images.shape[2:]) <= 64 else 1)
    return picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)


def to_same_shape(*sets: Tensor) -> list[Tensor]:
    """Brings sets of images, each N x C x H x W, to one shape, so that they fit into one picture: float32, on the CPU.

    Grey images get three equal channels, and small images are enlarged by nearest-neighbour interpolation.
    """
    channels, *size = (max(images.shape[k] for images in sets) for k in (1, 2, 3))
    found = []
    for images in sets:
        coloured = images.detach().float().cpu().expand(-1, channels, -1, -1)
        found.append(coloured if list(coloured.shape[2:]) == size else F.interpolate(coloured, size))
    return found


def full_row(images: Tensor, columns: int) -> Tensor:
    """Fills a row of at most `columns` images, N x C x H x W, with white images: columns x C x H x W."""
    white = 1 if images.is_floating_point() else 255
    return torch.cat([images, images.new_full((columns - len(images), *images.shape[1:]), white)])


def tile_centres(length: int, count: int) -> list[float]:
    """The centres of `count` equal tiles along `length` pixels."""
    return [(number + 0.5) * length / count for number in range(count)]


def framed(
    picture: Image.Image, title: str, xlabel: str = "", ylabel: str = "", xticks: Ticks = (), yticks: Ticks = ()
) -> Image.Image:
    """Adds a title and axes to a picture, whose pixels stay as they are.

    Args:
        picture: The picture.
        title: The title above it, wrapped to its width.
        xlabel, ylabel: Labels of the axes.
        xticks, yticks: Positions in pixels and their labels.
    """
    longest = max((len(label) for _, label in yticks), default=0)
    left = 12 + 7 * longest + (28 if ylabel else 0)
    below = 12 + (18 if xticks else 0) + (20 if xlabel else 0)
    width = max(picture.width + left + 12, MIN_WIDTH)
    lines = textwrap.wrap(title, max(20, width // 8))
    above = 14 + 18 * len(lines)
    height = above + picture.height + below
    whole = Image.new("RGB", (width, height), "white")
    whole.paste(picture, (left, above))
    pen = ImageDraw.Draw(whole)
    pen.multiline_text((12, 6), "\n".join(lines), "black", _font(TITLE_SIZE), spacing=4)
    bottom = above + picture.height
    for at, label in xticks:
        pen.line((left + at, bottom, left + at, bottom + 2), "black")
        pen.text((left + at, bottom + 5), label, "black", _font(TICK_SIZE), "ma")
    for at, label in yticks:
        pen.line((left - 3, above + at, left - 1, above + at), "black")
        pen.text((left - 6, above + at), label, "black", _font(TICK_SIZE), "rm")
    pen.text((left + picture.width / 2, height - 11), xlabel, "black", _font(TITLE_SIZE), "ms")
    if ylabel:
        beside = Image.new("RGB", (picture.height, 20), "white")
        ImageDraw.Draw(beside).text((picture.height / 2, 10), ylabel, "black", _font(TITLE_SIZE), "mm")
        whole.paste(beside.rotate(90, expand=True), (4, above))
    return whole


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """The font of matplotlib's charts, in pixels."""
    return ImageFont.truetype(findfont("DejaVu Sans"), size)


def join_pictures(pictures: Sequence[Image.Image], vertical: bool = False) -> Image.Image:
    """Joins pictures from left to right, or from top to bottom if `vertical`, on white."""
    sizes = np.array([picture.size for picture in pictures])
    width, height = (sizes[:, 0].max(), sizes[:, 1].sum()) if vertical else (sizes[:, 0].sum(), sizes[:, 1].max())
    canvas = Image.new("RGB", (int(width), int(height)), "white")
    at = 0
    for picture in pictures:
        canvas.paste(picture, (0, at) if vertical else (at, 0))
        at += picture.height if vertical else picture.width
    return canvas


def render(figure: Figure) -> Image.Image:
    """Draws a matplotlib figure as an image, without pyplot and its global state."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
