import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
import torch
import torch.distributed as dist
from lightning import Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torchmetrics.image.fid import FrechetInceptionDistance

from datamodules import DigitsDataModule
from datamodules.base import Split
from genlab.callbacks import sample_quality
from genlab.callbacks.sample_quality import SampleQuality
from genlab.evaluation.classifier import EvaluationClassifier, image_sets_frechet
from genlab.evaluation.sample_scores import FRECHET_MONITOR, SampleScores
from genlab.runs.errors import UsageError
from lit_models import GenerativeModule
from lit_models.common.checkpoints import CheckpointError
from tests.genlab.evaluation.test_classifier import save, small_classifier
from tests.preloaded import two_processes


class Copier(GenerativeModule):
    """Samples random images of those that it was given, and learns nothing."""

    monitor: ClassVar[tuple[str, Literal["min", "max"]] | None] = (FRECHET_MONITOR, "min")

    def __init__(self, images: Tensor) -> None:
        super().__init__(lambda params: torch.optim.SGD(params, lr=0.0))
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.images = images
        self.asked: list[tuple[int, int | None]] = []
        self.value = 1.0

    def loss_terms(self, batch: Any) -> dict[str, Tensor]:
        return {"loss": self.weight.square()}

    def sample(self, n: int, label: int | None = None) -> Tensor:
        self.asked.append((n, label))
        return self.value * self.images[torch.randint(len(self.images), (n,))]


class Loss(Copier):
    monitor = ("val/loss", "min")


class Classes(Copier):
    """Samples images of a class from the numbers in `rows`."""

    num_classes = 10
    rows: list[Tensor]

    def sample(self, n: int, label: int | None = None) -> Tensor:
        assert label is not None
        self.asked.append((n, label))
        picked = self.rows[label]
        return self.images[picked[torch.randint(len(picked), (n,))]]


class Records(Callback):
    def __init__(self) -> None:
        self.epochs: list[dict[str, float]] = []

    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        self.epochs.append({name: float(value) for name, value in trainer.callback_metrics.items()})


@pytest.fixture(scope="module")
def images() -> Tensor:
    data = DigitsDataModule(seed=0)
    data.setup()
    return data.examples("train", 10**6)[0]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs with a classifier of the digits."""
    folder = tmp_path_factory.mktemp("runs")
    save(small_classifier(), folder / "classifier_digits" / "default" / "checkpoints" / "best.ckpt")
    return folder


def prepared(root: Path, model: GenerativeModule, **arguments: Any) -> SampleQuality:
    quality = SampleQuality(**{"num_images": 300, "val_images": 250, "batch_size": 100, **arguments})
    quality.prepare(model, DigitsDataModule(), str(root))
    return quality


def run(quality: SampleQuality, model: GenerativeModule, folder: Path, test: bool = True, **arguments: Any) -> Records:
    """Fits and tests a model; warnings are errors."""
    records = Records()
    settings = {"max_epochs": 2, "num_sanity_val_steps": 0, **arguments}
    data = DigitsDataModule(seed=0, batch_size=600)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", category=FutureWarning)  # Lightning's use of torch
        warnings.filterwarnings("ignore", ".*does not have many workers|The `srun` command")
        warnings.filterwarnings("ignore", "You have overridden `on_after_batch_transfer`")
        trainer = Trainer(
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=str(folder),
            log_every_n_steps=1,
            callbacks=[quality, records],
            **settings,
        )
        trainer.fit(model, datamodule=data)
        if test:
            found = trainer.test(model, datamodule=data, verbose=False)[0]
            records.epochs.append(dict(found))
    return records


def test_metrics_of_validation_and_test(root: Path, images: Tensor, tmp_path: Path):
    model = Copier(images)
    quality = prepared(root, model)
    assert quality.measures
    first, second, test = run(quality, model, tmp_path).epochs
    assert {name for name in first if not name.endswith("loss")} == {FRECHET_MONITOR, "val/modes", "val/modes_kl"}
    assert first[FRECHET_MONITOR] == second[FRECHET_MONITOR]  # the same samples each time
    names = {"frechet_classifier", "modes", "modes_kl", "precision", "recall"}
    assert set(test) == {"test/loss"} | {f"test/{name}" for name in names}
    assert test["test/precision"] > 0.5 and test["test/recall"] > 0.5
    assert (tmp_path / "media" / "nearest.png").exists()


def test_metrics_equal_those_of_the_generated_images(root: Path, images: Tensor, tmp_path: Path):
    model = Copier(images)
    quality = prepared(root, model, val_images=250)
    drawn = []
    model.sample = lambda n, label=None: drawn.append(Copier.sample(model, n)) or drawn[-1]  # type: ignore
    found = run(quality, model, tmp_path, test=False, max_epochs=1).epochs[0]
    assert [len(batch) for batch in drawn] == [100, 100, 50]
    data = DigitsDataModule(seed=0)
    data.setup()
    real, fake = data.examples("val", 200)[0], torch.cat(drawn)
    classifier = EvaluationClassifier(small_classifier())
    assert found[FRECHET_MONITOR] == pytest.approx(image_sets_frechet(classifier, real, fake), rel=1e-4)
    shares = np.bincount(classifier.modes(fake).numpy(), minlength=10) / 250
    expected = sum(p * np.log(10 * p) for p in shares if p)
    assert found["val/modes"] == (shares > 0).sum()
    assert found["val/modes_kl"] == pytest.approx(expected, rel=1e-5)


def test_sampling_keeps_the_random_state(images: Tensor):
    model, classifier = Copier(images), EvaluationClassifier(small_classifier())
    trainer = SimpleNamespace(global_rank=0, world_size=1)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    SampleQuality()._add_samples(SampleScores(classifier), trainer, model, 10, 0)  # type: ignore[arg-type]
    assert torch.equal(torch.get_rng_state(), before)


def test_loading_the_classifier_keeps_the_random_state(root: Path, images: Tensor):
    model, before = Copier(images), torch.get_rng_state()
    prepared(root, model)
    assert torch.equal(torch.get_rng_state(), before)


def test_only_models_selected_by_frechet_are_measured_in_validation(root: Path, images: Tensor, tmp_path: Path):
    model = Loss(images)
    first, _, test = run(prepared(root, model), model, tmp_path).epochs
    assert FRECHET_MONITOR not in first and "test/frechet_classifier" in test
    assert not (tmp_path / "media").exists()


def test_no_sanity_check_and_no_pictures(root: Path, images: Tensor, tmp_path: Path):
    model = Copier(images)
    quality = prepared(root, model)
    quality.pictures = False
    records = run(quality, model, tmp_path, num_sanity_val_steps=2, max_epochs=1)
    assert [FRECHET_MONITOR in epoch for epoch in records.epochs] == [False, True, False]
    assert not (tmp_path / "media").exists()


def test_limited_batches_limit_the_samples(root: Path, images: Tensor, tmp_path: Path):
    model = Copier(images)
    run(prepared(root, model, num_images=10000, val_images=5000), model, tmp_path, fast_dev_run=True)
    assert sum(n for n, _ in model.asked) == 100 + 100 + 20
    model.asked.clear()
    quality = prepared(root, model, num_images=10000, val_images=5000, batch_size=1)
    run(quality, model, tmp_path, max_epochs=1, limit_val_batches=1, limit_test_batches=2)
    assert sum(n for n, _ in model.asked) == 4 + 4 + 20  # as many as precision and recall need


@pytest.mark.parametrize(
    ("real", "val", "test"), [(30, 500, 500), (2000, 2000, 2000), (5000, 5000, 5000), (10000, 5000, 10000)]
)
def test_by_default_there_are_as_many_samples_as_real_images(real: int, val: int, test: int):
    class Data(DigitsDataModule):
        def number_of_images(self, split: Split) -> int:
            return real

    quality = SampleQuality()
    assert [quality._number_of_samples(split, Data(), 1.0) for split in ("val", "test")] == [val, test]
    assert quality._number_of_samples("test", Data(), 1) == 500


def test_samples_that_are_not_finite_have_infinite_distance(root: Path, images: Tensor, tmp_path: Path):
    model = Copier(images)
    model.value = torch.nan
    first, _, test = run(prepared(root, model), model, tmp_path).epochs
    assert first[FRECHET_MONITOR] == test["test/frechet_classifier"] == np.inf
    assert first["val/modes"] == test["test/precision"] == test["test/recall"] == 0


def test_class_agreement_samples_each_class_equally_often(root: Path, images: Tensor, tmp_path: Path):
    """Samples of a class are images that are predicted to be of this class, if there are any."""
    model = Classes(images)
    modes = EvaluationClassifier(small_classifier()).modes(images)
    seen = modes.unique().tolist()
    model.rows = [(modes == (k if k in seen else seen[0])).nonzero()[:, 0] for k in range(10)]
    test = run(prepared(root, model, num_images=300), model, tmp_path, max_epochs=1).epochs[-1]
    assert test["test/class_agreement"] == pytest.approx(len(seen) / 10)
    counts = {label: sum(n for n, of in model.asked if of == label) for label in range(10)}
    assert set(counts.values()) == {25 + 30 + 2}  # validation, test, the picture


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_images": 3}, "num_images is 3"),
        ({"val_images": 1}, "val_images 1"),
        ({"neighbours": 0}, "neighbours is 0"),
        ({"batch_size": 0}, "batch_size 0"),
    ],
)
def test_invalid_options_are_refused(arguments: dict[str, int], message: str):
    with pytest.raises(ValueError, match=message):
        SampleQuality(**arguments)  # type: ignore[arg-type]


def test_hint_without_a_classifier(images: Tensor, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for model in (torch.nn.Identity(), Loss(images)):
        assert not prepared(tmp_path, model).measures  # type: ignore[arg-type]
    assert not prepared(tmp_path, Copier(images), num_images=0).measures
    assert capsys.readouterr().out == ""
    assert not prepared(tmp_path, Copier(images)).measures
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    assert "classifier_digits/default/checkpoints/best.ckpt, so samples are not measured and best.ckpt" in said
    assert said.endswith(
        "; --quality.classifier train trains one first, or `python train.py fit --config"
        " configs/classifier_digits.yaml` makes it\n"
    )


def test_no_metrics_without_a_classifier(images: Tensor, tmp_path: Path):
    model = Copier(images)
    epochs = run(prepared(tmp_path, model), model, tmp_path).epochs
    assert {name.split("/")[1] for epoch in epochs for name in epoch} == {"loss"} and not model.asked


def test_an_unusable_default_classifier_is_an_error_only_if_needed(images: Tensor, tmp_path: Path):
    path = tmp_path / "classifier_digits" / "default" / "checkpoints" / "best.ckpt"
    save(small_classifier(num_classes=3), path)
    assert not prepared(tmp_path, Loss(images)).measures
    for model, arguments in ((Copier(images), {}), (Loss(images), {"classifier": str(path)})):
        with pytest.raises(CheckpointError, match="classifies into 3 classes"):
            prepared(tmp_path, model, **arguments)


def test_one_validation_image_is_refused(root: Path, images: Tensor):
    with pytest.raises(UsageError, match="1 validation image"):
        SampleQuality().prepare(Copier(images), DigitsDataModule(val_size=1), str(root))


def _bank(n: int) -> Tensor:
    return torch.rand(n, 1, 28, 28, generator=torch.Generator().manual_seed(5))


def _measure(rank: int, world: int) -> dict[str, float]:
    """The scores of one of `world` processes, whose samples are its share of a fixed set."""
    quality = SampleQuality(batch_size=4)
    quality.evaluation_classifier = EvaluationClassifier(small_classifier())
    data = SimpleNamespace(
        example_batches=lambda split, n, size, part: ((images, None) for images in _bank(21)[:n][part].split(size))
    )
    trainer: Any = SimpleNamespace(global_rank=rank, world_size=world, datamodule=data, limit_test_batches=1.0)
    mine = iter(0.7 * _bank(40)[15:][rank::world])
    model: Any = SimpleNamespace(
        sample=lambda n, label: torch.stack([next(mine) for _ in range(n)]), log=lambda *_, **__: None
    )
    scores = SampleScores(quality.evaluation_classifier, neighbours=3)
    quality._add_real(scores, trainer, "test", 1.0)
    quality._add_samples(scores, trainer, model, 25, seed=0)
    return scores.compute()


def _rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    torch.save(_measure(rank, 2), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_measure_all_images(tmp_path: Path):
    two_processes(_rank, str(tmp_path))
    alone = _measure(0, 1)
    assert set(alone) == {"frechet_classifier", "modes", "modes_kl", "precision", "recall"}
    for rank in range(2):
        assert torch.load(tmp_path / f"{rank}.pt") == pytest.approx(alone, rel=1e-4)


def test_inception_needs_its_package_and_a_classifier(root: Path, images: Tensor, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("genlab.evaluation.inception.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"needs? torch-fidelity: pip install 'genlab\[inception\]'"):
        prepared(root, Loss(images), inception=True)
    with pytest.raises(UsageError, match="needs an evaluation classifier too, but there is no none/classifier_digits"):
        prepared(Path("none"), Loss(images), inception=True)


class Unlabelled(DigitsDataModule):
    classes = ("image",)

    def read(self) -> dict[str, np.ndarray]:
        return {name: 0 * array if name[0] == "y" else array for name, array in super().read().items()}


class Pooled(torch.nn.Module):
    """Takes the place of Inception: means of parts of uint8 images."""

    num_features = 48

    def forward(self, images: Tensor) -> Tensor:
        return torch.nn.functional.avg_pool2d(images.float(), 7).flatten(1)


@pytest.mark.parametrize("there", [False, True])
def test_data_without_classes_are_measured_by_inception_if_its_weights_are_there(
    there: bool, images: Tensor, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sample_quality, "has_inception", lambda weights: there)
    monkeypatch.setattr(sample_quality, "inception_distance", lambda weights: FrechetInceptionDistance(Pooled()))
    model, quality = Copier(images), SampleQuality(num_images=50, batch_size=50)
    quality.prepare(model, Unlabelled(), str(tmp_path))
    assert not quality.measures and model.asked == []
    said = capsys.readouterr().out
    assert said.startswith("digits has no classes to train a classifier on") and said.count("\n") == 1
    assert ("so only the test measures samples, by Inception, and best.ckpt holds the last weights" in said) == there
    assert ("--quality.classifier or Inception with --quality.inception true" in said) != there
    found = run(quality, model, tmp_path, max_epochs=1).epochs[-1]
    assert ("test/frechet_inception" in found) == there and "test/frechet_classifier" not in found


@pytest.mark.slow
def test_inception_and_classifier_distances_are_both_logged(root: Path, images: Tensor, tmp_path: Path):
    """Random weights in place of the real ones give a distance of its own under its own name."""
    inception = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inception, "load_state_dict_from_url", lambda *_, **__: None)
        patch.setattr(inception.FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)
        torch.manual_seed(0)
        network = inception.FeatureExtractorInceptionV3("x", ["2048"])
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    model = Loss(images)
    quality = prepared(
        root, model, inception=True, inception_weights=str(tmp_path / "weights.pth"), batch_size=4, num_images=10
    )
    test = run(quality, model, tmp_path, limit_test_batches=2, max_epochs=1).epochs[-1]
    assert np.isfinite(test["test/frechet_inception"])
    assert test["test/frechet_inception"] != test["test/frechet_classifier"]
