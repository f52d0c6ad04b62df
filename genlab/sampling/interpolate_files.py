"""Interpolates between two image files in a model's latent space: `sample.py interpolate`."""

import argparse

import numpy as np
import torch

from datamodules.image_files import is_file
from genlab.latent_paths import closed_paths, interpolate_codes, prior_path
from genlab.latents import decode_all
from genlab.media import gif
from genlab.random_state import isolated_rng
from genlab.runs.errors import UsageError
from genlab.sampling.device import chosen_device
from genlab.sampling.encode_files import encode_images, encoded_channels
from genlab.sampling.images import to_uint8
from genlab.sampling.output import grid
from genlab.sampling.own_images import Reading
from genlab.sampling.sample_checkpoint import FRAME_SECONDS
from genlab.sampling.saving import save
from genlab.words import counted
from lit_models import GenerativeModule
from lit_models.common.capabilities import Decodes


@torch.no_grad()
def interpolate(options: argparse.Namespace) -> None:
    """Draws the images between two files as a row (.png), or there and back as an animation (.gif).

    Raises:
        UsageError, DataError, CheckpointError: bad input, or the file cannot be written; nothing was written.
    """
    model = GenerativeModule.load(options.checkpoint).to(chosen_device(options.device))
    if not isinstance(model, Decodes):
        raise UsageError(f"{type(model).__name__} has no codes to interpolate; give an autoencoder, a VAE, Glow or GLO")
    reader = Reading.as_trained(options, options.checkpoint).reader(encoded_channels(model))
    for path in options.input:
        if not is_file(path):
            raise UsageError(f"there is no image {path}; give two image files with --input")
    size = tuple(model.hparams["image_shape"][1:])
    pixels = np.stack([reader.read(path, size) for path in options.input])
    originals = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    animated = options.output.suffix == ".gif"
    with isolated_rng():
        starts, ends = encode_images(model, originals).split(1)
        path = prior_path(model)
        if animated:
            codes = closed_paths(torch.stack([starts, ends]), options.steps, path)[:, 0]
        else:
            codes = interpolate_codes(starts, ends, options.steps, path)[0]
        images = to_uint8(decode_all(model, codes))
    first, last = originals[:1], originals[1:]
    if animated:
        mode = "L" if images.shape[1] == 1 else "RGB"
        rows = [torch.cat([first, image[None], last]) if options.compare else image[None] for image in images]
        frames = [grid(row, len(row)).convert(mode) for row in rows]
        save({options.output: gif(frames, FRAME_SECONDS, FRAME_SECONDS)})
    else:
        row = torch.cat([first, images, last]) if options.compare else images
        picture = grid(row, len(row))
        save({options.output: lambda file: picture.save(file, format="PNG")})
    print(f"wrote {options.output}: {counted(len(images), 'image')} between {options.input[0]} and {options.input[1]}")
