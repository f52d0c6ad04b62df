"""Images out of a trained model: drawn, labelled, written. The work of sample.py."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import yaml
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from datamodules import DataError, ImageDataModule, data_modules
from genlab.latent_paths import CodePath, prior_path, straight
from genlab.latents import class_block, encode_all, latent_blocks, sample_gaussian_mixture, with_class
from genlab.media import framed, full_row, image_grid, tile_centres
from genlab.runs.errors import UsageError, describe_error
from genlab.runs.folder import run_of_checkpoint
from lit_models import CheckpointError, Classifier, GenerativeModule, Probe
from lit_models.common.capabilities import Decodes, Encodes, HasLatentBlocks, LatentBlock, Samples
from lit_models.common.image_optimization import HasOptimizedImages
from lit_models.losses.classification import class_of

Law = Literal["prior", "mixture", "gaussian"]
BATCH = 500
MOST_CODES = 10000
"""Training images that a law is fitted to."""
CAPTION_HEIGHT = 17
GAP = 4


class Labels(NamedTuple):
    """Classes, int64 N, the probability of each, float32 N, and what they were read from."""

    classes: Tensor
    probabilities: Tensor
    read_from: Literal["code", "image"]


class Sampler:
    """Draws codes and images of a model by one law, which is fitted to codes of training images where it is no prior.

    Args:
        model: in evaluation mode.
        law: prior, mixture of Gaussians, or one Gaussian; None: the prior where the model has one, else the mixture.
        data: gives the training data; asked only when a law is to be fitted.
        components: Gaussians in the mixture.
        seed: of the fit and of what is drawn of the fitted law; priors draw from torch's global generator.

    Raises:
        UsageError: the model makes no images, or not by this law.
    """

    def __init__(
        self,
        model: GenerativeModule,
        law: Law | None,
        data: Callable[[], ImageDataModule],
        components: int = 10,
        seed: int = 0,
    ) -> None:
        kind = type(model).__name__
        has_prior = isinstance(model, Samples | HasLatentBlocks | HasOptimizedImages)
        fits = isinstance(model, Encodes) and isinstance(model, Decodes)
        if not has_prior and not fits:
            raise UsageError(f"a {kind} makes no images; name the checkpoint of a model that does")
        self.law: Law = law or ("prior" if has_prior else "mixture")
        if self.law == "prior" and not has_prior:
            raise UsageError(f"{kind} has no prior to draw from; use --law mixture, which is fitted to training images")
        if self.law != "prior" and not fits:
            raise UsageError(f"{kind} has no codes to fit a law to; use --law prior")
        self.model: Any = model
        self.data = data
        self.components = components if self.law == "mixture" else 1
        self.seed = seed

    @property
    def most(self) -> float:
        """Images that the model can make."""
        return len(self.model.optimized_images()) if isinstance(self.model, HasOptimizedImages) else math.inf

    def has_codes(self, label: int | None = None) -> bool:
        """Whether images, of a class if there is one, are made of codes."""
        if not isinstance(self.model, Decodes) or self.law != "prior":
            return isinstance(self.model, Decodes)
        return isinstance(self.model, HasLatentBlocks) and (label is None or class_block(self.model) is not None)

    @torch.no_grad()
    def draw(self, n: int, label: int | None = None) -> tuple[Tensor, Tensor | None]:
        """New images of any class or of one, uint8 N x C x H x W, and their codes, N x d, if any; on the CPU.

        Raises:
            UsageError: there is no such class, or no way to ask for one.
            DataError: the training data cannot be had.
            CheckpointError: what the model makes is not finite.
        """
        if label is not None and self.law == "prior":
            self._check_class(label)
        if self.has_codes(label):
            codes = self.codes(n, label)
            return self.decode(codes), codes
        if isinstance(self.model, HasOptimizedImages):
            held = self.model.optimized_images()
            if n > len(held):
                raise UsageError(
                    f"{type(self.model).__name__} holds {len(held)} images; give --count {len(held)} or less"
                )
            return as_bytes(held[:n]), None
        counts = [min(BATCH, n - start) for start in range(0, n, BATCH)]
        return torch.cat([as_bytes(self.model.sample(count, label)) for count in counts]), None

    @torch.no_grad()
    def codes(self, n: int, label: int | None = None) -> Tensor:
        """n x d, on the CPU; raises as `draw`."""
        if self.law == "prior":
            drawn = self.model.sample_prior(n).float().cpu()
            return drawn if label is None else self._of_class(drawn, label)
        codes, parts = self._training_codes(label)
        if not torch.isfinite(codes).all():
            raise CheckpointError("the model's codes are not finite; train it again")
        return sample_gaussian_mixture(codes, parts, self.components, n, self.seed)

    def stops(self, count: int, places: int, label: int | None = None) -> Tensor:
        """Codes for walks through so many places, places x count x d; a walk keeps to its first place's class, if any.

        Raises as `draw`.
        """
        stops = self.codes(places * count, label).unflatten(0, (places, count))
        part = class_block(self.model)
        if self.law != "prior" or part is None:
            return stops
        classes = stops[0, :, part.start :].argmax(dim=1)
        return torch.stack([with_class(codes, part, classes) for codes in stops])

    def route(self) -> CodePath:
        """How walks go."""
        return prior_path(self.model) if self.law == "prior" else straight

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """uint8 N x C x H x W, on the CPU, of codes, N x d."""
        batches = (batch.to(self.model.device, self.model.dtype) for batch in codes.split(BATCH))
        return torch.cat([as_bytes(self.model.decode(batch)) for batch in batches])

    def _of_class(self, codes: Tensor, label: int) -> Tensor:
        self._check_class(label)
        part = class_block(self.model)
        if part is None:
            raise UsageError(f"{type(self.model).__name__} has no codes of a class; leave --interpolate out")
        return with_class(codes, part, torch.full((len(codes),), label))

    def _check_class(self, label: int) -> None:
        """That the model can be asked for it: such a model keeps the number of its classes under this name."""
        number = getattr(self.model, "num_classes", None)
        if number is None:
            instead = "; use --law mixture, which is fitted to training images of that class alone"
            fits = isinstance(self.model, Encodes) and isinstance(self.model, Decodes)
            raise UsageError(f"{type(self.model).__name__} cannot be asked for a class{instead if fits else ''}")
        if label >= number:
            raise UsageError(f"--class {label} is none of the model's classes, 0 to {number - 1}")

    def _training_codes(self, label: int | None) -> tuple[Tensor, list[LatentBlock]]:
        data, shape = self.data(), self.model.hparams.get("image_shape")
        if shape is not None and tuple(shape) != data.image_shape:
            raise UsageError(
                f"the model's images are {_by(shape)}, those of {type(data).__name__} {_by(data.image_shape)};"
                " name the data that it was trained on with --data"
            )
        try:
            images, labels = data.examples("train", MOST_CODES)
        except DataError as error:
            raise DataError(f"a law is fitted to training images (--data-root says where they are): {error}") from None
        if label is not None:
            images = images[class_of(labels) == label]
        if len(images) < 2:
            of_class = f" of class {label}; the classes are 0 to {data.num_classes - 1}" if label is not None else ""
            raise UsageError(f"{type(data).__name__} has {len(images)} training images{of_class}: too few to fit a law")
        codes = encode_all(self.model, images).cpu()
        parts = latent_blocks(self.model, codes.shape[1])
        if all(part.kind == "categorical" for part in parts):
            raise UsageError("codes that are categories have no mixture of Gaussians; use --law prior")
        return codes, parts


@torch.no_grad()
def label_images(classifier: GenerativeModule, model: GenerativeModule, images: Tensor, codes: Tensor | None) -> Labels:
    """Labels by a Probe on the model's own encoder, which reads the codes themselves, or by any classifier of images.

    Args:
        images: uint8 N x C x H x W.
        codes: N x d, that they were decoded from.

    Raises:
        UsageError: no classifier, or one of other images.
    """
    if not isinstance(classifier, Probe | Classifier):
        raise UsageError(f"--classifier holds a {type(classifier).__name__}; it needs a Probe or a Classifier")
    shape = tuple(classifier.hparams["image_shape"])
    if shape != images.shape[1:]:
        raise UsageError(f"--classifier is one of images of {_by(shape)}, but the model's are {_by(images.shape[1:])}")
    on_codes = codes is not None and isinstance(classifier, Probe) and shares_encoder(classifier, model)
    batches = codes.split(BATCH) if on_codes and codes is not None else images.split(BATCH)
    probabilities = torch.cat([classifier(_floats(batch).to(classifier.device)).softmax(dim=1) for batch in batches])
    best = probabilities.float().cpu().max(dim=1)
    return Labels(best.indices, best.values, "code" if on_codes else "image")


def shares_encoder(probe: Probe, model: GenerativeModule) -> bool:
    """Whether the probe reads the very codes that the model makes: its encoder's weights are the model's."""
    if not isinstance(model, Encodes):
        return False
    one, other = probe.encoder_network().state_dict(), model.encoder_network().state_dict()
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name].to(one[name])) for name in one)


def training_data(checkpoint: Path, name: str | None, root: str | None) -> ImageDataModule:
    """The data that a run trained on, as its config.yaml names them; or by the name of a data module.

    Raises:
        UsageError: no data are named, or none that are known, or they cannot be made as they are named.
    """
    run, remedy = run_of_checkpoint(checkpoint), "name the data with --data MNISTDataModule --data-root DIR"
    config = _read_config(run / "config.yaml") if run else {}
    named: dict[str, Any] | None = {"class_path": name} if name else config.get("data")
    if not isinstance(named, dict):
        raise UsageError(f"there is no config.yaml of a run beside {checkpoint} that names its data; {remedy}")
    kind = data_modules().get(str(named["class_path"]).rsplit(".", 1)[-1])
    if kind is None:
        raise UsageError(f"there is no {named['class_path']}; the data modules are {', '.join(data_modules())}")
    arguments = {"seed": config.get("seed_everything")} | {
        key: value for key, value in (named.get("init_args") or {}).items() if key != "seed" or value is not None
    }
    if root is not None:
        arguments["root"] = root
    try:
        return kind(**arguments)
    except (TypeError, ValueError) as error:
        raise UsageError(f"cannot make {kind.__name__} as {run or 'told'} names it ({error}); {remedy}") from error


def class_names(checkpoints: Sequence[Path], number: int) -> list[str]:
    """What the data of the first of these runs that has so many classes calls them; else their numbers."""
    for checkpoint in checkpoints:
        run = run_of_checkpoint(checkpoint)
        named = (_read_config(run / "config.yaml").get("data") or {}) if run else {}
        kind = data_modules().get(str(named.get("class_path")).rsplit(".", 1)[-1])
        if kind is not None and len(kind.classes) == number:
            return list(kind.classes)
    return [str(label) for label in range(number)]


def as_bytes(images: Tensor) -> Tensor:
    """Images in [0, 1] as uint8, on the CPU.

    Raises:
        CheckpointError: they are not finite.
    """
    if not torch.isfinite(images).all():
        raise CheckpointError("the model's images are not finite; train it again")
    return images.float().clamp(0, 1).mul(255).round().to(torch.uint8).cpu()


def grid(images: Tensor, columns: int) -> Image.Image:
    """One picture of images, uint8 N x C x H x W."""
    return image_grid(_floats(images), columns)


def captioned_grid(images: Tensor, captions: Sequence[str], columns: int) -> Image.Image:
    """The same with words under each image, as many as there is room for."""
    tiles = [image_grid(image[None], 1) for image in _floats(images)]
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


def class_rows(images: Tensor, labels: Labels, names: Sequence[str], columns: int) -> Image.Image:
    """One class a row, its most probable images first, as many as there are columns; white where there are fewer."""
    rows = []
    for label in range(len(names)):
        of_class = (labels.classes == label).nonzero()[:, 0]
        best = of_class[labels.probabilities[of_class].argsort(descending=True)][:columns]
        rows.append(full_row(images[best], columns))
    picture = grid(torch.cat(rows), columns)
    ticks = list(zip(tile_centres(picture.height, len(names)), names, strict=True))
    by = "the codes" if labels.read_from == "code" else "the images"
    return framed(picture, f"{len(images):,} images by the class read from {by}, most probable first", yticks=ticks)


def data_arrays(images: Tensor, classes: Tensor | None) -> dict[str, np.ndarray]:
    """The arrays of a data file: one image in seven is for the test, as in MNIST; without classes they are all 0."""
    pixels = images[:, 0].numpy() if images.shape[1] == 1 else images.permute(0, 2, 3, 1).numpy()
    numbers = (torch.zeros(len(images)) if classes is None else classes).numpy().astype(np.uint8)
    train = len(images) - max(1, len(images) // 7)
    return {
        "x_train": pixels[:train],
        "y_train": numbers[:train],
        "x_test": pixels[train:],
        "y_test": numbers[train:],
    }


def _floats(images: Tensor) -> Tensor:
    return images if images.is_floating_point() else images.float().div(255)


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read ({describe_error(error)})") from None
    return config if isinstance(config, dict) else {}


def _by(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))
