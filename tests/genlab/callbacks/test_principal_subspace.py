from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch
from lightning import Trainer
from sklearn.decomposition import PCA

from datamodules import DigitsDataModule
from genlab.callbacks.principal_subspace import PrincipalSubspace
from genlab.evaluation.principal_subspace import largest_principal_angle, mean_and_axes, projection_error
from lit_models.linear_autoencoder import LinearAutoencoder


@pytest.mark.parametrize("mixing", [0.0, 1e-6, 1e-2, 1.0])
def test_the_angle_is_scipys(mixing: float):
    generator = torch.Generator().manual_seed(0)
    a, noise = torch.randn(2, 3, 10, generator=generator, dtype=torch.float64)
    b = torch.randn(3, 3, generator=generator, dtype=torch.float64) @ a + mixing * noise
    by_scipy = np.degrees(scipy.linalg.subspace_angles(a.numpy().T, b.numpy().T).max())
    assert float(largest_principal_angle(a, b)) == pytest.approx(by_scipy, rel=1e-6, abs=1e-10)


def test_orthogonal_planes_are_at_a_right_angle():
    axes = torch.eye(5)
    assert float(largest_principal_angle(axes[:2], axes[2:4])) == pytest.approx(90)
    assert float(largest_principal_angle(axes[:2], axes[1:3])) == pytest.approx(90)  # one of the two is shared


def test_axes_and_error_are_scikit_learns():
    data = DigitsDataModule()
    train, test = data.examples("train", 700)[0], data.examples("test", 100)[0]
    mean, axes = mean_and_axes(train, 5, batch_size=64)
    reference = PCA(5, svd_solver="full").fit(train.flatten(1).double().numpy())
    assert mean.numpy() == pytest.approx(reference.mean_, abs=1e-6)
    assert abs(np.diag(axes.numpy() @ reference.components_.T)) == pytest.approx(np.ones(5), abs=1e-6)
    flat = test.flatten(1).double().numpy()
    error = ((flat - reference.inverse_transform(reference.transform(flat))) ** 2).mean()
    assert float(projection_error(test, mean, axes, batch_size=33)) == pytest.approx(error, rel=1e-5)


def test_a_model_that_holds_pcas_axes_is_at_no_angle_and_has_pcas_error(tmp_path: Path):
    data = DigitsDataModule(batch_size=50)
    model = LinearAutoencoder(4)
    mean, axes = mean_and_axes(data.examples("train", 10_000)[0], 4)
    with torch.no_grad():
        model.encoder.weight.copy_(torch.linalg.qr(torch.randn(4, 4)).Q @ axes.float())
        model.encoder.centre.copy_(mean)
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
