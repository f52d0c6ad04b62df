"""Pictures over time: the same images and codes after each epoch, as GIFs."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from genlab.figures import scatter_figure, second_label_name
from genlab.latent_planes import PRIOR_PLANE, has_prior_plane, normal_quantiles, plane_grid, project_to_plane
from genlab.latents import class_block, decode_all, encode_all, latent_blocks, with_every_class
from genlab.media import to_same_shape, image_grid, media_folder, save_gif, write_file
from genlab.random_state import isolated_rng
from lit_models.common.capabilities import Decodes, Encodes, HasLatentBlocks, Reconstructs, Samples, Translates
from lit_models.common.image_optimization import HasOptimizedImages

Arrays = dict[str, np.ndarray]
TITLE_HEIGHT = 28
HELD_COLUMNS = 4
"""Of the grid of a model that makes a certain number of images and no others."""


class TrainingGif(Callback):
    """How a model that makes images learns: media/<model>_grid.gif and media/<model>_latent.gif.

    A snapshot is taken before the first epoch and after each n-th one, in media/frames/<epoch>.npz, and the films are
    made of these files after the test, so that a run that was stopped and resumed has each epoch once. The grid shows
    the same points of the latent space each time: its plane for two normal numbers, else draws of the prior, the same
    random draws of a model without codes, or reconstructions of the same images where there is no prior; all images of
    a model that makes a certain number and no others. For a model that can be asked for a class it has one draw of the
    prior a row and one class a column; for one that translates images it has the same ones and their translations in
    alternating columns, one direction beside the other. The scatter shows the codes of the same validation images, on
    the same axes in all frames; codes of more than two numbers on the principal components of the last frame.

    Args:
        every_n_epochs: at least so many epochs apart, more in a training too long for `most_frames`; 0 for no films.
        num_images: in the grid; the largest square number of at most so many, or as many rows of all classes as hold
            at most so many, and one at least.
        num_codes: in the scatter.
        most_frames: a longer training_gif is thinned out evenly; the first and the last frame stay.
        seconds, last: how long a frame is shown, and the last one.
    """

    def __init__(
        self,
        every_n_epochs: int = 1,
        num_images: int = 64,
        num_codes: int = 1000,
        most_frames: int = 60,
        seconds: float = 0.15,
        last: float = 3.0,
    ) -> None:
        if every_n_epochs < 0 or most_frames < 2:
            raise ValueError(
                f"training_gif.every_n_epochs is {every_n_epochs} and training_gif.most_frames {most_frames};"
                " they must be at least 0 and 2"
            )
        self.every_n_epochs = every_n_epochs
        self.num_images = num_images
        self.num_codes = num_codes
        self.most_frames = most_frames
        self.seconds = seconds
        self.last = last

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self.every_n_epochs or not trainer.is_global_zero:
            return
        for path in frame_paths(trainer):
            if int(path.stem) > trainer.current_epoch:  # will be trained again
                path.unlink()
        if trainer.global_step == 0:
            self._take(trainer, pl_module, 0)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self.every_n_epochs or not trainer.is_global_zero:
            return
        done, epochs = trainer.current_epoch + 1, max(trainer.max_epochs or 0, 0)
        enough = math.ceil(epochs / (self.most_frames - 1))  # no more than the training_gif has room for
        if done % max(self.every_n_epochs, enough) == 0 or done == epochs:
            self._take(trainer, pl_module, done)

    @torch.no_grad()
    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self.every_n_epochs or not trainer.is_global_zero:
            return
        frames = read_frames(frame_paths(trainer), self.most_frames)
        if not frames:
            return
        name = type(pl_module).__name__.lower()
        data = trainer.datamodule  # type: ignore[attr-defined]
        if all("images" in arrays for _, arrays in frames):
            save_gif(trainer, f"{name}_grid", grid_frames(frames), self.seconds, self.last)
        if all("codes" in arrays for _, arrays in frames):
            width = frames[0][1]["codes"].shape[1]
            categorical = all(part.kind == "categorical" for part in latent_blocks(pl_module, width))
            drawn = scatter_frames(frames, data.classes, second_label_name(data), categorical)
            save_gif(trainer, f"{name}_latent", drawn, self.seconds, self.last)

    def _take(self, trainer: Trainer, model: LightningModule, epoch: int) -> None:
        """Writes one frame; the model, its training mode and the random streams stay as they are."""
        with evaluating(model), isolated_rng(), torch.no_grad():
            arrays = self._arrays(trainer, model)
        if arrays:
            path = media_folder(trainer) / "frames" / f"{epoch:05d}.npz"
            write_file(path, lambda file: np.savez_compressed(file, **arrays))  # type: ignore[arg-type]

    def _arrays(self, trainer: Trainer, model: Any) -> Arrays:
        """images: uint8, N x C x H x W, in the order of the grid of `columns`; codes: N x d; labels: N (x 2)."""
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        split = "val" if data.val_size else "train"
        arrays: Arrays = {}
        makes_images = isinstance(model, Decodes | Samples | Reconstructs | Translates | HasOptimizedImages)
        if not makes_images:
            return {}
        held = isinstance(model, HasOptimizedImages)
        images = model.optimized_images()[: self.num_images] if held else self._images(model, data, split)
        if images is not None:
            arrays["images"] = images.float().clamp(0, 1).mul(255).round().byte().cpu().numpy()
            arrays["columns"] = np.array(self._columns(model, len(images)))
        if isinstance(model, Encodes) and self.num_codes > 1:
            examples, labels = data.examples(split, self.num_codes)
            codes = encode_all(model, examples).cpu()
            if codes.ndim == 2 and codes.shape[1] > 1:
                arrays["codes"] = codes.clamp(-6e4, 6e4).half().numpy()
                arrays["labels"] = labels.cpu().numpy()
        return arrays

    def _columns(self, model: LightningModule, count: int) -> int:
        """Of a grid of so many images."""
        if isinstance(model, Translates):
            return translation_columns(model, int(self.num_images**0.5))
        if isinstance(model, HasOptimizedImages):
            return min(count, HELD_COLUMNS)
        part = class_block(model)
        return part.categories if part else round(count**0.5)

    def _images(self, model: LightningModule, data: Any, split: str) -> Tensor | None:
        steps = int(self.num_images**0.5)
        if steps < 1:
            return None
        if isinstance(model, Translates):
            rows = max(1, self.num_images // translation_columns(model, steps))
            count = rows * translation_columns(model, steps) // translation_columns(model)
            return translation_tiles(model, *data.examples(split, count))
        if isinstance(model, HasLatentBlocks) and isinstance(model, Decodes):
            return decode_all(model, grid_codes(model, self.num_images))
        if isinstance(model, Samples):
            return model.sample(steps**2)
        if isinstance(model, Reconstructs):
            images, _ = data.examples(split, steps**2)
            return model.reconstruct(images.to(model.device, model.dtype))
        return None


def grid_codes(model: Any, most: int) -> Tensor:
    """The codes of the grid's images, N x d, row by row; random ones by torch's global generator."""
    steps, part = int(most**0.5), class_block(model)
    if part is not None:
        return with_every_class(model.sample_prior(max(1, most // part.categories)), part)
    if has_prior_plane(model):
        return plane_grid(PRIOR_PLANE.centre, PRIOR_PLANE.directions, normal_quantiles(steps))
    return model.sample_prior(steps**2)


def translation_columns(model: Any, most: int = 1) -> int:
    """At most so many that hold whole sets of originals and translations in all directions, and one set at least."""
    of_one_set = 2 * len(model.directions)
    return of_one_set * max(1, most // of_one_set)


def translation_tiles(model: Any, sources: Tensor, targets: Tensor) -> Tensor:
    """N sources, and for a model of two directions N targets, each before its translation: 2 N x C x H x W, or 4 N."""
    columns = []
    for direction in model.directions:
        given = sources if direction == "ab" else targets
        columns += [given, model.translate(given.to(model.device, model.dtype), direction)]
    return torch.stack(to_same_shape(*columns), dim=1).flatten(0, 1)


def frame_paths(trainer: Trainer) -> list[Path]:
    """The snapshots of a run, by epoch."""
    return sorted(path for path in (media_folder(trainer) / "frames").glob("*.npz") if path.stem.isdigit())


def read_frames(paths: list[Path], most: int) -> list[tuple[int, Arrays]]:
    """Epochs and arrays of at most `most` snapshots, evenly spread, the first and the last among them."""
    kept = sorted({round(k * (len(paths) - 1) / (most - 1)) for k in range(most)}) if len(paths) > most else None
    frames = []
    for path in paths if kept is None else [paths[k] for k in kept]:
        with np.load(path) as arrays:
            frames.append((int(path.stem), dict(arrays)))
    return frames


def grid_frames(frames: list[tuple[int, Arrays]]) -> list[Image.Image]:
    """Each snapshot's images as a picture with its epoch."""
    drawn = []
    for epoch, arrays in frames:
        images = torch.from_numpy(arrays["images"]).float() / 255
        columns = arrays.get("columns", len(images) ** 0.5)  # older frames are square
        grid = image_grid(images, round(float(columns)), 0)
        picture = Image.new("RGB", (grid.width, grid.height + TITLE_HEIGHT), "white")
        picture.paste(grid, (0, TITLE_HEIGHT))
        font = ImageFont.load_default(TITLE_HEIGHT * 0.65)
        ImageDraw.Draw(picture).text((grid.width / 2, TITLE_HEIGHT / 2), f"epoch {epoch}", "black", font, anchor="mm")
        drawn.append(picture.convert("L") if images.shape[1] == 1 else picture)
    return drawn


def scatter_frames(
    frames: list[tuple[int, Arrays]], classes: tuple[str, ...], angle: str, categorical: bool
) -> list[Image.Image]:
    """Each snapshot's codes as a picture with its epoch, all on the same axes, which hold the points of all of them.

    Args:
        angle: what a second column of the labels is, hue or angle.
        categorical: the codes are one-hot.
    """
    codes = [torch.from_numpy(arrays["codes"]).float() for _, arrays in frames]
    flattened = [project_to_plane(of_epoch, categorical, codes[-1]) for of_epoch in codes]
    every = torch.cat([points for points, _ in flattened])
    low, high = every.amin(dim=0), every.amax(dim=0)
    margin = 0.04 * (high - low).clamp(min=1e-6)
    (left, bottom), (right, top) = (low - margin).tolist(), (high + margin).tolist()
    points, names = flattened[-1]
    labels = torch.from_numpy(frames[-1][1]["labels"])
    figure = scatter_figure(points, names, labels, classes, angle, ((left, right), (bottom, top)))
    return list(_moving(figure, [epoch for epoch, _ in frames], [points.numpy() for points, _ in flattened]))


def _moving(figure: Figure, epochs: list[int], places: list[np.ndarray]) -> Iterator[Image.Image]:
    """The figure with its points at one place after the other; all but points and title is drawn only once."""
    canvas = FigureCanvasAgg(figure)
    title = figure.suptitle("epoch")
    canvas.draw()
    figure.set_layout_engine("none")
    moving = [(axes, drawn) for axes in figure.axes for drawn in axes.collections if isinstance(drawn, PathCollection)]
    for artist in (title, *(drawn for _, drawn in moving)):
        artist.set_animated(True)
    canvas.draw()
    ground = canvas.copy_from_bbox(figure.bbox)
    for epoch, points in zip(epochs, places, strict=True):
        canvas.restore_region(ground)
        title.set_text(f"epoch {epoch}")
        figure.draw_artist(title)
        for axes, drawn in moving:
            drawn.set_offsets(points)
            axes.draw_artist(drawn)
        yield Image.fromarray(np.asarray(canvas.buffer_rgba()).copy()).convert("RGB")


@contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode, with each module's own mode given back after."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training
