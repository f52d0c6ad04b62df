"""Whether a model can be trained and evaluated on a data module; if not, which data modules fit."""

from datamodules import ImageDataModule, PairsDataModule, data_modules
from genlab.runs.errors import UsageError
from lit_models.common.capabilities import Translates
from lit_models.common.module import GenerativeModule

SAME_SHAPE = ImageDataModule.source_shape
"""The attribute `source_shape` of data whose sources have the shape of their targets."""


def check_images(model: GenerativeModule, data: ImageDataModule) -> None:
    """Checks everything but the labels.

    Raises:
        UsageError: the data do not fit the model; names those that do. Or the class of the data is not complete.
    """
    missing = [name for name in ("name", "image_shape", "classes") if not _declares(data, name)]
    if missing:
        raise UsageError(f"the class {_name(data)} must define {' and '.join(missing)}, as every data module does")
    problem = _problem_of_references(model, data) or _problem_of_pairs(model, data)
    if problem is not None:
        raise UsageError(f"{problem}{use_data(model)}")


def _declares(data: ImageDataModule, name: str) -> bool:
    """Whether a data module has an attribute. A property is not evaluated, as it may read files."""
    return vars(data).get(name, getattr(type(data), name, None)) is not None


def check_labels(model: GenerativeModule, data: ImageDataModule) -> None:
    """Checks that the data have the labels that the model learns from.

    Raises:
        UsageError: they have not; names those that do.
    """
    needed = _label(model)
    if needed is not None and needed not in data.label_columns:
        raise UsageError(
            f"{_name(model)} needs the {needed} in the labels, and those of"
            f" {_name(data)} hold the {' and the '.join(data.label_columns)}{use_data(model)}"
        )


def use_data(model: GenerativeModule) -> str:
    """Says which data modules fit a model, as the end of a sentence."""
    able = [name for name, kind in data_modules().items() if fits(model, kind)]
    return f"; use --data {' or '.join(able) or 'of your own'}"


def fits(model: GenerativeModule, kind: type[ImageDataModule]) -> bool:
    """Whether all checks of this module accept a data module, whatever its options are."""
    translates, needed = isinstance(model, Translates), _label(model)
    return (
        _references(kind) == _references(model)
        and issubclass(kind, PairsDataModule) == translates
        and (not _needs_one_shape(model) or kind.source_shape is SAME_SHAPE)
        and (needed is None or needed in kind.label_columns)
    )


def _problem_of_references(model: GenerativeModule, data: ImageDataModule) -> str | None:
    """Reference images, alone or as content and style, are for models of image optimization only."""
    wanted, found = _references(model), _references(data)
    if wanted == found:
        return None
    need = f"needs {wanted}" if wanted else "does not optimize images"
    return f"{_name(data)} has {found or 'no reference images'}, and {_name(model)} {need}"


def _problem_of_pairs(model: GenerativeModule, data: ImageDataModule) -> str | None:
    """Pairs of images are for models that translate, and for them alone."""
    translates = isinstance(model, Translates)
    if translates != isinstance(data, PairsDataModule):
        if translates:
            return f"{_name(model)} translates images of one kind into another, and {_name(data)} has one kind"
        return f"{_name(model)} does not translate images, and {_name(data)} has pairs of them"
    if _needs_one_shape(model) and data.source_shape != data.image_shape:
        sizes = " and ".join(" x ".join(map(str, shape)) for shape in (data.source_shape, data.image_shape))
        return (
            f"{_name(model)} translates both ways between images of one shape, and those of {_name(data)} are {sizes}"
        )
    return None


def _needs_one_shape(model: GenerativeModule) -> bool:
    """Whether sources and targets must have the same shape, as the model translates both ways."""
    return isinstance(model, Translates) and "ba" in model.directions


def _name(side: object) -> str:
    return type(side).__name__


def _label(model: GenerativeModule) -> str | None:
    """Column of the labels that the model learns from, besides the class."""
    return getattr(model, "needs_label", None)


def _references(side: object) -> str | None:
    """Kind of the reference images that a model of image optimization needs, or that the data have."""
    return getattr(side, "references", None)
