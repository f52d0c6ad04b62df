"""Pictures: written to the run's media/ and, where the run is logged to W&B, shown there under the same name."""

from pathlib import Path

import numpy as np
import torch
from lightning import Trainer
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor
from torchvision.utils import make_grid

from harness.wandb_run import RunLogger

DIGIT_SCALE = 2


def save_picture(trainer: Trainer, name: str, picture: Image.Image | Figure) -> None:
    """Writes `media/<name>.png` in the run folder, and logs it as media/<name>."""
    if not trainer.is_global_zero:
        return
    image = render(picture) if isinstance(picture, Figure) else picture
    folder = Path(trainer.default_root_dir) / "media"
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f".{name}.png"
    image.save(part, format="PNG")
    part.replace(folder / f"{name}.png")
    for logger in trainer.loggers:
        if isinstance(logger, RunLogger):
            logger.log_image(f"media/{name}", [image], step=trainer.global_step)


def image_grid(images: Tensor, columns: int) -> Image.Image:
    """N x C x H x W in [0, 1] -> one picture, row by row, small images enlarged."""
    grid = make_grid(images.detach().float().cpu().clamp(0, 1), nrow=columns, padding=2, pad_value=1.0)
    pixels = grid.mul(255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    if images.shape[-1] <= 64:
        picture = picture.resize((picture.width * DIGIT_SCALE, picture.height * DIGIT_SCALE), Image.Resampling.NEAREST)
    return picture


def render(figure: Figure) -> Image.Image:
    """A matplotlib figure as pixels, without pyplot and its global state."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
