"""Which values of a metric may be compared: the one table of all metrics, with direction, unit and scope.

docs/metrics.md has the same table; a test holds the two together.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal

Better = Literal["lower", "higher"]
Key = tuple[Any, ...]

DATA_OPTIONS_OF_TRAINING = (
    *("root", "cache", "on_device", "batch_size", "eval_batch_size", "val_size", "seed", "shift"),
    *("labels_per_class", "flip", "random_crop", "predict_split", "steps_per_epoch", "paired"),
)
"""Options of data modules that do not change the test images."""
PLACES = ("folder", "file")
"""Options of data modules for which the fingerprint of the data stands, if the run recorded it."""
OBJECTIVE_OPTIONS = (
    *("objective", "loss", "beta", "regularization", "kernel", "likelihood", "likelihood_scale", "prior", "recipe"),
    *("gamma", "corruption", "perceptual", "features", "content_maps", "style_maps", "tv_beta"),
    *("noise_schedule", "num_levels", "num_steps"),
)
"""Options of models that change what the training loss means, beside those whose names end in `_weight`."""
NOISE_OPTIONS = ("noise_schedule", "num_levels", "num_steps")
MEASURES = ("translation", "color_control", "principal_subspace", "active_units", "category_match")
"""Groups of options that change how a run is measured, beside `quality`."""


@dataclass(frozen=True)
class Scope:
    """What two values of a metric must have in common to be compared.

    Args:
        name: Its name, as docs/metrics.md has it.
        text: The condition in words.
    """

    name: str
    text: str


DATA = Scope("data", "the same test data")
SAMPLES = Scope("samples", "the same test data and number of samples")
CLASSIFIER = Scope("classifier", "the same test data, evaluation classifier and number of samples")
LIKELIHOOD = Scope("likelihood", "the same test data and likelihood")
LEVELS = Scope("levels", "the same test data, model class and noise levels")
OBJECTIVE = Scope("objective", "the same test data, model class and objective")
SCOPES = (DATA, SAMPLES, CLASSIFIER, LIKELIHOOD, LEVELS, OBJECTIVE)


@dataclass(frozen=True)
class Metric:
    """What is known of a metric.

    Args:
        better: The better direction; None if neither is.
        unit: Its unit; empty for a share or a pure number.
        scope: What two runs must have in common for their values to be compared.
    """

    better: Better | None
    unit: str
    scope: Scope


METRICS: dict[str, Metric] = {
    "mse": Metric("lower", "", DATA),
    "loss": Metric("lower", "", OBJECTIVE),
    "reconstruction": Metric("lower", "nats", LIKELIHOOD),
    "kl": Metric("lower", "nats", LIKELIHOOD),
    "mmd": Metric("lower", "", OBJECTIVE),
    "commitment": Metric("lower", "", OBJECTIVE),
    "perplexity": Metric(None, "codes", OBJECTIVE),
    "usage": Metric(None, "", OBJECTIVE),
    "nll": Metric("lower", "nats", LIKELIHOOD),
    "bits_per_dim": Metric("lower", "bits", DATA),
    "log_prob": Metric("higher", "nats", DATA),
    "denoising": Metric("lower", "", LEVELS),
    "penalty": Metric(None, "", OBJECTIVE),
    "active": Metric(None, "", OBJECTIVE),
    "frechet_classifier": Metric("lower", "", CLASSIFIER),
    "frechet_inception": Metric("lower", "", SAMPLES),
    "modes": Metric("higher", "classes", CLASSIFIER),
    "modes_kl": Metric("lower", "nats", CLASSIFIER),
    "precision": Metric("higher", "", CLASSIFIER),
    "recall": Metric("higher", "", CLASSIFIER),
    "class_agreement": Metric("higher", "", CLASSIFIER),
    "accuracy": Metric("higher", "", DATA),
    "angle_error": Metric("lower", "degrees", DATA),
    "median_angle_error": Metric("lower", "degrees", DATA),
    "color_agreement": Metric("higher", "", DATA),
    "color_agreement_*": Metric("higher", "", DATA),
    "color_purity": Metric("higher", "", DATA),
    "psnr": Metric("higher", "dB", DATA),
    "psnr_corrupted": Metric("higher", "dB", DATA),
    "psnr_gain": Metric("higher", "dB", DATA),
    "psnr_input": Metric(None, "dB", DATA),
    "ssim": Metric("higher", "", DATA),
    "ssim_input": Metric(None, "", DATA),
    "auroc": Metric("higher", "", DATA),
    "auroc_*": Metric("higher", "", DATA),
    "detected_*": Metric("higher", "", DATA),
    "false_alarms": Metric("lower", "", DATA),
    "digit_agreement": Metric("higher", "", CLASSIFIER),
    "digit_agreement_*": Metric("higher", "", CLASSIFIER),
    "cycle_l1": Metric("lower", "", DATA),
    "l1": Metric("lower", "", DATA),
    "spectrum_distance": Metric("lower", "dB", DATA),
    "abs_correlation": Metric("lower", "", DATA),
    "abs_correlation_full": Metric("lower", "", DATA),
    "active_units": Metric(None, "dimensions", DATA),
    "category_accuracy": Metric("higher", "", DATA),
    "principal_angle": Metric("lower", "degrees", DATA),
    "mse_pca": Metric(None, "", DATA),
    "loss_d": Metric(None, "", OBJECTIVE),
    "loss_g": Metric(None, "", OBJECTIVE),
    "d_real": Metric(None, "", OBJECTIVE),
    "d_fake": Metric(None, "", OBJECTIVE),
    "grad_norm_d": Metric(None, "", OBJECTIVE),
    "grad_norm_g": Metric(None, "", OBJECTIVE),
    "loss_e": Metric(None, "", OBJECTIVE),
    "feature_loss": Metric("lower", "", OBJECTIVE),
    "info_categorical": Metric("higher", "nats", OBJECTIVE),
    "info_continuous": Metric("higher", "nats", OBJECTIVE),
    "loss_d_std": Metric("lower", "", OBJECTIVE),
    "loss_g_std": Metric("lower", "", OBJECTIVE),
    "feature_error": Metric("lower", "", OBJECTIVE),
    "content": Metric("lower", "", OBJECTIVE),
    "style": Metric("lower", "", OBJECTIVE),
    "total_variation": Metric("lower", "", OBJECTIVE),
}
"""The metrics by their names without split; `*` stands for any ending."""
BETTER_FACTS: dict[str, Better] = {"parameters": "lower", "seconds": "lower", "images/s": "higher"}
"""The better directions of recorded numbers, for a Pareto front; they compare on equal hardware only."""
UNKNOWN = Metric(None, "", OBJECTIVE)
"""What holds for a metric that the table does not name, such as one of a user's own model."""


def metric_of(name: str) -> Metric:
    """Returns what is known of a metric such as test/mse."""
    term = name.partition("/")[2]
    found = METRICS.get(term) or next((METRICS[known] for known in METRICS if fnmatchcase(term, known)), None)
    return found or UNKNOWN


def better_of(name: str) -> Better | None:
    """Returns the better direction of a metric or of a recorded number such as seconds; None if neither is."""
    return BETTER_FACTS.get(name) or metric_of(name).better


def is_known(name: str) -> bool:
    """Returns whether the table names a metric such as test/mse."""
    return metric_of(name) is not UNKNOWN


def scope_key(scope: Scope, split: str, config: Mapping[str, Any], facts: Mapping[str, Any]) -> Key:
    """Returns what must be equal for two runs' values of a metric to be compared.

    Args:
        scope: The scope of the metric.
        split: train, val or test.
        config: Config of the run, by dotted keys.
        facts: `data_fingerprint` and `classifier` of the run, as far as it recorded them.
    """
    fingerprint = facts.get("data_fingerprint")
    ignored = DATA_OPTIONS_OF_TRAINING + (PLACES if fingerprint else ())
    key: Key = (split, fingerprint, *_measured_data(config, ignored), *_limits(split, config))
    if scope in (SAMPLES, CLASSIFIER):
        count = "quality.num_images" if split == "test" else "quality.val_images"
        key += (_text(config.get(count)),)
    if scope is CLASSIFIER:
        key += (facts.get("classifier"), _text(config.get("quality.neighbours")))
    if scope is LIKELIHOOD:
        key += tuple(_likelihood(config))
    if scope in (LEVELS, OBJECTIVE):
        options = NOISE_OPTIONS if scope is LEVELS else OBJECTIVE_OPTIONS
        weights = ("_weight",) if scope is OBJECTIVE else ()
        key += (_text(config.get("model")), *sorted(_model_options(config, options, weights)))
    return key


def _measured_data(config: Mapping[str, Any], ignored: Collection[str]) -> Iterator[tuple[str, str]]:
    """The options that change the images on which a model is measured, and how."""
    yield "data", _text(config.get("data"))
    for key in sorted(config):
        group, _, option = key.partition(".")
        measure = group in MEASURES and option != "classifier"
        if measure or (group == "data" and option and option.split(".")[0] not in ignored):
            yield key, _text(config[key])
    corrupted = "model.test_corruption" if config.get("model.test_corruption") else "model.corruption"
    for key in sorted(key for key in config if key == corrupted or key.startswith(f"{corrupted}.")):
        yield key.replace("test_corruption", "corruption"), _text(config[key])


def _likelihood(config: Mapping[str, Any]) -> Iterator[str]:
    """The options that say what a log-likelihood is of: the distribution or the values of pixels, or tokens."""
    own = config.get("model.likelihood", config.get("model"))
    binary = own == "bernoulli" or config.get("model.values") == 2
    options = () if binary else ("model.likelihood_scale", "model.values", "model.tokenizer")
    first = ("bernoulli" if binary else own, bool(config.get("model.conditional")))
    yield from map(_text, (*first, *map(config.get, options)))


def _limits(split: str, config: Mapping[str, Any]) -> Iterator[str]:
    yield _text(config.get(f"trainer.limit_{split}_batches"))
    if split == "val":
        yield from (_text(config.get(key)) for key in ("data.val_size", "data.seed"))


def _model_options(
    config: Mapping[str, Any], options: Collection[str], endings: tuple[str, ...]
) -> Iterator[tuple[str, str]]:
    for key, value in config.items():
        group, _, rest = key.partition(".")
        option = rest.split(".")[0]
        if group == "model" and (option in options or option.endswith(endings)):
            yield key, _text(value)


def _text(value: Any) -> str:
    """Formats an option, so that 1 and 1.0 are equal and lists can be compared."""
    return repr(float(value)) if isinstance(value, int | float) and not isinstance(value, bool) else str(value)
