import numpy as np
import pytest
import torch
from lightning import Trainer, seed_everything

import train
from datamodules import DigitsDataModule, RotatedMNISTDataModule
from genlab.callbacks.angle_predictions import angle_figure
from genlab.media import render
from genlab.runs.errors import UsageError
from lit_models import Autoencoder, CheckpointError
from lit_models.angle_probe import AngleProbe
from lit_models.losses.circular import angle_error, circular_loss, points_to_angles
from tests.helpers import fit


def angles(n: int = 200, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return 20 * torch.rand(n, generator=torch.Generator().manual_seed(0), dtype=dtype) - 10


def test_the_loss_is_one_minus_the_cosine():
    a, b = angles().split(100)
    assert circular_loss(a, b).numpy() == pytest.approx(1 - np.cos((a - b).numpy()), abs=1e-12)


def test_the_loss_is_blind_to_sign_and_full_turns():
    a, b = angles().split(100)
    loss = circular_loss(a, b)
    assert torch.allclose(circular_loss(b, a), loss) and torch.allclose(circular_loss(-a, -b), loss)
    assert torch.allclose(circular_loss(a + 2 * torch.pi, b - 6 * torch.pi), loss)


def test_the_loss_is_smooth_where_angles_wrap_and_where_they_agree():
    at = torch.tensor([0.0, 1e-6, torch.pi, -torch.pi, 2 * torch.pi, 1.0], dtype=torch.float64, requires_grad=True)
    target = torch.tensor([0.0, 0.0, 0.0, torch.pi, 0.0, -2.0], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda a: circular_loss(a, target), (at,))
    assert torch.autograd.gradgradcheck(lambda a: circular_loss(a, target), (at,))
    [slope] = torch.autograd.grad(circular_loss(at, target).sum(), at)
    assert torch.allclose(slope, (at - target).sin().detach(), atol=1e-12)


def test_a_small_difference_is_not_rounded_away():
    loss = circular_loss(torch.tensor([1e-5]), torch.tensor([0.0]))
    assert loss.item() == pytest.approx(5e-11, rel=1e-4)


def test_the_error_is_the_smaller_angle():
    random = np.random.default_rng(0)
    a, b = random.uniform(-720, 720, (2, 500))
    unit = np.exp(1j * np.deg2rad(a)) * np.exp(-1j * np.deg2rad(b))
    assert angle_error(torch.from_numpy(a), torch.from_numpy(b)).numpy() == pytest.approx(
        np.abs(np.rad2deg(np.angle(unit))), abs=1e-9
    )


def test_the_angle_of_a_point_is_its_polar_angle():
    points = torch.randn(50, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    assert points_to_angles(points).detach().numpy() == pytest.approx(np.angle(points.detach().numpy() @ [1, 1j]))
    assert torch.autograd.gradcheck(points_to_angles, (points,))
    assert points_to_angles(points.detach().bfloat16()).dtype == torch.float32


@pytest.mark.parametrize("point", [(0.0, 0.0), (-0.0, -0.0), (1e-30, -1e-30), (-1.0, 0.0), (1e18, 1e18)])
def test_every_point_has_a_finite_angle_and_gradient(point: tuple[float, float]):
    points = torch.tensor([point], requires_grad=True)
    loss = circular_loss(points_to_angles(points), torch.tensor([2.0]))
    loss.sum().backward()
    assert torch.isfinite(loss).all() and torch.isfinite(points.grad).all()


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("frozen", [True, False])
def test_a_fit_measures_every_test_image(frozen: bool, precision: str, encoder_checkpoint, data_root, tmp_path):
    result = fit(
        tmp_path,
        "--config=configs/angleprobe_mnist.yaml",
        f"--data.root={data_root}",
        "--data.val_size=50",
        "--data.batch_size=30",
        f"--model.encoder_checkpoint={encoder_checkpoint}",
        f"--model.freeze_encoder={frozen}",
        f"--trainer.precision={precision}",
        "--trainer.max_epochs=2",
        "--run.pictures=false",
    )
    model = AngleProbe.load(result.folder / "checkpoints" / "best.ckpt")
    images, labels = RotatedMNISTDataModule(str(data_root), val_size=50).examples("test", 100)
    with torch.no_grad():
        told = model.angles(images).numpy()
    error = np.abs((told - labels[:, 1].numpy() + 180) % 360 - 180)
    close = 0.01 if precision == "32-true" else 0.1
    assert result.metrics["test/angle_error"] == pytest.approx(error.mean(), rel=close)
    assert result.metrics["test/median_angle_error"] == pytest.approx(np.median(error), rel=close)
    assert "val/angle_error" in (result.folder / "metrics.csv").read_text()


def test_a_probe_of_bright_sides_learns_the_angle(encoder_checkpoint):
    """Half-planes turned about the centre: nothing in them is ambiguous."""
    turned = torch.randint(0, 360, (512,), generator=torch.Generator().manual_seed(0))
    side = torch.linspace(-1, 1, 28)
    x, y = side[None, None], side.flip(0)[None, :, None]
    a = turned.float().deg2rad()[:, None, None]
    images = (8 * (x * a.cos() + y * a.sin())).sigmoid()[:, None]
    torch.manual_seed(0)
    probe = AngleProbe(str(encoder_checkpoint), freeze_encoder=False)
    optimizer = torch.optim.Adam(probe.parameters(), lr=3e-3)
    batch = (images, torch.stack([torch.zeros_like(turned), turned], dim=1))
    for _ in range(150):
        terms = probe.loss_terms(batch)
        optimizer.zero_grad()
        terms["loss"].backward()
        optimizer.step()
    assert terms["angle_error"] < 8


def test_labels_without_an_angle_are_refused(encoder_checkpoint):
    images, labels = DigitsDataModule().examples("test", 4)
    with pytest.raises(ValueError, match="labels of class and angle"):
        AngleProbe(str(encoder_checkpoint)).loss_terms((images, labels))
    with pytest.raises(CheckpointError, match="codes of width 3"):
        AngleProbe(str(encoder_checkpoint), latent_dim=4)


@pytest.mark.parametrize(
    ("data", "held"), [("DigitsDataModule", "the class"), ("ColoredMNISTDataModule", "the digit and the hue")]
)
def test_data_without_angles_are_refused_before_anything_is_written(data, held, encoder_checkpoint, tmp_path):
    if data == "ColoredMNISTDataModule":
        seed_everything(0, verbose=False)
        trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
        trainer.strategy.connect(Autoencoder(3, 1, 2, image_shape=(3, 28, 28)))
        encoder_checkpoint = tmp_path / "colour.ckpt"
        trainer.save_checkpoint(encoder_checkpoint, weights_only=True)
    options = ["--model=AngleProbe", f"--model.encoder_checkpoint={encoder_checkpoint}", f"--data={data}"]
    args = ["fit", *options, f"--run.root={tmp_path / 'runs'}", f"--data.root={tmp_path / 'data'}"]
    with pytest.raises(UsageError, match=f"{data} hold {held}; use --data RotatedMNISTDataModule$"):
        train.main([*args, "--trainer.accelerator=cpu"])
    assert not (tmp_path / "runs").exists() and not (tmp_path / "data").exists()


def test_the_picture_tells_the_errors():
    random = np.random.default_rng(0)
    labels = np.stack([random.integers(0, 3, 300), random.integers(0, 360, 300)], axis=1)
    figure = angle_figure(labels, (labels[:, 1] + np.where(labels[:, 0] == 2, 180, 370)) % 360, ("a", "b", "c", "d"))
    histogram, errors, _ = figure.axes
    assert histogram.collections[0].get_array().sum() == pytest.approx(36)
    middle = errors.containers[0].lines[0].get_ydata()
    assert middle.tolist() == pytest.approx([10, 10, 180])
    assert render(figure).size == (1000, 460)
