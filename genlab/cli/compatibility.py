"""Whether a model can be trained and evaluated on a data module; if not, which data modules fit."""

from collections.abc import Callable

from datamodules import ImageDataModule, PairsDataModule, data_modules
from genlab.runs.errors import UsageError
from lit_models.common.capabilities import Translates
from lit_models.common.module import GenerativeModule

SAME_SHAPE = ImageDataModule.source_shape
"""The attribute `source_shape` of data whose sources have the shape of their targets."""


def check_images(model: GenerativeModule, data: ImageDataModule) -> None:
    """Checks everything but the labels.

    Raises:
        UsageError: the data do not fit the model; names those that do.
    """
    _check_references(model, data)
    _check_pairs(model, data)


def check_labels(model: GenerativeModule, data: ImageDataModule) -> None:
    """Checks that the data have the labels that the model learns from.

    Raises:
        UsageError: they have not; names those that do.
    """
    needed = getattr(model, "needs_label", None)
    if needed is None or needed in data.label_columns:
        return
    raise UsageError(
        f"{_name(model)} needs the {needed} in the labels, and those of"
        f" {_name(data)} hold the {' and the '.join(data.label_columns)}"
        f"{use_data(lambda kind: needed in kind.label_columns)}"
    )


def use_data(fits: Callable[[type[ImageDataModule]], bool]) -> str:
    """Says which data modules fit, as the end of a sentence."""
    able = [name for name, kind in data_modules().items() if fits(kind)]
    return f"; use --data {' or '.join(able) or 'of your own'}"


def _check_references(model: GenerativeModule, data: ImageDataModule) -> None:
    """Reference images, alone or as content and style, are for models of image optimization only."""
    wanted, found = _references(model), _references(data)
    if wanted == found:
        return
    problem = f"{_name(data)} has {found or 'no reference images'}, and {_name(model)} " + (
        f"needs {wanted}" if wanted else "does not optimize images"
    )
    of_pairs = isinstance(model, Translates)
    raise UsageError(
        problem + use_data(lambda kind: _references(kind) == wanted and issubclass(kind, PairsDataModule) == of_pairs)
    )


def _check_pairs(model: GenerativeModule, data: ImageDataModule) -> None:
    """Pairs of images are for models that translate, and for them alone."""
    translates = isinstance(model, Translates)
    if translates != isinstance(data, PairsDataModule):
        problem = f"{_name(model)} does not translate images, and {_name(data)} has pairs of them"
        if translates:
            problem = f"{_name(model)} translates images of one kind into another, and {_name(data)} has one kind"
        raise UsageError(problem + use_data(lambda kind: issubclass(kind, PairsDataModule) == translates))
    source, target = data.source_shape, data.image_shape
    if isinstance(model, Translates) and "ba" in model.directions and source != target:
        sizes = " and ".join(" x ".join(map(str, shape)) for shape in (source, target))
        raise UsageError(
            f"{_name(model)} translates both ways between images of one shape, and those of {_name(data)} are {sizes}"
            f"{use_data(lambda kind: issubclass(kind, PairsDataModule) and kind.source_shape is SAME_SHAPE)}"
        )


def _name(side: object) -> str:
    return type(side).__name__


def _references(side: object) -> str | None:
    """Kind of the reference images that a model of image optimization needs, or that the data have."""
    return getattr(side, "references", None)
