"""Priors against closed forms, numpy or scipy. Statistical tests have a level of 10^-4 unless they say otherwise."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import chisquare, gaussian_kde, kstest

from genlab.metrics.two_sample import permutation_test
from lit_models.common.prior_distributions import PriorDistribution, UnitDiscDistribution
from lit_models.common.priors import (
    Empirical,
    LinearDensity,
    Mixture,
    Normal,
    Prior,
    Uniform,
    UnitDisc,
    read_codes,
)

D = 4
N = 20_000
EXACT = "donot_use_mm_for_euclid_dist"
EACH = ["normal", "uniform", "mixture", "linear", "disc", "empirical", "jittered"]


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture
def codes() -> np.ndarray:
    return np.random.default_rng(0).normal(3.0, [0.1, 1.0, 5.0, 20.0], (50, D)).astype(np.float32)


@pytest.fixture
def codes_file(codes: np.ndarray, tmp_path: Path) -> str:
    path = tmp_path / "predictions.npz"
    np.savez_compressed(path, codes=codes, labels=np.zeros(len(codes), np.int64))
    return str(path)


@pytest.fixture(params=EACH)
def prior(request: pytest.FixtureRequest, codes_file: str) -> Prior:
    made: dict[str, Callable[[], Prior]] = {
        "normal": Normal,
        "uniform": lambda: Uniform(-2, 3),
        "mixture": lambda: Mixture(components=5, std=0.3, seed=2),
        "linear": LinearDensity,
        "disc": UnitDisc,
        "empirical": lambda: Empirical(codes_file),
        "jittered": lambda: Empirical(codes_file, jitter=0.2),
    }
    return made[request.param]()


def rebuilt(prior: Prior) -> Prior:
    return type(prior)(**prior.as_config()["init_args"])


def grid(low: float, high: float, points: int = 801) -> tuple[torch.Tensor, float]:
    """Midpoints of cells of a square, N x 2, and a cell's area."""
    side = (high - low) / points
    at = low + side * (torch.arange(points, dtype=torch.float64) + 0.5)
    return torch.cartesian_prod(at, at), side**2


# All priors.


def test_draws_are_single_precision_and_depend_on_torchs_seed(prior: Prior):
    distribution = prior.build(D)
    drawn = distribution.sample(7)
    assert drawn.shape == (7, D) and drawn.dtype == torch.float32 and drawn.isfinite().all() and distribution.dim == D
    torch.manual_seed(0)
    assert torch.equal(prior.build(D).sample(7), drawn)
    assert not torch.equal(distribution.sample(7), drawn)
    assert distribution.sample(0).shape == (0, D)


def test_a_distribution_in_half_precision_draws_in_single_precision(prior: Prior):
    assert prior.build(D).bfloat16().sample(3).dtype == torch.float32


def test_draws_are_on_the_device_of_the_distribution(prior: Prior):
    distribution = prior.build(D).to("meta")
    assert distribution.device.type == "meta" and distribution.sample(3).device.type == "meta"


def test_a_prior_is_rebuilt_from_its_arguments_and_state_dict(prior: Prior):
    distribution, again = prior.build(D), rebuilt(prior).build(D)
    again.load_state_dict(distribution.state_dict())
    drawn = []
    for each in (distribution, again):
        torch.manual_seed(1)
        drawn.append(each.sample(9))
    assert torch.equal(*drawn) and not list(distribution.parameters())
    assert all(torch.equal(again.state_dict()[name], tensor) for name, tensor in distribution.state_dict().items())


def test_codes_are_loaded_from_a_state_dict(codes_file: str, codes: np.ndarray):
    """Also into a distribution with other codes, and inside a model. The file is not read again."""
    assert Empirical(codes_file).as_config()["init_args"] == {"codes": None, "jitter": 0.0}
    state = {"prior.codes": torch.zeros(3, D), "prior.scale": torch.ones(D)}
    for prior in (Empirical(codes=None), Empirical(codes_file)):
        model = torch.nn.ModuleDict({"prior": prior.build(D)})
        model.load_state_dict(state)
        assert torch.equal(model["prior"].sample(5), torch.zeros(5, D))
    with pytest.raises(RuntimeError, match="size mismatch"):
        Empirical(codes_file).build(D).load_state_dict({"codes": torch.zeros(3, D + 1), "scale": torch.ones(D + 1)})
    with pytest.raises(ValueError, match="neither from a file nor from a checkpoint"):
        Empirical(codes=None).build(D).sample(1)


def test_log_prob_is_finite_and_computed_row_by_row(prior: Prior):
    distribution = prior.build(D)
    if isinstance(prior, Empirical) and not prior.jitter:
        with pytest.raises(NotImplementedError, match="no density without jitter"):
            distribution.log_prob(torch.zeros(1, D))
        return
    z = distribution.sample(600)  # more than a chunk
    together = distribution.log_prob(z)
    assert together.shape == (600,) and together.isfinite().all()
    assert torch.allclose(together[::50], torch.cat([distribution.log_prob(row[None]) for row in z[::50]]), atol=1e-4)


@pytest.mark.parametrize("prior", [Normal(), Uniform(-2, 3), Mixture(5, 0.3, 2), LinearDensity(), UnitDisc()])
def test_draws_have_the_density(prior: Prior):
    """E[exp(-log p(z))] over the draws that fall into a box is the box's volume, if the draws have the density.

    Five standard errors: a false positive in 10^6.
    """
    distribution = prior.build(2)
    z = distribution.sample(200_000)
    low, high = (0.1, 0.6) if not isinstance(prior, Mixture) else (-0.4, 0.4)
    inside = ((z > low) & (z < high)).all(dim=1)
    weights = torch.where(inside, (-distribution.log_prob(z)).exp(), 0).double()
    assert abs(weights.mean() - (high - low) ** 2) < 5 * weights.std() / math.sqrt(len(z))


@pytest.mark.parametrize(
    ("prior", "low", "high", "tolerance"),
    [
        (Normal(), -7, 7, 1e-6),
        (Uniform(-1, 2), -3, 3, 1e-2),
        (Mixture(4, 0.2), -3, 3, 1e-6),
        (LinearDensity(), 0, 1, 1e-6),
        (UnitDisc(), -1.5, 1.5, 1e-3),
    ],
)
def test_the_density_integrates_to_one(prior: Prior, low: float, high: float, tolerance: float):
    """Over a square with a tolerance for the cells on the edge of the support."""
    points, area = grid(low, high)
    assert float(prior.build(2).double().log_prob(points).exp().sum() * area) == pytest.approx(1, abs=tolerance)


# Single priors.


def test_normal():
    distribution = Normal().build(D)
    z = distribution.sample(N)
    assert all(kstest(column, "norm").pvalue > 1e-4 for column in z.T.numpy())
    assert torch.allclose(distribution.log_prob(z), torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(1), atol=1e-4)
    assert (torch.corrcoef(z.T) - torch.eye(D)).abs().max() < 5 / math.sqrt(N)


def test_uniform():
    distribution = Uniform(-2, 3).build(D)
    z = distribution.sample(N)
    assert all(kstest(column, "uniform", args=(-2, 5)).pvalue > 1e-4 for column in z.T.numpy())
    assert torch.allclose(
        distribution.log_prob(z), torch.distributions.Uniform(-2.0, 3.0).log_prob(z).sum(1), atol=1e-5
    )
    assert (torch.corrcoef(z.T) - torch.eye(D)).abs().max() < 5 / math.sqrt(N)
    assert distribution.log_prob(torch.tensor([[0.0, 0, 0, 3.1], [-2.1, 0, 0, 0]])).tolist() == [-math.inf] * 2


def test_mixture_draws_equal_numpys_in_distribution():
    distribution = Mixture(components=5, std=0.3, seed=2).build(2)
    random = np.random.default_rng(0)
    centers = distribution.centers.numpy()
    theirs = centers[random.integers(5, size=500)] + 0.3 * random.normal(size=(500, 2))
    assert (
        permutation_test(distribution.sample(500), torch.from_numpy(theirs).float(), 1999) > 1e-3
    )  # the level of the test
    narrow = Mixture(components=5, std=1e-3, seed=2).build(2)
    distances, which = torch.cdist(narrow.sample(N).double(), narrow.centers.double(), compute_mode=EXACT).min(dim=1)
    assert distances.max() < 0.01 and chisquare(which.bincount(minlength=5)).pvalue > 1e-4
    assert kstest((distances / 1e-3).numpy(), "rayleigh").pvalue > 1e-4


def test_mixture_density_is_torchs():
    distribution = Mixture().build(3)
    parts = torch.distributions.Independent(torch.distributions.Normal(distribution.centers, 0.1), 1)
    theirs = torch.distributions.MixtureSameFamily(torch.distributions.Categorical(torch.ones(10)), parts)
    z = torch.cat([distribution.sample(100), 2 * torch.randn(100, 3)])
    assert torch.allclose(distribution.log_prob(z), theirs.log_prob(z), rtol=1e-5, atol=1e-4)


def test_the_centers_depend_on_their_own_seed_and_are_uniform():
    state = torch.get_rng_state()
    centers = Mixture(components=2000, seed=1).build(3).centers
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(9)
    assert torch.equal(Mixture(components=2000, seed=1).build(3).centers, centers)
    assert not torch.equal(Mixture(components=2000, seed=2).build(3).centers, centers)
    assert all(kstest(column, "uniform", args=(-1, 2)).pvalue > 1e-4 for column in centers.T.numpy())


def test_linear_density():
    distribution = LinearDensity().build(D)
    z = distribution.sample(N)
    assert z.min() >= 0 and z.max() <= 1
    assert all(kstest(column, lambda y: (y + y**2) / 2).pvalue > 1e-4 for column in z.T.numpy())
    assert (torch.corrcoef(z.T) - torch.eye(D)).abs().max() < 5 / math.sqrt(N)
    assert torch.allclose(distribution.log_prob(z), (0.5 + z).log().sum(1), atol=1e-5)
    assert distribution.log_prob(torch.tensor([[0.5, 0.5, 0.5, -0.1], [1.1, 0, 0, 0]])).tolist() == [-math.inf] * 2


def test_disc_draws_are_uniform_on_the_disc():
    """Each coordinate has the semicircle distribution; squared radius and angle are uniform and independent."""
    distribution = UnitDisc().build(D)
    z = distribution.sample(N)
    assert distribution.log_prob(z).tolist() == pytest.approx([-2 * math.log(math.pi)] * N)
    for pair in z.unflatten(1, (-1, 2)).unbind(dim=1):
        x, y = pair.double().numpy().T
        for column in (x, y):
            assert kstest(column, "semicircular").pvalue > 1e-4
        radius, angle = x**2 + y**2, np.arctan2(y, x)
        assert radius.max() <= 1 + 1e-6
        assert kstest(radius, "uniform").pvalue > 1e-4
        assert kstest(angle, "uniform", args=(-math.pi, 2 * math.pi)).pvalue > 1e-4
        for dependent in (np.corrcoef(radius, np.cos(2 * angle)), np.corrcoef(radius, np.sin(2 * angle))):
            assert abs(dependent[0, 1]) < 5 / math.sqrt(N)
    squares = z.square()  # squares within a pair are correlated, squares of two pairs are not
    assert torch.corrcoef(squares.T)[:2, 2:].abs().max() < 5 / math.sqrt(N)
    assert torch.corrcoef(squares.T)[0, 1] < -0.2


def rejection_sampled(n: int) -> torch.Tensor:
    square = np.random.default_rng(0).uniform(-1, 1, (2 * n, 2))
    return torch.from_numpy(square[(square**2).sum(1) <= 1][:n]).float()


def test_disc_draws_equal_rejection_sampling_in_distribution():
    """At a level of 10^-3. Draws with wrong bounds, +-(1 - y^2) without the root, are rejected."""
    theirs = rejection_sampled(1500)
    assert permutation_test(UnitDisc().build(2).sample(1500), theirs) > 1e-3
    y = torch.zeros(1500)
    for _ in range(8):
        x = (2 * torch.rand(1500) - 1) * (1 - y**2)
        y = (2 * torch.rand(1500) - 1) * (1 - x**2)
    assert permutation_test(torch.stack([x, y], dim=1), theirs, 300) < 0.01


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_the_sweeps_mix_as_fast_as_their_closed_form(steps: int):
    """From the centre, E[y^2] = (1 - 9^-s) / 4 and E[x^2] = (1 + 3^(1 - 2s)) / 4 after s sweeps.

    Five standard errors: a false positive in 10^6. After three sweeps y is 3 10^-4 from its limit.
    """
    squares = UnitDisc(steps).build(2).sample(400_000).double().square()
    expected = torch.tensor([1 + 3.0 ** (1 - 2 * steps), 1 - 9.0**-steps]).double() / 4
    error = squares.std(dim=0) / math.sqrt(len(squares))
    assert ((squares.mean(dim=0) - expected).abs() < 5 * error).all()
    if steps == 1:
        assert (squares.mean(dim=0)[0] - 0.25) > 50 * error[0]  # so that too few sweeps are detected


def test_the_error_of_the_default_sweeps_is_below_single_precision():
    steps = UnitDisc().steps
    bound = 0.5 * math.sqrt(sum((2 * k + 1.0) ** (2 - 4 * steps) for k in range(1, 1000)))
    assert bound < torch.finfo(torch.float32).eps


def test_conditional_means_of_the_chebyshev_polynomials():
    """The basis of the bound on the sweeps: E[U_m(y) | x] over y uniform on +-sqrt(1 - x^2), by Gauss-Legendre."""
    from scipy.special import eval_chebyu

    nodes, weights = np.polynomial.legendre.leggauss(20)
    for x in (0.0, 0.3, -0.9):
        for m in range(9):
            mean = 0.5 * (weights * eval_chebyu(m, nodes * math.sqrt(1 - x * x))).sum()
            expected = 0 if m % 2 else (-1) ** (m // 2) * eval_chebyu(m, x) / (m + 1)
            assert mean == pytest.approx(expected, abs=1e-12)


def test_a_draw_on_the_rim_is_inside_the_disc_and_one_outside_is_not(monkeypatch: pytest.MonkeyPatch):
    distribution = UnitDisc().build(2)
    assert distribution.log_prob(torch.tensor([[0.6, 0.81], [1.0, 0.1]])).tolist() == [-math.inf] * 2
    monkeypatch.setattr(
        UnitDiscDistribution, "uniform", lambda self, *shape: torch.zeros(shape)
    )  # the draw that is farthest from the centre
    assert distribution.sample(1).isfinite().all() and distribution.log_prob(distribution.sample(1)).isfinite().all()


def test_empirical_draws_each_code_with_the_same_probability(codes_file: str, codes: np.ndarray):
    distribution = Empirical(codes_file).build(D)
    distances, which = torch.cdist(distribution.sample(N), torch.from_numpy(codes), compute_mode=EXACT).min(dim=1)
    assert distances.max() == 0 and chisquare(which.bincount(minlength=50)).pvalue > 1e-4


def test_jitter_adds_noise_in_proportion_to_the_standard_deviations(codes_file: str, codes: np.ndarray):
    """Five standard errors of a variance of normal draws, sqrt(2 / n): a false positive in 10^6."""
    distribution = Empirical(codes_file, jitter=0.5).build(D)
    assert np.allclose(distribution.state_dict()["scale"], codes.std(0), rtol=1e-5)
    z = distribution.sample(N)
    torch.manual_seed(0)
    noise = (z - Empirical(codes_file).build(D).sample(N)) / torch.from_numpy(
        0.5 * codes.std(0)
    )  # the same codes are drawn
    assert ((noise.var(dim=0) - 1).abs() < 5 * math.sqrt(2 / N)).all()
    assert all(kstest(column, "norm").pvalue > 1e-4 for column in noise.T.numpy())
    assert (torch.corrcoef(noise.T) - torch.eye(D)).abs().max() < 5 / math.sqrt(N)


def test_the_jittered_density_is_scipys_kernel_density():
    """scipy's kernel has the covariance factor^2 cov(codes): equal for uncorrelated codes."""
    base = np.random.default_rng(1).normal(size=(300, 2))
    white = np.linalg.solve(np.linalg.cholesky(np.cov(base.T, bias=True)), (base - base.mean(0)).T).T
    distribution = empirical(white * [0.5, 4.0], jitter=0.3)
    theirs = gaussian_kde(
        (white * [0.5, 4.0]).T, bw_method=0.3 * math.sqrt(299 / 300)
    )  # scipy's covariance divides by n - 1
    z = distribution.sample(500)
    assert np.allclose(distribution.log_prob(z).numpy(), theirs.logpdf(z.double().numpy().T), atol=1e-4)


def empirical(codes: np.ndarray, jitter: float) -> PriorDistribution:
    distribution = Empirical(None, jitter).build(codes.shape[1])
    tensor = torch.from_numpy(codes).float()
    distribution.load_state_dict({"codes": tensor, "scale": tensor.std(dim=0, correction=0)})
    return distribution


def test_codes_with_a_constant_column_are_drawn_and_have_no_density():
    distribution = empirical(np.stack([np.arange(9), np.full(9, 2)], axis=1), jitter=0.1)
    assert torch.equal(distribution.sample(100)[:, 1], torch.full((100,), 2.0))
    with pytest.raises(NotImplementedError, match="is constant"):
        distribution.log_prob(torch.zeros(1, 2))


# Invalid input.


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: Uniform(1, 1), "low is 1 and high 1"),
        (lambda: Uniform(0, math.inf), "both finite"),
        (lambda: Uniform(math.nan, 1), "low is nan"),
        (lambda: Mixture(components=0), "components is 0"),
        (lambda: Mixture(std=0), "std 0"),
        (lambda: Mixture(std=math.nan), "std nan"),
        (lambda: UnitDisc(0), "steps is 0"),
        (lambda: UnitDisc().build(5), "pairs of coordinates, but latent_dim is 5"),
        (lambda: Empirical("codes.npz", jitter=-1), "jitter is -1"),
        (lambda: Empirical("codes.npz", jitter=math.nan), "jitter is nan"),
    ],
)
def test_invalid_arguments_are_an_error(make: Callable[[], object], complaint: str):
    with pytest.raises(ValueError, match=complaint):
        make()


def error_message(path: Path | str, dim: int = D) -> str:
    with pytest.raises(ValueError) as caught:
        Empirical(str(path)).build(dim)
    message = str(caught.value)
    assert str(path) in message and "\n" not in message
    return message


def test_a_missing_file_names_the_command_that_writes_it(tmp_path: Path):
    command = "`python train.py predict --ckpt_path {}/checkpoints/best.ckpt --data.predict_split train` writes"
    assert command.format("RUN") in error_message(tmp_path / "codes.npz")
    run = tmp_path / "runs" / "mine" / "default"
    assert command.format(run) in error_message(run / "predict" / "predictions.npz")


def test_damaged_and_other_files_are_an_error(tmp_path: Path, codes: np.ndarray, codes_file: str):
    path = tmp_path / "codes.npz"
    whole = Path(codes_file).read_bytes()
    for content in (b"", b"not an archive", whole[: len(whole) // 2], whole[:100] + b"\0" * 40 + whole[140:]):
        path.write_bytes(content)
        assert "holds no array `codes` as `python train.py predict` writes it" in error_message(path)
    np.savez(path, labels=np.zeros(3))
    assert "holds no array `codes`" in error_message(path)
    np.savez(path, codes=np.array([["a", "b"]]))
    assert "holds no array `codes`" in error_message(path)
    np.savez(path, codes=np.array([object()], dtype=object))
    assert "allow_pickle=False" in error_message(path)
    with open(path, "wb") as file:
        np.save(file, codes)
    assert "holds no array `codes`" in error_message(path)


def test_codes_of_another_shape_or_not_finite_are_an_error(tmp_path: Path, codes: np.ndarray, codes_file: str):
    assert "codes of shape [50, 4], but model.latent_dim is 7" in error_message(codes_file, 7)
    path = tmp_path / "codes.npz"
    for wrong in (codes[0], codes[:0], codes[None]):
        np.savez(path, codes=wrong)
        assert "holds codes of shape" in error_message(path)
    for value in (np.nan, np.inf, 1e300):
        np.savez(path, codes=np.full((3, D), value))
        assert "not finite" in error_message(path)


def test_codes_of_any_number_type_are_read_as_single_precision(tmp_path: Path, codes: np.ndarray):
    path = tmp_path / "codes.npz"
    for kind in (np.float16, np.float64, np.int64):
        np.savez(path, codes=codes.astype(kind))
        read = read_codes(str(path), D)
        assert read.dtype == torch.float32 and np.allclose(read, codes.astype(kind))
