from pathlib import Path

import pytest
import torch
from lightning import Trainer

from datamodules import DigitsDataModule
from genlab.callbacks.principal_subspace import PrincipalSubspace
from genlab.evaluation.principal_subspace import mean_and_axes
from lit_models.linear_autoencoder import LinearAutoencoder


def test_a_model_with_the_axes_of_pca_has_its_error(tmp_path: Path):
    data = DigitsDataModule(batch_size=50)
    model = LinearAutoencoder(4)
    mean, axes = mean_and_axes(data.examples("train", 10_000)[0], 4)
    with torch.no_grad():
        model.encoder.weight.copy_(torch.linalg.qr(torch.randn(4, 4)).Q @ axes.float())
        model.encoder.center.copy_(mean)
    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        callbacks=[PrincipalSubspace()],
        default_root_dir=tmp_path,
    )
    [found] = trainer.test(model, datamodule=data, verbose=False)
    assert found["test/principal_angle"] < 0.01
    assert found["test/mse"] == pytest.approx(found["test/mse_pca"], rel=1e-4)
    assert (tmp_path / "media" / "principal_axes.png").stat().st_size > 100
