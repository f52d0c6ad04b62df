import numpy as np
import pytest
import torch
from scipy.linalg import subspace_angles
from sklearn.decomposition import PCA

from lit_models.linear_autoencoder import LinearAutoencoder


def planted(n: int = 400, shape: tuple[int, int, int] = (1, 4, 5), seed: int = 0) -> torch.Tensor:
    """Images whose variance falls from axis to axis, the axes in general position, the mean far from zero."""
    generator = torch.Generator().manual_seed(seed)
    pixels = int(np.prod(shape))
    rotation = torch.linalg.qr(torch.randn(pixels, pixels, generator=generator)).Q
    scales = 0.2 * 0.7 ** torch.arange(pixels)
    points = torch.randn(n, pixels, generator=generator) * scales @ rotation + 0.5
    return points.unflatten(1, shape)


def test_code_and_image_are_those_of_the_tied_formula():
    model, x = LinearAutoencoder(3, image_shape=(1, 4, 5)), planted(6)
    torch.nn.init.normal_(model.encoder.center)
    w, b = (p.detach().double().numpy() for p in (model.encoder.weight, model.encoder.center))
    flat = x.flatten(1).double().numpy()
    codes = (flat - b) @ w.T
    assert model.encode(x).detach().numpy() == pytest.approx(codes, abs=1e-5)
    error = ((codes @ w + b - flat) ** 2).mean()
    assert float(model.loss_terms((x, None))["mse"].detach()) == pytest.approx(error, rel=1e-5)
    assert model.decode(model.encode(x)).detach().flatten(1).numpy() == pytest.approx(
        np.clip(codes @ w + b, 0, 1), abs=1e-5
    )


def test_the_minimum_is_pca():
    """Full batches to convergence: the span, the error and the orthonormal rows that the mathematics foretells."""
    torch.manual_seed(0)
    x = planted().double()
    model = LinearAutoencoder(4, image_shape=(1, 4, 5)).double()
    optimizer = torch.optim.LBFGS(
        model.parameters(), max_iter=500, tolerance_grad=1e-8, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = 1e4 * model.loss_terms((x, None))["mse"]
        loss.backward()
        return loss

    optimizer.step(closure)
    reference = PCA(4).fit(x.flatten(1).numpy())
    rows = model.subspace().numpy()
    assert rows @ rows.T == pytest.approx(np.eye(4), abs=1e-4)
    assert np.degrees(subspace_angles(rows.T, reference.components_.T).max()) < 0.01
    projected = reference.inverse_transform(reference.transform(x.flatten(1).numpy()))
    smallest = ((projected - x.flatten(1).numpy()) ** 2).mean()
    assert float(model.loss_terms((x, None))["mse"].detach()) == pytest.approx(smallest, rel=1e-6)


@pytest.mark.parametrize("latent_dim", [0, 785])
def test_invalid_widths_raise_an_error(latent_dim: int):
    with pytest.raises(ValueError, match=f"latent_dim is {latent_dim}; for images of 784 values"):
        LinearAutoencoder(latent_dim)


def test_the_last_weights_are_the_result():
    assert LinearAutoencoder.monitor is None
