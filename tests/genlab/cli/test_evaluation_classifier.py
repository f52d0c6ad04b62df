import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from filelock import FileLock

import train
from datamodules import DigitsDataModule, NoisyMNISTDataModule, StackedMNISTDataModule
from genlab.cli import evaluation_classifier
from genlab.cli.evaluation_classifier import TAG, check_trainable, trained_classifier, untrained_classifier
from genlab.evaluation.classifier import EvaluationClassifier, default_classifier, own_classifier, ready_classifier
from genlab.runs.errors import UsageError
from genlab.runs.folder import LOCK_FILE, read_summary, write_summary
from lit_models import Classifier
from tests.genlab.evaluation.test_classifier import save, small_classifier

TRIAL: Any = SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device("cpu"), launcher=None))
CONFIG = {
    "data": {"class_path": "DigitsDataModule", "init_args": {"root": "data", "val_size": 300, "batch_size": 9}},
    "trainer": {"enable_progress_bar": False},
    "run": {"pictures": False},
    "trusted": True,
    "import": None,
}


def arrays(path: Path, classes: int = 2, seed: int = 0) -> str:
    images = np.random.default_rng(seed).integers(0, 256, (40, 8, 8), np.uint8)
    np.savez(path, images=images, labels=np.arange(40) % classes)
    return str(path)


@pytest.fixture
def fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., train.Result]:
    """Trains a GAN on an array file for an epoch, after a classifier that is trained for one too."""
    monkeypatch.setattr(evaluation_classifier, "MIN_EPOCHS", 1)
    monkeypatch.setattr(evaluation_classifier, "MAX_EPOCHS", 1)
    options = {
        "model": "GAN",
        "model.latent_dim": 2,
        "model.generator": "MLPGenerator",
        "model.discriminator": "MLPDiscriminator",
        "data": "ArrayDataModule",
        "data.file": arrays(tmp_path / "noise.npz"),
        "quality.classifier": "train",
        "quality.num_images": 8,
        "quality.val_images": 8,
        "trainer.max_epochs": 1,
        "trainer.accelerator": "cpu",
        "trainer.enable_progress_bar": "false",
        "run.root": tmp_path / "runs",
        "run.pictures": "false",
    }

    def run(**more: Any) -> train.Result:
        given = options | {name.replace("__", "."): value for name, value in more.items()}
        return train.main(["fit", *(f"--{name}={value}" for name, value in given.items())])

    return run


def test_a_classifier_is_trained_once_and_changes_nothing_else(
    fit: Callable[..., train.Result], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    dry = fit(trainer__fast_dev_run="true")
    assert "test/frechet_classifier" in dry.metrics and not (tmp_path / "runs").exists()
    capsys.readouterr()
    first = fit()
    path = tmp_path / "runs" / "classifier_noise" / "default" / "checkpoints" / "best.ckpt"
    said = capsys.readouterr().out
    assert said.startswith("training the evaluation classifier of noise first\n")
    assert "the evaluation classifier of noise has a test accuracy of " in said and f"with 2 classes: {path}\n" in said
    assert sorted(entry.name for entry in path.parents[2].iterdir()) == ["default"]
    again = fit()
    assert "evaluation classifier" not in capsys.readouterr().out
    measured_by = {(read_summary(run.folder) or {})["classifier"] for run in (first, again)}
    assert measured_by == {EvaluationClassifier(Classifier.load(path)).fingerprint}
    assert (again.folder / "metrics.csv").read_bytes() == (first.folder / "metrics.csv").read_bytes()
    config = yaml.safe_load((first.folder / "config.yaml").read_text())
    assert config["quality"]["classifier"] == str(path)
    recorded = yaml.safe_load((first.folder / "summary.json").read_text())["config"]
    assert recorded["quality.classifier"] == str(path)


def test_data_without_classes_are_refused(fit: Callable[..., train.Result], tmp_path: Path):
    with pytest.raises(UsageError, match=r"--quality.classifier train needs data with at least two classes, and flat"):
        fit(data__file=arrays(tmp_path / "flat.npz", classes=1))
    assert not (tmp_path / "runs").exists()


def test_data_that_are_computed_from_others_have_their_classifier(data_root: Path):
    for data in (StackedMNISTDataModule(str(data_root)), NoisyMNISTDataModule(str(data_root))):
        check_trainable(data, "--quality.classifier")
        init = {"root": str(data_root), "paired": True, "val_size": 7, "batch_size": 3}
        found = evaluation_classifier._arguments(data, CONFIG | {"data": {"init_args": init}}, TRIAL)
        assert found[1].endswith("classifier_mnist.yaml")
        assert "'datamodules.MNISTDataModule', 'init_args': {'batch_size': 128, 'val_size': 7" in found[2]
        assert train.check(["fit", *found]) is None
    assert untrained_classifier(StackedMNISTDataModule(str(data_root))).num_modes == 1000


def made(run: Path, state: str | None, tags: list[str]) -> None:
    run.mkdir(parents=True)
    (run / "config.yaml").write_text(yaml.safe_dump({"run": {"tags": tags}}))
    if state is not None:
        write_summary(run, {"state": state})


@pytest.mark.parametrize(
    ("state", "tags", "begun_anew"),
    [
        ("killed", [TAG], True),
        ("running", [TAG], True),
        ("killed", [], False),
        ("finished", [TAG], False),
        (None, [], False),
    ],
)
def test_only_an_unfinished_classifier_of_its_own_is_replaced(
    state: str | None, tags: list[str], begun_anew: bool, tmp_path: Path
):
    data, given = DigitsDataModule(), []
    default, own = (of(data, tmp_path).parents[1] for of in (default_classifier, own_classifier))
    made(default, state, tags)
    save(small_classifier(), default / "checkpoints" / "best.ckpt")

    def fit(args: list[str]) -> Any:
        given.extend(args)
        return SimpleNamespace(metrics={"test/accuracy": 0.5})

    assert ready_classifier(data, tmp_path) is None
    path = trained_classifier(data, CONFIG, TRIAL, str(tmp_path), fit)
    assert path.parents[1] == (default if begun_anew else own)
    assert f"--run.name={path.parents[1].name}" in given and "--run.overwrite=true" in given


def test_one_process_trains_and_another_waits(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    data = DigitsDataModule()
    path = default_classifier(data, tmp_path)
    path.parents[2].mkdir(parents=True)
    lock = FileLock(path.parents[2] / LOCK_FILE, thread_local=False)
    found = []

    def wait() -> None:
        found.append(trained_classifier(data, CONFIG, TRIAL, str(tmp_path), lambda args: pytest.fail("trained twice")))

    with lock:
        waiting = threading.Thread(target=wait)
        waiting.start()
        while "waiting for another process" not in capsys.readouterr().out:
            assert waiting.is_alive()
        save(small_classifier(), path, data)
    waiting.join()
    assert found == [path]
