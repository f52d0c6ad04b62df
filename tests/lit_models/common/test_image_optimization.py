"""Image optimization: losses compared with numpy, gradients with finite differences, known minima, resuming, errors."""

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from lightning import Trainer
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from PIL import Image
from torch import Tensor, nn

import sample
import train
from datamodules import DataError, ReferenceImagesDataModule, StyleTransferDataModule
from genlab.runs.errors import UsageError
from genlab.runs.folder import read_summary
from lit_models import CheckpointError, Classifier, FeatureInversion, GenerativeModule, StyleTransfer, TextureSynthesis
from lit_models.common.capabilities import HasOptimizedImages
from lit_models.common.image_optimization import LBFGS
from lit_models.common.perceptual import ClassifierFeatures, PerceptualFeatures, VGGFeatures
from lit_models.losses.gram import gram_matrix
from lit_models.losses.relative import relative_error
from lit_models.losses.total_variation import total_variation
from tests.helpers import run_program, same, saved, stop_at, weights

SHALLOW = VGGFeatures("random", ("relu1_1", "pool1"), "average")


class Identity(PerceptualFeatures):
    """The image itself, multiplied by an invertible matrix of channels."""

    MIX = ((2.0, 0.5, 0.0), (0.0, 1.0, -0.5), (0.3, 0.0, 1.5))

    def build(self, image_shape: object = None, option: str = "") -> nn.Module:
        network = nn.Conv2d(3, 3, 1, bias=False).requires_grad_(False)
        network.weight.copy_(torch.tensor(self.MIX)[:, :, None, None])
        return Listed(network)


class Listed(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> list[Tensor]:
        return [self.network(images)]


def arguments(*more: str, model: str = "TextureSynthesis", data: str = "ReferenceImagesDataModule") -> list[str]:
    """A short run on the drawn pictures, by a shallow network."""
    return [
        f"--model={model}",
        "--model.features=VGGFeatures",
        "--model.features.weights=random",
        "--model.features.layers=[relu1_1, pool1]",
        "--model.features.pooling=average",
        f"--data={data}",
        "--data.size=16",
        "--data.steps_per_epoch=2",
        "--trainer.max_epochs=3",
        "--trainer.log_every_n_steps=1",
        "--run.pictures=false",
        "--run.experiment=e",
        *more,
    ]


def run(root: Path, *more: str, **kinds: str) -> train.Result:
    return train.main(["fit", *arguments(*more, **kinds), f"--run.root={root}", "--trainer.accelerator=cpu"])


# Losses.


def test_gram_matrices_are_numpys():
    maps = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    expected = np.einsum("nihw,njhw->nij", maps.numpy(), maps.numpy()) / (3 * 4 * 5)
    assert np.allclose(gram_matrix(maps), expected) and gram_matrix(maps).dtype == torch.float64
    shuffled = maps.flatten(2)[:, :, torch.randperm(20)].view_as(maps)
    assert torch.allclose(gram_matrix(shuffled), gram_matrix(maps))  # what goes together, and not where


def test_gram_matrices_keep_single_precision_under_autocast():
    maps = torch.rand(1, 8, 16, 16) + 100
    with torch.autocast("cpu", torch.bfloat16):
        found = gram_matrix(maps)
    assert found.dtype == torch.float32 and torch.equal(found, gram_matrix(maps))


def test_the_relative_error_is_one_for_zeros_and_zero_for_equal_values():
    a, b = torch.randn(2, 3, 4, dtype=torch.float64), torch.randn(2, 3, 4, dtype=torch.float64)
    expected = ((a - b) ** 2).sum((1, 2)) / (b**2).sum((1, 2))
    assert torch.allclose(relative_error(a, b), expected)
    assert torch.equal(relative_error(b, b), torch.zeros(2, dtype=torch.float64))
    assert torch.allclose(relative_error(0 * b, b), torch.ones(2, dtype=torch.float64))
    assert torch.isfinite(relative_error(a, 0 * b)).all()


@pytest.mark.parametrize("beta", [1.0, 1.5, 2.0, 3.0])
def test_total_variation_is_numpys_and_its_gradient_autograds(beta: float):
    images = torch.rand(2, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    x = images.detach().numpy()
    expected = np.zeros(2)
    for i in range(4):
        for j in range(5):
            down = x[:, :, i + 1, j] - x[:, :, i, j] if i < 3 else 0
            right = x[:, :, i, j + 1] - x[:, :, i, j] if j < 4 else 0
            expected += np.sum((down**2 + right**2 + np.zeros((2, 3))) ** (beta / 2), axis=1)
    assert np.allclose(total_variation(images, beta).detach(), expected / (3 * 4 * 5))
    assert torch.autograd.gradcheck(lambda images: total_variation(images, beta), images)


@pytest.mark.parametrize("beta", [1.0, 1.2, 2.0])
@pytest.mark.parametrize("step", [0.0, 1e-30, 1e-8])
def test_total_variation_has_a_finite_gradient_where_an_image_is_flat(beta: float, step: float):
    images = torch.full((1, 1, 4, 4), 0.5)
    images[0, 0, 2, 2] += step
    images = (images * (1 if step == 1e-8 else step or 1)).requires_grad_()
    total_variation(images, beta).sum().backward()
    assert images.grad is not None and torch.isfinite(images.grad).all() and images.grad.abs().max() <= 4 * beta / 16


# Models.


MODELS: dict[str, tuple[type[Any], dict[str, Any]]] = {
    "texture": (TextureSynthesis, {}),
    "inversion": (FeatureInversion, {"tv_weight": 0.5, "tv_beta": 1.5}),
    "style": (StyleTransfer, {"content_maps": (2,), "style_maps": (1, 2), "initial_image": "noise"}),
}


def build_model(name: str, **options: Any) -> Any:
    torch.manual_seed(0)
    kind, arguments = MODELS[name]
    return kind(**{"features": SHALLOW, "num_images": 2, "image_shape": (3, 8, 8), **arguments, **options})


@pytest.mark.parametrize("name", list(MODELS))
def test_the_gradient_reaches_the_image_as_finite_differences_find_it(name: str):
    model = build_model(name).double().train()
    torch.manual_seed(1)
    batch = (torch.rand(2, 3, 8, 8).double(), torch.rand(2, 3, 8, 8).double())
    loss = model.loss_terms(batch)["loss"]
    [gradient] = torch.autograd.grad(loss, model.logits)
    direction = torch.randn_like(model.logits)
    values = []
    for sign in (1, -1):
        moved = model.logits.data + sign * 1e-6 * direction
        with torch.no_grad():
            kept, model.logits.data = model.logits.data, moved
            values.append(model.loss_terms(batch)["loss"])
            model.logits.data = kept
    slope = (values[0] - values[1]) / 2e-6
    assert slope.item() == pytest.approx((gradient * direction).sum().item(), rel=1e-5)


@pytest.mark.parametrize("name", list(MODELS))
def test_images_do_not_depend_on_one_another(name: str):
    model = build_model(name).train()
    batch = (torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8))
    [both] = torch.autograd.grad(model.loss_terms(batch)["loss"], model.logits)
    for image in range(2):
        alone = build_model(name, num_images=1).train()
        alone.logits.data = model.logits.data[image : image + 1]
        [one] = torch.autograd.grad(alone.loss_terms(tuple(x[image : image + 1] for x in batch))["loss"], alone.logits)
        assert torch.allclose(one / 2, both[image : image + 1], rtol=1e-3, atol=1e-8)


@pytest.mark.parametrize("name", list(MODELS))
def test_the_reference_image_minimises_the_loss(name: str):
    """Textures and inversions of a picture, and it in its own style, cost nothing but their variation."""
    model = build_model(name).eval()
    picture = model.optimized_images().clone()
    terms = model.loss_terms((picture, picture))
    variation = terms.get("total_variation", torch.zeros(()))
    weight = getattr(model, "tv_weight", 0.0)
    assert terms["loss"].item() == pytest.approx((weight * variation).item(), abs=1e-9)


def test_style_weighs_its_three_terms():
    model = build_model("style", content_weight=2.0, style_weight=3.0, tv_weight=4.0).eval()
    content, style = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8)
    terms = model.loss_terms((content, style))
    network = SHALLOW.build()
    images = model.optimized_images()
    of_image, of_content, of_style = network(images), network(content), network(style)
    c = relative_error(of_image[1], of_content[1]).mean()
    s = sum(relative_error(gram_matrix(a), gram_matrix(b)).mean() for a, b in zip(of_image, of_style, strict=True)) / 2
    tv = total_variation(images).mean()
    expected = {"loss": 2 * c + 3 * s + 4 * tv, "content": c, "style": s, "total_variation": tv}
    assert {name: pytest.approx(value.item(), rel=1e-5) for name, value in expected.items()} == {
        name: value.item() for name, value in terms.items()
    }


def optimized(model: GenerativeModule, data: ReferenceImagesDataModule, epochs: int = 4) -> dict[str, float]:
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, datamodule=data)
    [found] = trainer.test(model, datamodule=data, verbose=False)
    return found


def adam(params: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(params, lr=0.1)


@pytest.mark.parametrize(("optimizer", "steps", "psnr"), [(LBFGS, 5, 60.0), (adam, 300, 30.0)])
def test_invertible_features_are_inverted_exactly(optimizer: Any, steps: int, psnr: float):
    data = ReferenceImagesDataModule("scenes", 16, steps_per_epoch=steps)
    model = FeatureInversion(Identity(), 0.0, num_images=3, image_shape=(3, 16, 16), optimizer=optimizer)
    found = optimized(model, data)
    assert found["test/psnr"] > psnr and found["test/loss"] < 1e-3
    errors = (model.optimized_images() - data.examples("test", 3)[0]).square().mean(dim=(1, 2, 3))
    assert found["test/psnr"] == pytest.approx(-10 * errors.clamp(min=1e-10).log10().mean().item(), rel=1e-4)


def test_a_texture_matches_gram_matrices_but_not_pixels():
    data = ReferenceImagesDataModule("textures", 16)
    model = TextureSynthesis(SHALLOW, 3, (3, 16, 16))
    pictures, numbers = data.examples("test", 3)
    before = model.eval().loss_terms((pictures, numbers))["loss"].item()
    after = optimized(model, data)["test/loss"]
    assert after < before / 1000
    assert (model.optimized_images() - pictures).square().mean() > 0.01


def test_smoothness_increases_the_feature_error():
    data = ReferenceImagesDataModule("scenes", 16)
    found = [optimized(FeatureInversion(SHALLOW, w, 2.0, 3, (3, 16, 16)), data) for w in (0.0, 10.0)]
    assert found[0]["test/total_variation"] > 2 * found[1]["test/total_variation"]
    assert found[0]["test/feature_error"] < found[1]["test/feature_error"] / 2


@pytest.mark.parametrize("start", ["content", "noise"])
def test_a_style_transfer_starts_from_the_content_or_from_noise(start: Any):
    data = StyleTransferDataModule("portrait", "paintings", 16)
    model = StyleTransfer(SHALLOW, initial_image=start, num_images=2, image_shape=(3, 16, 16))
    optimized(model, data, epochs=0)
    content, _ = data.examples("train", 2)
    distance = (model.optimized_images() - content).abs().max()
    assert distance < 0.0201 if start == "content" else distance > 0.3


# Runs.


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("TextureSynthesis", []),
        ("FeatureInversion", ["--model.optimizer=torch.optim.Adam", "--model.optimizer.lr=0.05"]),
        ("StyleTransfer", ["--model.optimizer=torch.optim.LBFGS", "--model.optimizer.line_search_fn=strong_wolfe"]),
    ],
)
def test_resume_is_exact(kind: str, more: list[str], tmp_path: Path):
    data = "StyleTransferDataModule" if kind == "StyleTransfer" else "ReferenceImagesDataModule"
    whole = run(tmp_path, "--run.name=whole", *more, model=kind, data=data)
    with pytest.raises(RuntimeError, match="stopped by the test"):
        run(
            tmp_path, "--run.name=x", "--checkpoint.every_n_steps=1", *stop_at(4, "raise"), *more, model=kind, data=data
        )
    last = tmp_path / "e" / "x" / "checkpoints" / "last.ckpt"
    assert torch.load(last, weights_only=True)["global_step"] == 3
    resumed = train.main(["fit", f"--ckpt_path={last}"])
    assert same(weights(resumed.folder), weights(whole.folder)) and resumed.metrics == whole.metrics
    assert same(weights(resumed.folder, "best.ckpt"), weights(resumed.folder))
    assert list(weights(resumed.folder)) == ["logits"]


@pytest.fixture(scope="module")
def styled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run with its pictures."""
    more = ["--data.content=scenes", "--data.style=strokes", "--run.pictures=true", "--run.name=styled"]
    return run(tmp_path_factory.mktemp("styled"), *more, model="StyleTransfer", data="StyleTransferDataModule").folder


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path)).astype(int)


def test_a_run_leaves_its_images_and_a_training_gif(styled: Path):
    media = styled / "media"
    left = {str(path.relative_to(media)) for path in media.rglob("*") if path.suffix in (".png", ".gif")}
    names = [f"{name}_strokes" for name in ("lake", "portrait", "houses")]
    single = {f"generated_images/{name}.png" for name in names}
    assert left == single | {"generated_images.png", "curves.png", "styletransfer_grid.gif"}
    model = StyleTransfer.load(styled / "checkpoints" / "best.ckpt")
    images = model.optimized_images()
    expected = (images * 255).round().permute(0, 2, 3, 1).numpy()
    for name, image in zip(names, expected, strict=True):
        assert np.array_equal(pixels(media / "generated_images" / f"{name}.png"), image)
    content, style = StyleTransferDataModule("scenes", "strokes", 16).examples("test", 3)
    whole = pixels(media / "generated_images.png")
    assert whole.shape == (2 * (3 * 18 + 2), 2 * (3 * 18 + 2), 3)
    for row, shown in enumerate((content, style, images)):
        tile = whole[2 * (18 * row + 2) : 2 * (18 * row + 18) : 2, 4:36:2]
        assert np.array_equal(tile, (shown[0] * 255).round().permute(1, 2, 0).numpy())
    with Image.open(media / "styletransfer_grid.gif") as training_gif:
        assert training_gif.n_frames == 4 and training_gif.size == (2 * 3 * 16, 2 * 16 + 28)
    metrics = read_summary(styled)["metrics"]
    assert {f"{stage}/{term}" for stage in ("train", "test") for term in ("loss", "content", "style")} <= metrics.keys()


def test_sample_py_gives_the_images_of_a_checkpoint(styled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    checkpoint = styled / "checkpoints" / "best.ckpt"
    images = StyleTransfer.load(checkpoint).optimized_images()
    assert sample.main([str(checkpoint), f"--output={tmp_path / 'all.npz'}"]) == 0
    with np.load(tmp_path / "all.npz") as file:
        found = np.concatenate([file["x_train"], file["x_test"]])
    assert np.array_equal(found, (images * 255).round().permute(0, 2, 3, 1).numpy())
    assert sample.main([str(checkpoint), "--columns=3", f"--output={tmp_path / 'all.png'}"]) == 0
    assert Image.open(tmp_path / "all.png").size == (2 * (3 * 18 + 2), 2 * 20)
    for options, complaint in (
        (["--count=4"], "StyleTransfer has 3 images; give --count 3 or less"),
        (["--class=1"], "StyleTransfer cannot be conditioned on a class"),
        (["--interpolate"], "StyleTransfer has no codes to"),
        (["--sample-from=mixture"], "StyleTransfer has no codes to"),
    ):
        assert sample.main([str(checkpoint), *options, f"--output={tmp_path / 'none.png'}"]) == 2
        assert complaint in capsys.readouterr().err
    assert not (tmp_path / "none.png").exists()


def test_predict_and_test_read_the_checkpoint(styled: Path):
    checkpoint = f"--ckpt_path={styled}/checkpoints/best.ckpt"
    found = train.main(["test", checkpoint, "--run.pictures=false"]).metrics
    assert found["test/loss"] == read_summary(styled)["metrics"]["test/loss"]
    train.main(["predict", checkpoint])
    with np.load(styled / "predict" / "predictions.npz") as file:
        images = StyleTransfer.load(styled / "checkpoints" / "best.ckpt").optimized_images()
        assert np.array_equal(file["images"], (images * 255).round().byte().numpy())
    with pytest.raises(CheckpointError, match="holds images of 3 x 3 x 16 x 16, and those of the data are 1 x 3 x 16"):
        train.main(["test", checkpoint, "--data.content=lake"])


def test_a_trained_classifier_can_be_the_network(tmp_path: Path):
    path = saved(Classifier(channels=(4, 6), feature_dim=5, image_shape=(3, 28, 28)), tmp_path / "classifier.ckpt")
    model = FeatureInversion(ClassifierFeatures(str(path), (1, 2)), num_images=1, image_shape=(3, 16, 16))
    before = model.eval().loss_terms(ReferenceImagesDataModule("lake", 16).examples("test", 1))["loss"].item()
    assert optimized(model, ReferenceImagesDataModule("lake", 16))["test/loss"] < before / 5
    path.unlink()
    loaded = GenerativeModule.load(saved(model, tmp_path / "model.ckpt"))
    assert isinstance(loaded, HasOptimizedImages) and torch.equal(loaded.optimized_images(), model.optimized_images())
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        loaded.prepare_fit()


def test_half_precision_is_refused(tmp_path: Path):
    with pytest.raises(MisconfigurationException, match="do not change in half precision"):
        run(tmp_path, "--trainer.precision=bf16-true")
    found = {precision: run(tmp_path, f"--trainer.precision={precision}") for precision in ("32-true", "bf16-mixed")}
    losses = {precision: result.metrics["test/loss"] for precision, result in found.items()}
    assert losses["bf16-mixed"] < 5 * losses["32-true"] < 0.02


@pytest.mark.parametrize(("optimizer", "refused"), [(LBFGS, True), (adam, False)])
def test_lbfgs_does_not_work_with_the_gradient_scaler(optimizer: Any, refused: bool):
    model = build_model("texture", optimizer=optimizer)
    plugin = SimpleNamespace(scaler=torch.amp.GradScaler("cpu"))
    trainer = cast(Any, SimpleNamespace(precision="16-mixed", precision_plugin=plugin))
    with (
        pytest.raises(MisconfigurationException, match="use --trainer.precision bf16-mixed")
        if refused
        else nullcontext()
    ):
        model.check_trainer(trainer)


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (["--model=TextureSynthesis", "--data=MNISTDataModule"], "has no reference images, .*--data Reference"),
        (
            ["--model=StyleTransfer", "--data=ReferenceImagesDataModule"],
            "StyleTransfer needs pairs of .*--data StyleTransfer",
        ),
        (["--model=GAN", "--data=ReferenceImagesDataModule"], "GAN does not optimize images; use --data .*MNIST"),
        (["--model=CycleGAN", "--data=StyleTransferDataModule"], "CycleGAN does not .* --data NoisyMNIST"),
        (
            ["--model=TextureSynthesis", "--data=RecoloredMNISTDataModule"],
            "no reference images, .* --data ReferenceImagesDataModule$",
        ),
        (arguments("--data.images=nowhere"), "nowhere is no file, folder or generated image; give a path"),
        (arguments("--data.size=1"), "images of 1 x 1 are too small for pool1"),
        (arguments("--model.features.weights=no.pth"), "there are no weights no.pth"),
        (arguments("--model.tv_weight=-1", model="FeatureInversion"), "tv_weight is -1"),
        (arguments("--model.tv_beta=0.5", model="FeatureInversion"), "tv_beta is 0.5; it must be at least 1"),
        (
            arguments("--model.content_maps=[3]", model="StyleTransfer", data="StyleTransferDataModule"),
            "content_maps is .3.; give at least one of the feature maps 1 to 2",
        ),
        (
            arguments("--model.style_weight=-2", model="StyleTransfer", data="StyleTransferDataModule"),
            "style_weight -2.0; both must be at least 0",
        ),
    ],
)
def test_invalid_options_raise_an_error_of_one_line(args: list[str], complaint: str, tmp_path: Path):
    bad = (UsageError, CheckpointError, DataError)
    with pytest.raises(bad, match=complaint) as caught:
        train.main(["fit", *args, f"--run.root={tmp_path}"])
    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())


def test_a_batch_without_all_reference_images_is_refused():
    model = build_model("texture").train()
    with pytest.raises(MisconfigurationException, match="reference images is 2, and in a batch it is 3"):
        model.loss_terms((torch.rand(3, 3, 8, 8), torch.arange(3)))
    with pytest.raises(ValueError, match="num_images is 0"):
        build_model("texture", num_images=0)


def test_two_processes_share_the_reference_images_and_take_the_same_steps(tmp_path: Path):
    """Each evaluation of L-BFGS has the loss and the gradient that one process computes for the same images.

    Where the optimization ends is not compared: a line search multiplies a difference in the last bit.
    """
    options = arguments(
        "--data.content=scenes",
        "--data.style=paintings",
        "--trainer.precision=64-true",
        "--trainer.devices=2",
        "--trainer.strategy=ddp",
        "--trainer.callbacks+=tests.lit_models.common.evaluations.Evaluations",
        f"--trainer.callbacks.folder={tmp_path}",
        model="StyleTransfer",
        data="StyleTransferDataModule",
    )
    place = [f"--run.root={tmp_path}", "--run.name=two", "--trainer.accelerator=cpu"]
    done = run_program("train.py", "fit", *options, *place, OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stdout + done.stderr
    one, other = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    assert same(one, other) and len(one["losses"]) > 20
    model = StyleTransfer.load(tmp_path / "e" / "two" / "checkpoints" / "last.ckpt").double().train()
    batch = tuple(x.double() for x in StyleTransferDataModule("scenes", "paintings", 16).examples("train", 6))
    for pixels, loss, gradient in zip(one["parameters"], one["losses"], one["gradients"], strict=True):
        model.logits.data = pixels
        expected = model.loss_terms(batch)["loss"]
        torch.testing.assert_close(loss, expected.detach(), rtol=1e-9, atol=0)
        torch.testing.assert_close(gradient, *torch.autograd.grad(expected, model.logits), rtol=1e-6, atol=1e-12)
