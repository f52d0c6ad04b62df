"""Writes docs/sizes.md: which model takes which size of images, and what to do where it does not.

python -m studies.sizes

Every model of lit_models is built, with its default networks and with the other ones, without memory for its weights.
"""

import argparse
import inspect
import json
import re
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

import lit_models
from genlab.cli.listing import entries
from genlab.cli.parameter_bound import FACTORIES, MAX_PARAMETERS, ParameterBound, made_without_memory
from genlab.report.compare.rendering import Grid, Text, markdown
from genlab.runs.errors import UsageError
from lit_models import SRGAN, AngleProbe, GenerativeModule, LinearAutoencoder, Probe
from lit_models.common.component import Component
from lit_models.common.corruptions import GaussianNoise
from lit_models.common.discriminators import (
    DCGANDiscriminator,
    MLPDiscriminator,
    PatchDiscriminator,
    PoolingDiscriminator,
    ResNetDiscriminator,
)
from lit_models.common.encoder_decoders import (
    EfficientNetNetworks,
    MLPNetworks,
    ResidualNetworks,
    StridedNetworks,
)
from lit_models.common.generators import (
    DCGANGenerator,
    LinearGenerator,
    MLPGenerator,
    PoolingGenerator,
    ResNetGenerator,
)
from lit_models.common.noise_predictors import MLPNoisePredictor, UNet
from lit_models.common.quantizers import FiniteScalarQuantizer, VectorQuantizer
from lit_models.common.translators import ConvTranslator, ResNetTranslator, UNetTranslator
from studies.command import run_command
from studies.page import DOCS, check_docs, replace_section

PAGE = DOCS / "sizes.md"
SHAPES = [(1, side, side) for side in (28, 32, 48, 64, 96, 128, 256)] + [(3, 100, 60)]
LARGE = 4096
"""Tensors of more numbers are made without memory."""
INITIAL_VALUES = {
    *(
        getattr(nn.init, f"{kind}_")
        for kind in ("uniform", "normal", "kaiming_uniform", "kaiming_normal", "orthogonal")
    ),
    *(getattr(nn.init, f"{kind}_") for kind in ("xavier_uniform", "zeros", "ones")),
    *(getattr(torch.Tensor, f"{kind}_") for kind in ("uniform", "normal", "zero", "fill")),
}
"""The functions that set initial values."""
ADVICE = re.compile(r"--data\.size ('\[\d+, \d+\]'|\d+)")


@dataclass(frozen=True)
class Row:
    """A model with some of its components.

    Args:
        model: Name of the model.
        components: Components by the names of their arguments; all others are the defaults.
    """

    model: str
    components: dict[str, Component] = field(default_factory=dict)

    @property
    def kind(self) -> type[GenerativeModule]:
        found: type[GenerativeModule] = getattr(lit_models, self.model)
        return found

    @property
    def options(self) -> list[str]:
        """The options of train.py that choose the model and its components."""
        components = (f"--model.{name}={type(component).__name__}" for name, component in self.components.items())
        return [f"--model={self.model}", *components]

    @property
    def has_encoder(self) -> bool:
        """Whether it is a probe of a trained encoder."""
        return self.kind in (Probe, AngleProbe)

    def build(self, shape: tuple[int, int, int]) -> GenerativeModule:
        """Builds the model for images of a shape.

        Raises:
            ValueError: It does not take them.
        """
        channels, height, width = shape
        factor = 2 if self.kind is SRGAN else 1
        given: dict[str, Any] = {"image_shape": shape, "source_shape": (channels, height // factor, width // factor)}
        if self.has_encoder:
            encoder = LinearAutoencoder(image_shape=shape).model_config()
            given |= {"encoder_checkpoint": "", "encoder_config": json.dumps(encoder)}
        accepted = inspect.signature(self.kind).parameters
        return self.kind(**{name: value for name, value in given.items() if name in accepted} | self.components)


NETWORKS = (MLPNetworks, StridedNetworks, ResidualNetworks, EfficientNetNetworks)
NAMED = [
    *(Row("VAE", {"networks": networks()}) for networks in NETWORKS),
    *(Row("VQVAE", {"quantizer": quantizer}) for quantizer in (VectorQuantizer(), FiniteScalarQuantizer())),
    Row("DenoisingAutoencoder", {"corruption": GaussianNoise()}),
    *(
        Row("GAN", {"generator": generator, "discriminator": discriminator})
        for generator, discriminator in (
            (DCGANGenerator(), DCGANDiscriminator()),
            (ResNetGenerator(), ResNetDiscriminator()),
            (PoolingGenerator(), PoolingDiscriminator()),
            (MLPGenerator(), MLPDiscriminator()),
            (LinearGenerator(), PatchDiscriminator()),
        )
    ),
    *(Row("DDPM", {"network": network}) for network in (UNet(), MLPNoisePredictor())),
    *(Row("CycleGAN", {"generator": translator}) for translator in (ResNetTranslator(), ConvTranslator())),
    Row("Pix2Pix", {"generator": UNetTranslator()}),
]
"""Models with the networks that make a difference, or with a component that they need."""
_OTHERS = {entry.name for entry in entries("lit_models", "model")} - {row.model for row in NAMED}
ROWS = sorted([*NAMED, *map(Row, _OTHERS)], key=lambda row: row.model.lower())
"""All models of lit_models, those without named networks with their default ones."""


class WithoutWeights(TorchFunctionMode):
    """Context in which a model is built fast: large tensors are made without memory and without initial values."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in FACTORIES:
            without_memory = made_without_memory(func, args, kwargs)
            if without_memory.numel() > LARGE:
                return without_memory
        if func in INITIAL_VALUES:
            tensor = args[0] if args else kwargs["tensor"]
            if tensor.is_meta:
                return tensor
        return func(*args, **kwargs)


def refusal(row: Row, shape: tuple[int, int, int]) -> str | None:
    """What train.py says where a model does not take images of a shape; None: it takes them."""
    try:
        # A probe passes an image through its encoder, which needs the weights.
        with nullcontext() if row.has_encoder else WithoutWeights():
            model = row.build(shape)
        ParameterBound(MAX_PARAMETERS).check(model, sized=True)
    except (ValueError, UsageError) as error:
        return str(error)
    return None


def cell(row: Row, shape: tuple[int, int, int]) -> str:
    """`yes`, or the size that the refusal names."""
    said = refusal(row, shape)
    if said is None:
        return "yes"
    advice = ADVICE.search(said)
    if advice is None:
        raise ValueError(f"{row.model} refuses {shape} and names no size: {said}")
    return f"`{advice[0]}`"


def name(row: Row) -> str:
    """What the table calls a row: the model and the options of its components."""
    components = ", ".join(f"`{type(component).__name__}`" for component in row.components.values())
    return f"`{row.model}`" + (f" with {components}" if components else "")


def table(cells: Callable[[Row, tuple[int, int, int]], str] = cell) -> str:
    """Returns the table of all models and sizes."""
    head = ["Model", *(" x ".join(map(str, shape[1:])) for shape in SHAPES)]
    rows = [[name(row), *(cells(row, shape) for shape in SHAPES)] for row in ROWS]
    table = markdown(Grid("", list(map(Text, head)), [list(map(Text, row)) for row in rows], []))
    return table.replace("\\`", "`")  # names of classes stand as code


def main() -> None:
    argparse.ArgumentParser(
        "python -m studies.sizes", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    check_docs()
    replace_section(PAGE, "sizes", table())


if __name__ == "__main__":
    run_command(main)
