from pathlib import Path

import pytest
import torch
from torch import nn

from lit_models import Autoencoder, CheckpointError, Classifier, Probe
from tests.helpers import fit, same, saved, weights


@pytest.fixture
def with_batch_norm(tmp_path: Path) -> Path:
    """A classifier's checkpoint: an encoder that has batch normalisation."""
    return saved(Classifier(channels=(4,), feature_dim=6), tmp_path / "encoder.ckpt")


@pytest.mark.parametrize("frozen", [True, False])
def test_freezing_is_complete(frozen: bool, with_batch_norm: Path):
    probe = Probe(str(with_batch_norm), freeze_encoder=frozen)
    before = {name: value.clone() for name, value in probe.encoder.state_dict().items()}
    optimizer = probe.configure_optimizers()
    probe.train()
    for _ in range(3):
        loss = probe.loss_terms((torch.rand(8, 1, 28, 28), torch.arange(8)))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert same(before, probe.encoder.state_dict()) == frozen
    norms = [module for module in probe.encoder.modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms and all(norm.training != frozen for norm in norms)
    assert probe.classifier.training


def test_a_fine_tuned_encoder_may_learn_more_slowly(encoder_checkpoint: Path):
    probe = Probe(str(encoder_checkpoint), freeze_encoder=False, encoder_lr_factor=0.1)
    mlp, encoder = probe.configure_optimizers().param_groups
    assert mlp["lr"] == 1e-3 and encoder["lr"] == pytest.approx(1e-4)
    assert sum(p.numel() for p in encoder["params"]) == sum(p.numel() for p in probe.encoder.parameters())
    assert len(Probe(str(encoder_checkpoint)).configure_optimizers().param_groups) == 1


def test_the_mlp_has_the_widths_of_the_study(encoder_checkpoint: Path):
    probe = Probe(str(encoder_checkpoint), mlp_width=650)
    widths = [(layer.in_features, layer.out_features) for layer in probe.classifier if isinstance(layer, nn.Linear)]
    assert widths == [(3, 650), (650, 100), (100, 10)]


def test_the_encoder_is_the_checkpoints(encoder_checkpoint: Path):
    probe, autoencoder = Probe(str(encoder_checkpoint)), Autoencoder.load(encoder_checkpoint)
    assert same(probe.encoder.state_dict(), autoencoder.encoder.state_dict())
    assert probe.derived_config()["encoder.latent_dim"] == 3
    assert not any(name.startswith("decoder") for name, _ in probe.named_parameters())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_the_encoder_takes_images_of_another_precision(dtype: torch.dtype, encoder_checkpoint: Path):
    """Codes are precomputed from float32 images, before the trainer converts a batch."""
    model = Probe(str(encoder_checkpoint)).to(dtype)
    assert model.encode(torch.zeros(2, 1, 28, 28)).dtype == dtype


def test_placeholders_in_the_path_are_replaced(encoder_checkpoint: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("PL_GLOBAL_SEED", "5")
    (tmp_path / "d3s5.ckpt").write_bytes(encoder_checkpoint.read_bytes())
    Probe(f"{tmp_path}/d{{latent_dim}}s{{seed}}.ckpt", latent_dim=3)
    with pytest.raises(CheckpointError, match="give --model.latent_dim"):
        Probe(f"{tmp_path}/d{{latent_dim}}.ckpt")


def test_what_does_not_fit_is_refused(encoder_checkpoint: Path, tmp_path: Path):
    best = tmp_path / "run" / "checkpoints" / "best.ckpt"
    best.parent.mkdir(parents=True)
    best.touch()
    for folder in (tmp_path, tmp_path / "run"):
        with pytest.raises(CheckpointError, match=f"{folder} is a folder; give a checkpoint in it, such as {best}"):
            Probe(str(folder))
    with pytest.raises(CheckpointError, match="codes of width 3, but model.latent_dim is 4"):
        Probe(str(encoder_checkpoint), latent_dim=4)
    with pytest.raises(CheckpointError, match="cannot take images of 3 x 32 x 32"):
        Probe(str(encoder_checkpoint), image_shape=(3, 32, 32))


@pytest.mark.parametrize(
    ("path", "command"),
    [
        (
            "runs/ae_capacity/depth=3,latent_dim=5,seed=0/checkpoints/best.ckpt",
            "python sweep.py run sweeps/ae_capacity.yaml",
        ),
        (
            "runs/autoencoder_mnist/default/checkpoints/best.ckpt",
            "python train.py fit --config configs/autoencoder_mnist.yaml",
        ),
    ],
)
def test_a_missing_encoder_names_the_command_that_makes_it(path: str, command: str):
    with pytest.raises(CheckpointError, match="there is no checkpoint") as caught:
        Probe(f"nowhere/{path}")
    assert command in str(caught.value)


def test_few_shot_uses_no_other_labels(encoder_checkpoint: Path, tmp_path: Path):
    result = fit(
        tmp_path,
        "--config=configs/probe_digits.yaml",
        f"--model.encoder_checkpoint={encoder_checkpoint}",
        "--model.latent_dim=3",
        "--trainer.max_epochs=7",
        "--run.pictures=false",
    )
    saved = torch.load(result.folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert saved["global_step"] == 7  # one step of the 100 images an epoch
    assert same(weights(result.folder, "best.ckpt"), saved["state_dict"])  # the last weights are the result
    assert "val/accuracy" not in (result.folder / "metrics.csv").read_text()
    assert set(result.metrics) == {"train/loss", "train/accuracy", "test/loss", "test/accuracy"}


def test_a_frozen_encoder_sees_each_training_image_once(encoder_checkpoint: Path, tmp_path: Path, monkeypatch):
    """And the probe learns what it learns when every batch is encoded anew."""
    images = []
    encode = Probe.encode

    def counted(self: Probe, batch: torch.Tensor) -> torch.Tensor:
        images.append(len(batch) * self.trainer.training)
        return encode(self, batch)

    def learnt(folder: Path) -> dict[str, torch.Tensor]:
        args = ["--model.latent_dim=3", "--trainer.max_epochs=5", "--run.pictures=false"]
        args += [f"--model.encoder_checkpoint={encoder_checkpoint}", "--data.batch_size=30"]
        return weights(fit(folder, "--config=configs/probe_digits.yaml", *args).folder)

    monkeypatch.setattr(Probe, "encode", counted)
    once = learnt(tmp_path / "once")
    assert sum(images) == 100
    monkeypatch.setattr(Probe, "on_train_start", lambda self: None)
    anew = learnt(tmp_path / "anew")
    assert sum(images) > 500
    assert all(torch.allclose(once[name], anew[name], atol=1e-5) for name in once)
