import csv
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning import Trainer
from lightning.pytorch.callbacks import Callback

import train
from datamodules import (
    LowResolutionMNISTDataModule,
    NoisyMNISTDataModule,
    Pairs,
    PairsDataModule,
    RecoloredMNISTDataModule,
)
from datamodules.base import Split
from datamodules.pairs import ImageTransform
from datamodules.recolored_mnist import colorize
from genlab.callbacks import TrainingGif, TranslationQuality
from genlab.callbacks.translation_quality import MAX_WIDTH
from genlab.evaluation.classifier import EvaluationClassifier, image_sets_frechet
from genlab.evaluation.sample_scores import FRECHET_MONITOR
from genlab.media import image_grid, to_same_shape
from genlab.metrics import SpectrumDistance, ssim
from genlab.runs.errors import UsageError
from genlab.runs.folder import read_summary
from lit_models import GenerativeModule
from lit_models.common.checkpoints import CheckpointError
from lit_models.losses.distortion import psnr
from tests.genlab.callbacks.toy_models import contains, picture
from tests.genlab.callbacks.toy_translators import Black, Identity, NotFinite, OneWay, Recolourer
from tests.genlab.evaluation.test_classifier import save, small_classifier

BOTH_WAYS = ("frechet_classifier", "digit_agreement", "color_agreement", "l1", "psnr", "ssim", "spectrum_distance")


class Unknown(RecoloredMNISTDataModule):
    """Two kinds of images without classes, hues and alignment."""

    hues = (None, None)
    classified_as = None
    classes = ("image",)
    aligned = False

    def domain_transforms(self, split: Split) -> tuple[ImageTransform, ImageTransform]:
        return colorize([0.0] * 10), colorize([180.0] * 10)

    def pairs(self, split: Split, n: int, seed: int = 0, part: slice = slice(None)) -> Pairs:
        return super().pairs(split, n, seed, part)._replace(labels=None)


class Records(Callback):
    def __init__(self) -> None:
        self.epochs: list[dict[str, float]] = []

    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        self.epochs.append({name: float(value) for name, value in trainer.callback_metrics.items()})


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs with a classifier of MNIST."""
    folder = tmp_path_factory.mktemp("runs")
    save(small_classifier(), folder / "classifier_mnist" / "default" / "checkpoints" / "best.ckpt")
    return folder


@pytest.fixture
def data(data_root: Path) -> RecoloredMNISTDataModule:
    return RecoloredMNISTDataModule(str(data_root), val_size=40, seed=0)


def prepared(root: Path, model: GenerativeModule, data: PairsDataModule, **arguments: Any) -> TranslationQuality:
    quality = TranslationQuality(**{"batch_size": 32, **arguments})
    quality.prepare(model, data, str(root))
    return quality


def run(
    quality: TranslationQuality, model: GenerativeModule, data: PairsDataModule, folder: Path, **arguments: Any
) -> list[dict[str, float]]:
    """The metrics of each epoch and of the test; warnings are errors."""
    records = Records()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", category=FutureWarning)  # Lightning's use of torch
        warnings.filterwarnings("ignore", ".*does not have many workers|The `srun` command")
        trainer = Trainer(
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=str(folder),
            callbacks=[quality, records],
            **{"max_epochs": 1, "num_sanity_val_steps": 0, "limit_train_batches": 1, **arguments},
        )
        trainer.fit(model, datamodule=data)
        return [*records.epochs, dict(trainer.test(model, datamodule=data, verbose=False)[0])]


def measured(
    model: GenerativeModule, data: PairsDataModule, root: Path, folder: Path, **arguments: Any
) -> dict[str, float]:
    """The metrics of the test, without the prefix `test/`."""
    quality = prepared(root, model, data, **arguments)
    quality.pictures = False
    test = run(quality, model, data, folder)[-1]
    return {name.removeprefix("test/"): value for name, value in test.items() if name != "test/loss"}


def test_a_perfect_translation(root: Path, data: RecoloredMNISTDataModule, tmp_path: Path):
    found = measured(Recolourer(), data, root, tmp_path)
    each = {f"{name}{end}" for name in BOTH_WAYS for end in ("", "_ab", "_ba")}
    assert set(found) == each | {"cycle_l1", "cycle_l1_a", "cycle_l1_b"}
    for name, value in {"color_agreement": 1, "psnr": 100, "ssim": 1, "l1": 0, "spectrum_distance": 0}.items():
        for end in ("", "_ab", "_ba"):
            assert found[name + end] == pytest.approx(value, abs=1e-6)
    assert found["frechet_classifier"] == pytest.approx(0, abs=1e-4)
    assert found["cycle_l1"] == pytest.approx(0, abs=1e-7)


def test_metrics_equal_those_of_the_images(root: Path, data: RecoloredMNISTDataModule, tmp_path: Path):
    """The metrics of the identity equal those of the functions that compare two sets of images."""
    found = measured(Identity(), data, root, tmp_path)
    source, target, labels = data.pairs("test", 1000)
    assert labels is not None and len(source) == 100
    classifier = EvaluationClassifier(small_classifier(), per_channel=True)
    distance = SpectrumDistance((28, 28))
    distance.update(source, real=False)
    distance.update(target, real=True)
    for end in ("", "_ab", "_ba"):
        assert found[f"l1{end}"] == pytest.approx((source - target).abs().mean().item(), rel=1e-5)
        assert found[f"psnr{end}"] == pytest.approx(psnr(source, target).mean().item(), rel=1e-5)
        assert found[f"ssim{end}"] == pytest.approx(ssim(source, target).mean().item(), rel=1e-5)
        assert found[f"spectrum_distance{end}"] == pytest.approx(distance.compute().item(), rel=1e-4)
        assert found[f"frechet_classifier{end}"] == pytest.approx(
            image_sets_frechet(classifier, source, target), rel=1e-3
        )
        assert found[f"color_agreement{end}"] == 0  # no digit has the same hue twice
    grey = source.amax(dim=1, keepdim=True)
    right = (small_classifier()(grey).argmax(dim=1) == labels).float().mean().item()
    assert 0 < right < 1 and found["digit_agreement_ab"] == pytest.approx(right)
    assert found["digit_agreement"] == pytest.approx((right + found["digit_agreement_ba"]) / 2)
    assert found["cycle_l1"] == 0


def test_black_translations_have_no_hue(root: Path, data: RecoloredMNISTDataModule, tmp_path: Path):
    model = Black()
    quality = prepared(root, model, data)
    test = run(quality, model, data, tmp_path)[-1]
    assert test["test/color_agreement"] == 0
    source, target, _ = data.pairs("test", 1000)
    assert test["test/cycle_l1_a"] == pytest.approx(source.mean().item(), rel=1e-4)
    assert test["test/cycle_l1_b"] == pytest.approx(target.mean().item(), rel=1e-4)
    assert test["test/cycle_l1"] == pytest.approx((source.mean() + target.mean()).item() / 2, rel=1e-4)
    for direction in ("ab", "ba"):
        assert picture(tmp_path, f"color_confusion_{direction}.png").shape[0] > 300


def test_validation_and_test_measure_their_images(root: Path, data: RecoloredMNISTDataModule, tmp_path: Path):
    model = Recolourer()
    quality = prepared(root, model, data, val_images=30)
    quality.pictures = False
    assert quality.measures
    first, second, test = run(quality, model, data, tmp_path, max_epochs=2)
    names = {name.removeprefix("val/") for name in first if name != "val/loss"} - {"train/loss"}
    assert names == {name.removeprefix("test/") for name in test if name != "test/loss"}
    assert {name: value for name, value in first.items() if name.startswith("val/")} == {
        name: value for name, value in second.items() if name.startswith("val/")
    }
    asked = sum(n for n, direction in model.asked if direction == "ab")
    assert asked == 2 * (2 * 30 + 100)  # of sources, and of the cycles of targets


def test_no_sanity_check_and_limited_batches(root: Path, data: RecoloredMNISTDataModule, tmp_path: Path):
    model = OneWay()
    quality = prepared(root, model, data, batch_size=8)
    quality.pictures = False
    first, *_ = run(quality, model, data, tmp_path, num_sanity_val_steps=1, limit_val_batches=1, limit_test_batches=2)
    assert FRECHET_MONITOR not in first
    assert [n for n, _ in model.asked] == [8, 8, 8]


def test_metrics_of_one_direction_have_no_suffix(root: Path, data: RecoloredMNISTDataModule, tmp_path: Path):
    model = OneWay()
    test = run(prepared(root, model, data), model, data, tmp_path)[-1]
    assert set(test) == {"test/loss"} | {f"test/{name}" for name in BOTH_WAYS}
    assert {path.name for path in (tmp_path / "media").iterdir()} == {"translations.png", "color_confusion.png"}


def test_the_baseline_is_measured(root: Path, data_root: Path, tmp_path: Path):
    """The baseline of a noisy image is the image itself, so that the identity has no gain."""
    noisy = NoisyMNISTDataModule(str(data_root), val_size=40, seed=0)
    found = measured(OneWay(), noisy, root, tmp_path)
    compared = ("l1", "psnr", "ssim", "spectrum_distance")
    assert set(found) == {*compared, *(f"{name}_input" for name in compared), *BOTH_WAYS[:2], "psnr_gain"}
    assert all(found[name] == found[f"{name}_input"] for name in compared) and found["psnr_gain"] == 0
    source, target, _ = noisy.pairs("test", 1000)
    assert found["psnr_input"] == pytest.approx(psnr(source, target).mean().item(), rel=1e-5)
    both = measured(Identity(), noisy, root, tmp_path)
    assert {"psnr", "psnr_ab", "psnr_ba", "psnr_input_ab", "psnr_gain_ab"} <= set(both)
    assert not {"psnr_input", "psnr_input_ba", "psnr_gain", "color_agreement"} & set(both)


def test_metrics_without_classes_labels_and_targets(
    data_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    data = Unknown(str(data_root), val_size=40, seed=0)
    model = Identity()
    quality = prepared(tmp_path, model, data)
    assert not quality.measures
    assert capsys.readouterr().out == (
        "mnist has no classes to train a classifier on, and one of random weights is no measure, so Frechet distances"
        " of translations are not measured and best.ckpt holds the last weights; give a classifier of similar images"
        " with --translation.classifier\n"
    )
    test = run(quality, model, data, tmp_path)[-1]
    expected = {"spectrum_distance", "spectrum_distance_ab", "spectrum_distance_ba"}
    assert set(test) == {"test/loss"} | {f"test/{name}" for name in expected | {"cycle_l1", "cycle_l1_a", "cycle_l1_b"}}
    assert [path.name for path in (tmp_path / "media").iterdir()] == ["translations.png"]


def test_a_given_classifier_measures_images_without_classes(data_root: Path, tmp_path: Path):
    data = Unknown(str(data_root), val_size=40, seed=0)
    path = save(small_classifier(num_classes=4, image_shape=(3, 28, 28)), tmp_path / "other.ckpt")
    found = measured(OneWay(), data, tmp_path, tmp_path, classifier=str(path))
    assert set(found) == {"frechet_classifier", "spectrum_distance"}


def test_hint_without_a_classifier(data: RecoloredMNISTDataModule, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    unasked = Identity()
    unasked.monitor = None
    assert not prepared(tmp_path, unasked, data).measures
    assert not prepared(tmp_path, Identity(), data, num_images=0).measures
    assert capsys.readouterr().out == ""
    found = measured(Identity(), data, tmp_path, tmp_path)
    said = capsys.readouterr().out
    assert "classifier_mnist/default/checkpoints/best.ckpt, so Frechet distances of translations are not" in said
    assert said.count("\n") == 1 and "`python train.py fit --config configs/classifier_mnist.yaml` makes it" in said
    assert {"psnr", "color_agreement"} <= set(found) and not {"frechet_classifier", "digit_agreement"} & set(found)
    with pytest.raises(CheckpointError, match="there is no checkpoint none.ckpt"):
        prepared(tmp_path, unasked, data, classifier="none.ckpt")


def test_no_metrics_with_num_images_0(root: Path, data: RecoloredMNISTDataModule, tmp_path: Path):
    model = Identity()
    first, test = run(prepared(root, model, data, num_images=0), model, data, tmp_path)
    assert set(first) == {"train/loss", "val/loss"} and set(test) == {"test/loss"}
    assert not model.asked and not (tmp_path / "media").exists()


def test_one_validation_image_is_refused(root: Path, data_root: Path):
    with pytest.raises(UsageError, match="1 validation image"):
        prepared(root, Identity(), RecoloredMNISTDataModule(str(data_root), val_size=1))


def test_translations_that_are_not_finite(root: Path, data: RecoloredMNISTDataModule, tmp_path: Path):
    """They agree with nothing; the other translations count as usual."""
    found = measured(NotFinite(), data, root, tmp_path)
    whole = measured(Identity(), data, root, tmp_path)
    distances = ("l1", "frechet_classifier", "spectrum_distance", "cycle_l1")
    assert all(found[name] == np.inf for name in distances) and found["psnr"] == -np.inf
    assert 0 < found["ssim"] < whole["ssim"] and 0 < found["digit_agreement"] < whole["digit_agreement"]
    assert found["color_agreement"] == 0


def test_the_random_state_is_kept(root: Path, data: RecoloredMNISTDataModule, tmp_path: Path):
    class Noisy(OneWay):
        def paint(self, images: torch.Tensor, direction: str) -> torch.Tensor:
            return torch.rand_like(images)

    model, before = Noisy(), torch.get_rng_state()
    quality = prepared(root, model, data)
    assert torch.equal(torch.get_rng_state(), before)
    first, second, _ = run(quality, model, data, tmp_path, max_epochs=2)
    assert first[FRECHET_MONITOR] == second[FRECHET_MONITOR]


def rows_of(*columns: torch.Tensor) -> np.ndarray:
    """Rows of these columns as in a picture, without its edge."""
    return np.asarray(image_grid(torch.stack(to_same_shape(*columns), dim=1).flatten(0, 1), len(columns)))[4:-4, 4:-4]


def test_the_picture_shows_inputs_translations_cycles_and_targets(
    root: Path, data: RecoloredMNISTDataModule, tmp_path: Path
):
    model = Recolourer()
    run(prepared(root, model, data), model, data, tmp_path)
    drawn = picture(tmp_path, "translations.png")
    source, target, _ = data.pairs("test", 64)
    for rows in (slice(8), slice(24, 32)):
        a, b = source[rows], target[rows]
        assert contains(drawn, rows_of(a, b, a, b)) and contains(drawn, rows_of(b, a, b, a))
    assert drawn.shape[1] < MAX_WIDTH + 100


def test_the_picture_of_upscaled_images(root: Path, data_root: Path, tmp_path: Path):
    class Dark(OneWay):
        def paint(self, images: torch.Tensor, direction: str) -> torch.Tensor:
            return images.new_zeros(len(images), 1, 28, 28)

    data = LowResolutionMNISTDataModule(str(data_root), val_size=40, seed=0)
    model = Dark()
    run(prepared(root, model, data), model, data, tmp_path)
    source, target, _ = data.pairs("test", 64)
    few, true = source[:8], target[:8]
    whole = few.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    expected = rows_of(whole, data.baseline(few), torch.zeros_like(whole), true)
    assert contains(picture(tmp_path, "translations.png"), expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"num_images": 1}, "num_images is 1"), ({"val_images": 1}, "val_images 1"), ({"batch_size": 0}, "batch_size is")],
)
def test_invalid_options_are_refused(arguments: dict[str, int], message: str):
    with pytest.raises(ValueError, match=message):
        TranslationQuality(**arguments)  # type: ignore[arg-type]


def fit(root: Path, data_root: Path, *args: str) -> train.Result:
    given = ["--trainer.accelerator=cpu", "--trainer.max_epochs=2", "--data.batch_size=20", "--data.val_size=40"]
    if not any(arg.startswith("--data=") for arg in args):
        given = ["--data=RecoloredMNISTDataModule", *given]
    return train.main(["fit", *args, *given, f"--data.root={data_root}", f"--run.root={root}"])


def test_a_run_logs_metrics_and_saves_pictures(root: Path, data_root: Path):
    done = fit(root, data_root, "--model=tests.genlab.callbacks.toy_translators.Recolourer", "--run.name=x")
    summary = read_summary(done.folder)
    assert summary is not None and summary["metrics"][FRECHET_MONITOR] == pytest.approx(0, abs=1e-4)
    assert summary["metrics"]["test/color_agreement"] == 1
    assert not {"model.source_shape", "model.image_shape"} & set(summary["config"])
    media = {path.name for path in (done.folder / "media").iterdir()}
    assert {"translations.png", "color_confusion_ab.png", "color_confusion_ba.png", "recolourer_grid.gif"} <= media
    with open(done.folder / "metrics.csv", newline="") as file:
        assert sum(bool(row["val/psnr_ba"]) for row in csv.DictReader(file)) == 2
    [*_, last] = sorted((done.folder / "media" / "frames").iterdir())
    with np.load(last) as arrays:
        images, columns = arrays["images"], int(arrays["columns"])
    assert columns == 8 and images.shape == (64, 3, 28, 28)
    rows = torch.from_numpy(images).reshape(-1, 4, 3, 28, 28)
    data = RecoloredMNISTDataModule(str(data_root), val_size=40, seed=0)
    source, target = data.examples("val", 16)
    for column, expected in enumerate((source, target, target, source)):
        assert torch.equal(rows[:, column].float(), expected.mul(255).round())


@pytest.mark.parametrize(("most", "columns", "tiles"), [(64, 8, 64), (10, 2, 10), (2, 2, 2), (50, 6, 48)])
def test_training_gif_of_one_direction(most: int, columns: int, tiles: int, data: RecoloredMNISTDataModule):
    data.setup()
    training_gif, model = TrainingGif(num_images=most), OneWay()
    images = training_gif._images(model, data, "val")
    assert images is not None and len(images) == tiles and training_gif._columns(model, tiles) == columns
    assert torch.equal(images[::2], images[1::2])


def test_without_a_classifier_the_last_weights_are_best(data_root: Path, tmp_path: Path):
    done = fit(tmp_path, data_root, "--model=tests.genlab.callbacks.toy_translators.Identity", "--run.pictures=false")
    assert {path.name for path in (done.folder / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    assert FRECHET_MONITOR not in done.metrics and "test/psnr" in done.metrics and not (done.folder / "media").exists()


@pytest.mark.parametrize(
    ("model", "data", "message"),
    [
        (
            "tests.genlab.callbacks.toy_translators.Identity",
            "MNISTDataModule",
            "Identity translates images of one kind into another, and MNISTDataModule has one kind; .*Recolored",
        ),
        (
            "Autoencoder",
            "RecoloredMNISTDataModule",
            "Autoencoder does not translate images, and RecoloredMNISTDataModule has pairs of them; use --data .*MNIST",
        ),
        (
            "tests.genlab.callbacks.toy_translators.Identity",
            "ColoredPairsMNISTDataModule",
            "Identity translates both ways between images of one shape, and those of ColoredPairsMNISTDataModule are"
            " 1 x 28 x 28 and 3 x 28 x 28; use --data .*NoisyMNIST",
        ),
        (
            "tests.genlab.callbacks.toy_translators.Unprepared",
            "LowResolutionMNISTDataModule",
            r"there are no weights to go from \(1, 14, 14\) to \(1, 28, 28\)",
        ),
    ],
)
def test_incompatible_models_and_data_are_refused(model: str, data: str, message: str, data_root: Path, tmp_path: Path):
    with pytest.raises(UsageError, match=message) as caught:
        fit(tmp_path, data_root, f"--model={model}", f"--data={data}")
    assert "\n" not in str(caught.value) and list(tmp_path.iterdir()) == []


def test_test_and_predict_do_not_prepare_a_fit(root: Path, data_root: Path):
    done = fit(
        root, data_root, "--model=tests.genlab.callbacks.toy_translators.OneWay", "--run.name=y", "--run.pictures=false"
    )
    weights = [f"--ckpt_path={done.folder}/checkpoints/best.ckpt", "--trainer.accelerator=cpu"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OneWay, "prepare_fit", lambda self: 1 / 0)
        again = train.main(["test", *weights])
        train.main(["predict", *weights])
    assert again.metrics["test/psnr"] == done.metrics["test/psnr"]
    with np.load(done.folder / "predict" / "predictions.npz") as arrays:
        assert list(arrays) == ["images"]
        assert arrays["images"].dtype == np.uint8 and arrays["images"].shape == (100, 3, 28, 28)
