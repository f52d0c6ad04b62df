"""Labels sampled images with a classifier."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from genlab.runs.errors import UsageError
from genlab.sampling.images import describe_shape, to_float
from lit_models import Classifier, GenerativeModule, Probe
from lit_models.common.capabilities import Encodes

BATCH_SIZE = 500


class PredictedLabels(NamedTuple):
    """What a classifier predicts for N images."""

    classes: Tensor
    """The most probable class of each image, int64, N."""
    probabilities: Tensor
    """Its probability, float32, N."""
    read_from: Literal["code", "image"]
    """What the classifier was given."""


@torch.no_grad()
def label_images(
    classifier: GenerativeModule, model: GenerativeModule, images: Tensor, codes: Tensor | None
) -> PredictedLabels:
    """Labels images that a model generated.

    A Probe on the model's own encoder classifies the codes; any other classifier classifies the images.

    Args:
        classifier: A Probe or a Classifier.
        model: The model that generated the images.
        images: uint8 N x C x H x W.
        codes: The codes, N x d, that the images were decoded from, if any.

    Raises:
        UsageError: `classifier` is of another class, or was trained on images of another shape.
    """
    if not isinstance(classifier, Probe | Classifier):
        raise UsageError(f"--classifier holds a {type(classifier).__name__}; it needs a Probe or a Classifier")
    shape = tuple(classifier.hparams["image_shape"])
    if shape != images.shape[1:]:
        raise UsageError(
            f"--classifier takes images of {describe_shape(shape)},"
            f" but the model's are {describe_shape(images.shape[1:])}"
        )
    on_codes = codes is not None and isinstance(classifier, Probe) and shares_encoder(classifier, model)
    batches = codes.split(BATCH_SIZE) if on_codes and codes is not None else images.split(BATCH_SIZE)
    probabilities = torch.cat([classifier(to_float(batch).to(classifier.device)).softmax(dim=1) for batch in batches])
    best = probabilities.float().cpu().max(dim=1)
    return PredictedLabels(best.indices, best.values, "code" if on_codes else "image")


def shares_encoder(probe: Probe, model: GenerativeModule) -> bool:
    """Whether the probe's encoder has the weights of the model's, so that the probe can classify the model's codes."""
    if not isinstance(model, Encodes):
        return False
    one, other = probe.encoder_network().state_dict(), model.encoder_network().state_dict()
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name].to(one[name])) for name in one)
