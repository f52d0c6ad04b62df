from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.distributed as dist
from lightning import Trainer, seed_everything
from sklearn.metrics import roc_auc_score

from datamodules import AnomalyMNISTDataModule, DigitsDataModule, ImageDataModule
from genlab.callbacks.anomaly_scores import AnomalyScores
from lit_models.anomaly_detector import AnomalyDetector, ScoresByKind, area_under_roc
from lit_models.common.encoder_decoders import MLPNetworks
from tests.preloaded import two_processes


def small(**options: object) -> AnomalyDetector:
    seed_everything(0, verbose=False)
    return AnomalyDetector(2, MLPNetworks((8,)), **{"threshold_quantile": 0.8, **options})  # type: ignore[arg-type]


def kinds(root: Path, val_size: int = 40) -> AnomalyMNISTDataModule:
    return AnomalyMNISTDataModule(root=str(root), val_size=val_size, batch_size=40, seed=0)


def quiet(folder: Path, **options: object) -> Trainer:
    shown = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    options = {"accelerator": "cpu", "max_epochs": 2, "default_root_dir": folder, **shown, **options}
    return Trainer(**options, enable_model_summary=False)  # type: ignore[arg-type]


def measured(model: AnomalyDetector, data: ImageDataModule, folder: Path, **options: object) -> dict[str, float]:
    return quiet(folder, **options).test(model, data, verbose=False)[0]  # type: ignore[return-value]


def scores_by_hand(model: AnomalyDetector, images: torch.Tensor) -> np.ndarray:
    with torch.no_grad():
        versions = model.eval().reconstruct(images).double().numpy()
    return ((versions - images.double().numpy()) ** 2).mean(axis=(1, 2, 3))


def test_the_score_is_each_images_mean_squared_error():
    model, images = small(), torch.rand(5, 1, 28, 28)
    np.testing.assert_allclose(model.score_images(images).detach().numpy(), scores_by_hand(model, images), rtol=1e-5)
    torch.testing.assert_close(model.score_images(images).mean(), model.loss_terms((images, None))["mse"])


def test_an_image_beyond_the_threshold_is_an_anomaly():
    model, images = small(), torch.rand(6, 1, 28, 28)
    assert not model.is_anomaly(images).any()  # no threshold yet
    scores = model.score_images(images)
    model.threshold.copy_(scores.sort().values[3])
    assert model.is_anomaly(images).sum() == 2 and model.is_anomaly(images).dtype == torch.bool


@pytest.mark.parametrize("val_size", [40, 0])
def test_the_threshold_is_the_quantile_of_the_training_scores_and_in_the_checkpoint(
    val_size: int, data_root: Path, tmp_path: Path
):
    model, data = small(threshold_images=100), kinds(data_root, val_size)
    trainer = quiet(tmp_path)
    trainer.fit(model, data)
    scores = scores_by_hand(model, data.examples("train", 100)[0])
    assert float(model.threshold) == pytest.approx(np.quantile(scores, 0.8), rel=1e-5)
    trainer.save_checkpoint(tmp_path / "saved.ckpt")
    loaded = AnomalyDetector.load(tmp_path / "saved.ckpt")
    assert torch.equal(loaded.threshold, model.threshold) and loaded.threshold_quantile == 0.8
    images = data.examples("test", 50)[0]
    assert torch.equal(loaded.is_anomaly(images), model.eval().is_anomaly(images))


def test_a_checkpoint_of_the_validated_weights_has_their_threshold(data_root: Path, tmp_path: Path):
    from genlab.callbacks import BestCheckpoint

    model, data = small(threshold_images=100), kinds(data_root)
    best = BestCheckpoint(tmp_path, "val/mse", "min")
    quiet(tmp_path, callbacks=[best], enable_checkpointing=True, max_epochs=3).fit(model, data)
    loaded = AnomalyDetector.load(best.path)
    scores = scores_by_hand(loaded, data.examples("train", 100)[0])
    assert float(loaded.threshold) == pytest.approx(np.quantile(scores, 0.8), rel=1e-5)


def test_neither_test_nor_validation_moves_the_threshold(data_root: Path, tmp_path: Path):
    model = small()
    quiet(tmp_path).validate(model, kinds(data_root), verbose=False)
    measured(model, kinds(data_root), tmp_path)
    assert model.threshold == torch.inf


def test_setting_the_threshold_leaves_the_model_as_it_was(data_root: Path, tmp_path: Path):
    """Training with and without one gives the same weights."""
    with_one, without = small(threshold_images=100), small(threshold_images=0)
    for model in (with_one, without):
        seed_everything(1, verbose=False)
        quiet(tmp_path).fit(model, kinds(data_root))
    assert without.threshold == torch.inf > with_one.threshold
    assert all(torch.equal(a, b) for a, b in zip(with_one.parameters(), without.parameters(), strict=True))


def test_areas_and_shares_are_those_of_scikit_learn_and_numpy(data_root: Path, tmp_path: Path):
    model, data = small(), kinds(data_root)
    quiet(tmp_path).fit(model, data)
    metrics = measured(model, data, tmp_path)
    images, labels = data.examples("test", 10_000)
    scores, labels, threshold = scores_by_hand(model, images), labels.numpy(), float(model.threshold)
    areas = []
    for label, kind in list(enumerate(data.classes))[1:]:
        pair = (labels == 0) | (labels == label)
        areas.append(roc_auc_score(labels[pair] > 0, scores[pair]))
        assert metrics[f"test/auroc_{kind}"] == pytest.approx(areas[-1], abs=1e-5)
        assert metrics[f"test/detected_{kind}"] == pytest.approx((scores[labels == label] > threshold).mean())
    assert metrics["test/auroc"] == pytest.approx(np.mean(areas), abs=1e-5)
    assert metrics["test/false_alarms"] == pytest.approx((scores[labels == 0] > threshold).mean())
    assert metrics["test/mse"] == pytest.approx(scores[labels == 0].mean(), rel=1e-5)


def test_equal_scores_count_half():
    normal, anomalous = torch.tensor([0.1, 0.2, 0.2, 0.3]), torch.tensor([0.2, 0.2, 0.9])
    assert float(area_under_roc(normal, anomalous)) == pytest.approx(
        roc_auc_score([0] * 4 + [1] * 3, [*normal, *anomalous])
    )
    assert area_under_roc(normal, anomalous[:0]).isnan()


def test_a_kind_that_was_not_tested_has_no_area(data_root: Path, tmp_path: Path):
    metrics = measured(small(), kinds(data_root), tmp_path, limit_test_batches=1)
    assert np.isnan(metrics["test/auroc"]) and metrics["test/false_alarms"] == 0


def test_data_without_anomalies_log_the_error_only(tmp_path: Path):
    data = DigitsDataModule()
    model = small()
    metrics = measured(model, data, tmp_path, callbacks=[AnomalyScores()])
    assert metrics.keys() == {"test/mse"} and not (tmp_path / "media").exists()
    assert metrics["test/mse"] == pytest.approx(scores_by_hand(model, data.examples("test", 999)[0]).mean(), rel=1e-5)


def _rank(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    scores = ScoresByKind()
    for part in (torch.arange(5), torch.arange(5, 8)) if rank == 0 else (torch.arange(8, 10),):
        scores.update(part / 10, part % 2)
    torch.save([scores.of_kind(kind) for kind in (0, 1)], f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_every_process_knows_the_scores_of_all(tmp_path: Path):
    two_processes(_rank, str(tmp_path))
    for rank in range(2):
        even, odd = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        torch.testing.assert_close(even.sort().values, torch.tensor([0.0, 0.2, 0.4, 0.6, 0.8]))
        torch.testing.assert_close(odd.sort().values, torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9]))


def test_predictions_are_scores_and_anomalies(data_root: Path, tmp_path: Path):
    model, data = small(), kinds(data_root)
    data.setup()
    batches = quiet(tmp_path).predict(model, data)
    assert batches is not None
    scores = torch.cat([batch["scores"] for batch in batches]).numpy()  # type: ignore[call-overload]
    images = torch.cat([images for images, _ in data.test_dataloader()])
    np.testing.assert_allclose(scores, scores_by_hand(model, images), rtol=1e-5)
    assert batches[0].keys() == {"scores", "anomalies", "labels"}  # type: ignore[union-attr]


@pytest.mark.parametrize("threshold", [0.1, float("inf")])
def test_pictures_are_made(threshold: float, data_root: Path, tmp_path: Path):
    model = small()
    model.threshold.fill_(threshold)
    measured(model, kinds(data_root), tmp_path, callbacks=[AnomalyScores(num_images=60, columns=7)])
    assert {path.name for path in (tmp_path / "media").iterdir()} == {"anomaly_scores.png", "anomaly_mistakes.png"}


def test_pictures_are_made_of_any_model_that_scores_images(data_root: Path, tmp_path: Path):
    class ByBrightness(torch.nn.Module):
        device, dtype = torch.device("cpu"), torch.float32

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("threshold", torch.tensor(0.3))

        def score_images(self, images: torch.Tensor) -> torch.Tensor:
            return images.mean(dim=(1, 2, 3))

        def reconstruct(self, images: torch.Tensor) -> torch.Tensor:
            return images

    running = SimpleNamespace(
        datamodule=kinds(data_root), is_global_zero=True, default_root_dir=str(tmp_path), loggers=[]
    )
    AnomalyScores(num_images=60).on_test_end(running, ByBrightness())  # type: ignore[arg-type]
    assert {path.name for path in (tmp_path / "media").iterdir()} == {"anomaly_scores.png", "anomaly_mistakes.png"}


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"latent_dim": 0}, "latent_dim is 0"),
        ({"threshold_quantile": 1.5}, "threshold_quantile is 1.5"),
        ({"threshold_images": -1}, "threshold_images -1"),
    ],
)
def test_invalid_options_raise_an_error(options: dict, complaint: str):
    with pytest.raises(ValueError, match=complaint):
        AnomalyDetector(**options)
