import re
from pathlib import Path

import pytest
import torch

import datamodules
from datamodules import CIFAR10DataModule, DigitsDataModule, ImageDataModule, MNISTDataModule
from genlab.evaluation.classifier import (
    EvaluationClassifier,
    OtherDataError,
    default_classifier,
    evaluation_classifier_or_hint,
    find_evaluation_classifier,
    image_sets_frechet,
    own_classifier,
)
from genlab.runs.folder import write_summary
from lit_models import Autoencoder, Classifier, GenerativeModule
from lit_models.common.checkpoints import CheckpointError
from studies.command import load_measured
from tests.helpers import write_npz


class Stacked(DigitsDataModule):
    image_shape = (3, 28, 28)
    classes = tuple(map(str, range(1000)))
    classified_as = "digits"
    name = "stacked"


def small_classifier(**arguments: object) -> Classifier:
    torch.manual_seed(0)
    return Classifier(**{"channels": (4,), "feature_dim": 6, **arguments}).eval()


def save(model: GenerativeModule, path: Path, data: ImageDataModule | None = None) -> Path:
    """Writes a checkpoint of a model that learned the data."""
    checkpoint: dict[str, object] = {"state_dict": model.state_dict()}
    model.data_fingerprint = None if data is None else data.fingerprint
    model.on_save_checkpoint(checkpoint)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(checkpoint, path)
    return path


def images(n: int, channels: int = 1) -> torch.Tensor:
    return torch.rand(n, channels, 28, 28, generator=torch.Generator().manual_seed(1))


def test_features_and_predictions_equal_the_classifier():
    inner = small_classifier()
    classifier, given = EvaluationClassifier(inner), images(9)
    logits = inner(given)
    assert classifier.num_features == 6 and classifier.num_modes == 10
    torch.testing.assert_close(classifier.features(given), inner.features(given))
    torch.testing.assert_close(classifier.probabilities(given), logits.softmax(1))
    assert torch.equal(classifier.modes(given), logits.argmax(1))
    assert torch.equal(classifier(given.double()).modes, classifier.modes(given))
    assert not classifier.features(given).requires_grad


def test_modes_combine_the_classes_of_the_channels():
    inner = small_classifier()
    classifier, given = EvaluationClassifier(inner, per_channel=True), images(8, channels=3)
    a, b, c = (inner(given[:, [k]]).argmax(1) for k in range(3))
    assert classifier.num_modes == 1000 and classifier.num_features == 18
    assert torch.equal(classifier.modes(given), 100 * a + 10 * b + c)
    torch.testing.assert_close(classifier.features(given)[:, 6:12], inner.features(given[:, 1:2]))
    torch.testing.assert_close(classifier.probabilities(given)[:, 2], inner(given[:, 2:]).softmax(1))


def test_coloured_digits_are_classified_by_their_largest_channel():
    inner, grey = small_classifier(), images(8)
    coloured = grey * torch.rand(8, 3, 1, 1, generator=torch.Generator().manual_seed(0))
    coloured[:, 1:2] = grey
    classifier = EvaluationClassifier(inner, per_channel=True)
    assert torch.equal(classifier.classes(coloured), inner(grey).argmax(1))
    assert torch.equal(classifier.classes(coloured.flip(1)), classifier.classes(coloured))
    assert torch.equal(EvaluationClassifier(inner).classes(grey), inner(grey).argmax(1))


def test_images_that_are_not_finite_have_no_mode():
    given = images(3)
    given[1, 0, 5, 5] = torch.nan
    classifier = EvaluationClassifier(small_classifier())
    for found in (classifier.modes(given), classifier.classes(given)):
        assert found[1] == -1 and (found[[0, 2]] >= 0).all()
    given[1] = -torch.inf
    assert classifier.classes(given)[1] == -1


def test_the_default_classifier_of_a_data_set(tmp_path: Path):
    data = DigitsDataModule()
    assert find_evaluation_classifier(None, data, (1, 28, 28), tmp_path) is None
    path = save(small_classifier(), tmp_path / "classifier_digits" / "default" / "checkpoints" / "best.ckpt")
    assert default_classifier(data, tmp_path) == default_classifier(Stacked(), str(tmp_path)) == path
    write_summary(path.parents[1], {"state": "killed"})
    assert find_evaluation_classifier(None, data, (1, 28, 28), tmp_path) is None
    write_summary(path.parents[1], {"state": "finished"})
    classifier = find_evaluation_classifier(None, data, (1, 28, 28), tmp_path)
    assert classifier is not None and not classifier.per_channel
    stacked = find_evaluation_classifier(None, Stacked(), (3, 28, 28), tmp_path)
    assert stacked is not None and stacked.per_channel and stacked.num_modes == 1000


@pytest.mark.parametrize(
    ("model", "data", "message"),
    [
        (
            small_classifier(image_shape=(3, 32, 32)),
            DigitsDataModule(),
            "of 3 x 32 x 32.* these are 1 x 28 x 28",
        ),
        (small_classifier(num_classes=26), DigitsDataModule(), "classifies into 26 classes, but digits has 10"),
        (small_classifier(), CIFAR10DataModule(), "images of 1 x 28 x 28.* these are 3 x 32 x 32"),
        (small_classifier(image_shape=(3, 28, 28)), Stacked(), "images of 3 x 28 x 28.* these are 1 x 28 x 28"),
        (Autoencoder(3, 2, 4, hidden_dim=16), DigitsDataModule(), "holds an Autoencoder, not a Classifier"),
    ],
)
def test_unsuitable_classifiers_are_refused(
    model: GenerativeModule, data: ImageDataModule, message: str, tmp_path: Path
):
    path = save(model, tmp_path / "x.ckpt")
    with pytest.raises(CheckpointError, match=message) as caught:
        find_evaluation_classifier(path, data, data.image_shape, tmp_path)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_has_the_fingerprint_of_the_data(encoder_checkpoint: Path):
    fingerprint = DigitsDataModule(val_size=50, seed=3, labels_per_class=1, shift=2).fingerprint
    assert GenerativeModule.load(encoder_checkpoint).data_fingerprint == fingerprint


def test_a_classifier_measures_only_the_data_that_it_learned(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for root, seed in (("a", 0), ("b", 1)):
        (tmp_path / root).mkdir()
        write_npz(tmp_path / root / "mnist.npz", (28, 28), seed=seed)
    own, other = (MNISTDataModule(str(tmp_path / root)) for root in "ab")
    path = save(small_classifier(), tmp_path / "classifier_mnist/default/checkpoints/best.ckpt", own)

    def find(given: Path | None, data: ImageDataModule, unmeasured: str | None) -> EvaluationClassifier | None:
        given_path = None if given is None else str(given)
        return evaluation_classifier_or_hint(given_path, data, tmp_path, True, unmeasured, "--quality.classifier")

    assert find(None, own, "samples") is not None and find(path, own, None) is not None
    assert capsys.readouterr().out == ""
    message = f"{path} learned other images than those of mnist in {tmp_path / 'b'} and does not measure them;"
    assert find(None, other, "samples") is None
    said = capsys.readouterr().out
    assert said.startswith(message) and said.count("\n") == 1 and "samples are not measured and best.ckpt" in said
    for given in (path, None):
        with pytest.raises(OtherDataError, match=re.escape(message)):
            find(given, other, None)
    save(small_classifier(), own_classifier(other, tmp_path), other)
    assert find(None, other, "samples") is not None and find(None, own, "samples") is not None
    unknown = save(small_classifier(), tmp_path / "unknown.ckpt")
    assert find(unknown, other, "samples") is not None
    assert "unknown.ckpt does not tell which images it learned" in capsys.readouterr().out

    classifier = find(None, own, None)
    assert classifier is not None
    generator = Autoencoder(3, 2, 4, hidden_dim=16)
    assert load_measured(save(generator, tmp_path / "same.ckpt", own), classifier).data_fingerprint == own.fingerprint
    with pytest.raises(CheckpointError, match=r"other\.ckpt learned other images than the evaluation classifier"):
        load_measured(save(generator, tmp_path / "other.ckpt", other), classifier)


@pytest.mark.parametrize(
    "name",
    [
        *("Binarized", "Colored", "Rotated", "Stacked"),
        *("Recolored", "ColoredPairs", "Noisy", "LowResolution"),
    ],
)
def test_data_computed_from_the_same_images_have_their_fingerprint(name: str, data_root: Path):
    """So the classifier of the stored images measures what is computed from them."""
    derived = getattr(datamodules, f"{name}MNISTDataModule")
    assert derived(str(data_root)).fingerprint == MNISTDataModule(str(data_root)).fingerprint


def test_a_missing_checkpoint_is_an_error(tmp_path: Path):
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        find_evaluation_classifier(tmp_path / "none.ckpt", DigitsDataModule(), (1, 28, 28), tmp_path)


def test_the_distance_grows_with_the_difference():
    classifier, given = EvaluationClassifier(small_classifier()), images(60)
    same = image_sets_frechet(classifier, given[:30], given[30:], batch_size=7)
    dark = image_sets_frechet(classifier, given[:30], 0.2 * given[30:], batch_size=7)
    assert image_sets_frechet(classifier, given, given) == pytest.approx(0, abs=1e-5)
    assert 0 < same < dark
