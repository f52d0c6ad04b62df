import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import LightningModule, Trainer
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from genlab.callbacks.picture import PictureCallback
from genlab.figures import scatter_figure, second_label_name
from genlab.finite import check_finite
from genlab.latent_planes import PRIOR_PLANE, has_prior_plane, normal_quantiles, plane_grid, project_to_plane
from genlab.latents import class_block, decode_all, encode_all, latent_blocks, with_every_class
from genlab.media import image_grid, media_folder, save_gif, to_same_shape, write_file
from genlab.random_state import isolated_rng
from lit_models.common.capabilities import (
    Decodes,
    Encodes,
    HasLatentBlocks,
    HasOptimizedImages,
    Reconstructs,
    Samples,
    Translates,
)

Arrays = dict[str, np.ndarray]
TITLE_HEIGHT = 28
OPTIMIZED_COLUMNS = 4
"""Columns of the grid of an image optimization."""


class TrainingGif(PictureCallback):
    """Saves media/<model>_grid.gif, images of the model after each epoch, and media/<model>_latent.gif, its codes.

    A frame is saved before the first epoch and after every n-th one, as media/frames/<epoch>.npz. The GIFs are made
    from these files after the test, so that a run that was stopped and resumed has each epoch once.

    Every frame of the grid shows images from the same codes or inputs:

    - models with a two-dimensional normal prior: a grid on the latent plane;
    - class-conditional models: one noise a row and one class a column;
    - other models that sample: the same samples of the prior or of the random generator;
    - models without a prior: reconstructions of the same images;
    - image-to-image translation: the same images and their translations in alternating columns, for each direction;
    - image optimization: all images.

    The second GIF is a scatter plot of the codes of the same validation images, with the same axes in all frames. Codes
    of more than two dimensions are projected on the principal components of the last frame.

    An epoch whose images or codes are NaN or infinite has no frame.

    Args:
        every_n_epochs: Least number of epochs between two frames; more if the training is too long for `max_frames`;
            0 for no GIFs.
        num_images: Largest number of images in the grid, which is square, or has whole rows of all classes and at least
            one row.
        num_codes: Codes in the scatter plot.
        max_frames: Largest number of frames. Frames of a longer training are left out evenly; the first and the last
            one stay.
        seconds: How long each frame but the last is shown, in seconds.
        last: How long the last frame is shown, in seconds.

    Raises:
        ValueError: `every_n_epochs` is negative or `max_frames` below 2.
    """

    def __init__(
        self,
        every_n_epochs: int = 1,
        num_images: int = 64,
        num_codes: int = 1000,
        max_frames: int = 60,
        seconds: float = 0.15,
        last: float = 3.0,
    ) -> None:
        if every_n_epochs < 0 or max_frames < 2:
            raise ValueError(
                f"training_gif.every_n_epochs is {every_n_epochs} and training_gif.max_frames {max_frames};"
                " they must be at least 0 and 2"
            )
        self.every_n_epochs = every_n_epochs
        self.num_images = num_images
        self.num_codes = num_codes
        self.max_frames = max_frames
        self.seconds = seconds
        self.last = last

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self.every_n_epochs or not trainer.is_global_zero:
            return
        for path in frame_paths(trainer):
            if int(path.stem) > trainer.current_epoch:  # this epoch will be trained again
                path.unlink()
        if trainer.global_step == 0:
            self._save_frame(trainer, pl_module, 0)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self.every_n_epochs or not trainer.is_global_zero:
            return
        epoch, epochs = trainer.current_epoch + 1, max(trainer.max_epochs or 0, 0)
        spacing = math.ceil(epochs / (self.max_frames - 1))  # at most `max_frames` frames
        if epoch % max(self.every_n_epochs, spacing) == 0 or epoch == epochs:
            self._save_frame(trainer, pl_module, epoch)

    def draw(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self.every_n_epochs:
            return
        frames = read_frames(frame_paths(trainer), self.max_frames)
        if not frames:
            return
        name = type(pl_module).__name__.lower()
        data = trainer.datamodule  # type: ignore[attr-defined]
        if all("images" in arrays for _, arrays in frames):
            save_gif(trainer, f"{name}_grid", grid_frames(frames), self.seconds, self.last)
        if all("codes" in arrays for _, arrays in frames):
            width = frames[0][1]["codes"].shape[1]
            categorical = all(block.kind == "categorical" for block in latent_blocks(pl_module, width))
            pictures = scatter_frames(frames, data.classes, second_label_name(data), categorical)
            save_gif(trainer, f"{name}_latent", pictures, self.seconds, self.last)

    def _save_frame(self, trainer: Trainer, model: LightningModule, epoch: int) -> None:
        """Saves one frame. The model, its training mode and the random state stay as they are."""
        if not isinstance(model, Decodes | Samples | Reconstructs | Translates | HasOptimizedImages):
            return
        with self.leaving_out(), evaluating(model), isolated_rng():
            arrays = self._arrays(trainer, model)
            if arrays:
                path = media_folder(trainer) / "frames" / f"{epoch:05d}.npz"
                write_file(path, lambda file: np.savez_compressed(file, **arrays))  # type: ignore[arg-type]

    def _arrays(self, trainer: Trainer, model: Any) -> Arrays:
        """The arrays of a frame: images (uint8 N x C x H x W), grid columns, codes (N x d), labels (N or N x 2)."""
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        split = "val" if data.val_size else "train"
        arrays: Arrays = {}
        optimizes = isinstance(model, HasOptimizedImages)
        images = model.optimized_images()[: self.num_images] if optimizes else self._images(model, data, split)
        if images is not None:
            arrays["images"] = check_finite(images, "images").float().clamp(0, 1).mul(255).round().byte().cpu().numpy()
            arrays["columns"] = np.array(self._columns(model, len(images)))
        if isinstance(model, Encodes) and self.num_codes > 1:
            examples, labels = data.examples(split, self.num_codes)
            codes = check_finite(encode_all(model, examples).cpu(), "codes")
            if codes.ndim == 2 and codes.shape[1] > 1:
                arrays["codes"] = codes.clamp(-6e4, 6e4).half().numpy()
                arrays["labels"] = labels.cpu().numpy()
        return arrays

    def _columns(self, model: LightningModule, count: int) -> int:
        """The number of columns of a grid of `count` images."""
        if isinstance(model, Translates):
            return translation_columns(model, int(self.num_images**0.5))
        if isinstance(model, HasOptimizedImages):
            return min(count, OPTIMIZED_COLUMNS)
        block = class_block(model)
        return block.categories if block else round(count**0.5)

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


def grid_codes(model: Any, max_images: int) -> Tensor:
    """The codes of the images in the grid, N x d, row by row. Random codes use torch's global generator."""
    steps, block = int(max_images**0.5), class_block(model)
    if block is not None:
        return with_every_class(model.sample_prior(max(1, max_images // block.categories)), block)
    if has_prior_plane(model):
        return plane_grid(PRIOR_PLANE.centre, PRIOR_PLANE.directions, normal_quantiles(steps))
    return model.sample_prior(steps**2)


def translation_columns(model: Any, max_columns: int = 1) -> int:
    """The number of columns, at most `max_columns`, of whole sets of originals and translations in all directions.

    There is always at least one set.
    """
    set_size = 2 * len(model.directions)
    return set_size * max(1, max_columns // set_size)


def translation_tiles(model: Any, sources: Tensor, targets: Tensor) -> Tensor:
    """N sources, and for a model of two directions N targets, each followed by its translation: 2 N or 4 N images."""
    columns = []
    for direction in model.directions:
        originals = sources if direction == "ab" else targets
        columns += [originals, model.translate(originals.to(model.device, model.dtype), direction)]
    return torch.stack(to_same_shape(*columns), dim=1).flatten(0, 1)


def frame_paths(trainer: Trainer) -> list[Path]:
    """The files of a run's frames, in the order of epochs."""
    return sorted(path for path in (media_folder(trainer) / "frames").glob("*.npz") if path.stem.isdigit())


def read_frames(paths: list[Path], max_frames: int) -> list[tuple[int, Arrays]]:
    """Reads at most `max_frames` frames, evenly spread and with the first and the last one: epochs and arrays."""
    spread = {round(k * (len(paths) - 1) / (max_frames - 1)) for k in range(max_frames)}
    kept = [paths[k] for k in sorted(spread)] if len(paths) > max_frames else paths
    frames = []
    for path in kept:
        with np.load(path) as arrays:
            frames.append((int(path.stem), dict(arrays)))
    return frames


def grid_frames(frames: list[tuple[int, Arrays]]) -> list[Image.Image]:
    """The images of each frame as a picture with its epoch."""
    pictures = []
    for epoch, arrays in frames:
        images = torch.from_numpy(arrays["images"]).float() / 255
        columns = arrays.get("columns", len(images) ** 0.5)  # without columns, square
        grid = image_grid(images, round(float(columns)), 0)
        picture = Image.new("RGB", (grid.width, grid.height + TITLE_HEIGHT), "white")
        picture.paste(grid, (0, TITLE_HEIGHT))
        font = ImageFont.load_default(TITLE_HEIGHT * 0.65)
        ImageDraw.Draw(picture).text((grid.width / 2, TITLE_HEIGHT / 2), f"epoch {epoch}", "black", font, anchor="mm")
        pictures.append(picture.convert("L") if images.shape[1] == 1 else picture)
    return pictures


def scatter_frames(
    frames: list[tuple[int, Arrays]], classes: tuple[str, ...], angle: str, categorical: bool
) -> list[Image.Image]:
    """The codes of each frame as a scatter plot with its epoch, all on axes that hold the points of all frames.

    Args:
        frames: Epochs and arrays.
        classes: Names of the classes.
        angle: Name of the second column of the labels, such as hue or angle.
        categorical: The codes are one-hot.
    """
    codes = [torch.from_numpy(arrays["codes"]).float() for _, arrays in frames]
    projected = [project_to_plane(of_epoch, categorical, codes[-1]) for of_epoch in codes]
    all_points = torch.cat([points for points, _ in projected])
    low, high = all_points.amin(dim=0), all_points.amax(dim=0)
    margin = 0.04 * (high - low).clamp(min=1e-6)
    (left, bottom), (right, top) = (low - margin).tolist(), (high + margin).tolist()
    points, names = projected[-1]
    labels = torch.from_numpy(frames[-1][1]["labels"])
    figure = scatter_figure(points, names, labels, classes, angle, ((left, right), (bottom, top)))
    return list(_animate(figure, [epoch for epoch, _ in frames], [points.numpy() for points, _ in projected]))


def _animate(figure: Figure, epochs: list[int], places: list[np.ndarray]) -> Iterator[Image.Image]:
    """Draws the figure with its points at each of the places. Only the points and the title are drawn each time."""
    canvas = FigureCanvasAgg(figure)
    title = figure.suptitle("epoch")
    canvas.draw()
    figure.set_layout_engine("none")
    dots = [(axes, found) for axes in figure.axes for found in axes.collections if isinstance(found, PathCollection)]
    for artist in (title, *(collection for _, collection in dots)):
        artist.set_animated(True)
    canvas.draw()
    background = canvas.copy_from_bbox(figure.bbox)
    for epoch, points in zip(epochs, places, strict=True):
        canvas.restore_region(background)
        title.set_text(f"epoch {epoch}")
        figure.draw_artist(title)
        for axes, collection in dots:
            collection.set_offsets(points)
            axes.draw_artist(collection)
        yield Image.fromarray(np.asarray(canvas.buffer_rgba()).copy()).convert("RGB")


@contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Puts the model into evaluation mode within the context, and restores the mode of each module after it."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training
