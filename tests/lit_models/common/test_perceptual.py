from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn
from torchvision.models import vgg19

from lit_models import CheckpointError, Classifier, GenerativeModule, LinearAutoencoder, Probe
from lit_models.common.perceptual import ClassifierFeatures, PerceptualFeatures, VGGFeatures, perceptual_distance
from tests.helpers import saved

BLOCKS = {"plain": True, "residual": False, "inception": True}
"""And whether with batch normalisation."""


class Painter(GenerativeModule):
    """Uses a perceptual network in training alone."""

    def __init__(
        self, perceptual: PerceptualFeatures | None = None, optimizer: OptimizerCallable = torch.optim.Adam
    ) -> None:
        super().__init__(optimizer)
        self.save_hyperparameters()
        self.perceptual = perceptual
        self.layer = nn.Linear(2, 2)


class TwoMaps(nn.Module):
    def forward(self, images: Tensor) -> list[Tensor]:
        return [images.square(), images[:, :, ::2].sum(dim=1, keepdim=True)]


def trained(channels: int = 1, block: str = "plain") -> Classifier:
    """A classifier that stands for a trained one: its batch norms' statistics are other than those at first."""
    torch.manual_seed(3)
    model = Classifier((4, 8, 12), block, BLOCKS[block], feature_dim=5, image_shape=(channels, 28, 28))  # type: ignore[arg-type]
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)  # type: ignore[union-attr, operator]
            module.running_var.uniform_(0.5, 1.5)  # type: ignore[union-attr, operator]
    return model.eval()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(trained(), tmp_path_factory.mktemp("classifier") / "classifier.ckpt")


@pytest.fixture(scope="module")
def vgg_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weights of VGG-19 up to relu1_2 alone."""
    with torch.device("meta"):
        features = vgg19(init_weights=False).features[:4]
    path = tmp_path_factory.mktemp("vgg") / "vgg19.pth"
    torch.save({f"features.{name}": torch.randn(v.shape) / 9 for name, v in features.state_dict().items()}, path)
    return path


def test_the_distance_is_the_mean_over_layers_of_the_mean_squares():
    x, y = torch.rand(3, 2, 4, 6), torch.rand(3, 2, 4, 6)
    a, b = x.double().numpy(), y.double().numpy()
    squares = ((a**2 - b**2) ** 2).sum() / (3 * 2 * 4 * 6)
    sums = ((a - b)[:, :, ::2].sum(axis=1) ** 2).sum() / (3 * 2 * 6)
    assert np.isclose(float(perceptual_distance(TwoMaps(), x, y)), (squares + sums) / 2, rtol=1e-5)


def test_it_is_measured_in_single_precision():
    x, y = torch.rand(3, 2, 4, 6).bfloat16(), torch.rand(3, 2, 4, 6)
    with torch.autocast("cpu", torch.bfloat16):
        found = perceptual_distance(TwoMaps(), x, y)
    assert found.dtype == torch.float32 and found == perceptual_distance(TwoMaps(), x.float(), y)


@pytest.mark.parametrize("kind", ["classifier", "vgg"])
def test_equal_images_are_at_no_distance_and_the_gradient_reaches_the_images_alone(
    kind: str, checkpoint: Path, vgg_file: Path
):
    components = {"classifier": ClassifierFeatures(str(checkpoint)), "vgg": VGGFeatures(str(vgg_file), ("relu1_2",))}
    network = components[kind].build((1, 28, 28)).train()
    images, references = (torch.rand(2, 1, 28, 28, requires_grad=True) for _ in range(2))
    assert perceptual_distance(network, images, images) == 0
    before = {name: value.clone() for name, value in network.state_dict().items()}
    distance = perceptual_distance(network, images, references)
    assert distance.shape == () and distance > 0
    assert torch.isclose(distance, perceptual_distance(network, references, images))
    distance.backward()
    assert images.grad is not None and images.grad.abs().sum() > 0 and references.grad is None
    assert all(not p.requires_grad and p.grad is None for p in network.parameters())
    assert not any(module.training for module in network.modules())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("block", list(BLOCKS))
@pytest.mark.parametrize("channels", [1, 3])
def test_a_classifiers_maps_are_what_its_stages_make(channels: int, block: str, tmp_path: Path):
    model, images = trained(channels, block), torch.rand(2, channels, 28, 28)
    path = str(saved(model, tmp_path / "classifier.ckpt"))
    first, second, third = (model.feature_network.stages[place] for place in (0, 2, 4))
    with torch.no_grad():
        one = first(images)
        two = second(nn.functional.max_pool2d(one, 2))
        three = third(nn.functional.max_pool2d(two, 2))
        assert torch.allclose(model.features(images), model.feature_network.project(three.mean(dim=(2, 3))), atol=1e-5)
    for stages, expected in ((None, (one, two, three)), ((2,), (two,)), ((3, 1), (three, one))):
        network = ClassifierFeatures(path, stages).build()
        for found, right in zip(network(images), expected, strict=True):
            assert torch.allclose(found, right, atol=1e-5)
    assert len(ClassifierFeatures(path, (2,)).build().stages) == 3
    assert next(network.parameters()).device.type == "cpu"


def test_its_loading_draws_nothing(checkpoint: Path):
    before = torch.random.get_rng_state()
    ClassifierFeatures(str(checkpoint)).build()
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_probe_on_a_classifier_has_its_stages_and_the_seed_is_filled_in(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    saved(Probe(str(checkpoint)), tmp_path / "seed=7.ckpt")
    monkeypatch.setenv("PL_GLOBAL_SEED", "7")
    images = torch.rand(2, 1, 28, 28)
    probes = ClassifierFeatures(str(tmp_path / "seed={seed}.ckpt")).build()(images)
    own = ClassifierFeatures(str(checkpoint)).build()(images)
    assert all(torch.equal(a, b) for a, b in zip(probes, own, strict=True))


def test_vggs_maps_are_those_of_its_layers(vgg_file: Path):
    network, images = VGGFeatures(str(vgg_file), ("relu1_2", "relu1_1")).build((3, 8, 8)), torch.rand(2, 3, 8, 8)
    deep, shallow = network(images)
    state = torch.load(vgg_file)
    right = nn.functional.conv2d(shallow, state["features.2.weight"], state["features.2.bias"], padding=1).relu()
    assert deep.shape == (2, 64, 8, 8) and torch.allclose(deep, right, atol=1e-5)


@pytest.mark.parametrize(
    "component", [ClassifierFeatures("nowhere/{seed}.ckpt", (1, 2)), VGGFeatures("nowhere.pth", ("relu2_2", "relu3_3"))]
)
def test_a_model_is_loaded_without_the_file_of_its_perceptual_network(component: PerceptualFeatures, tmp_path: Path):
    loaded = GenerativeModule.load(saved(Painter(component), tmp_path / "painter.ckpt"))
    assert isinstance(loaded, Painter) and loaded.perceptual is not None
    assert loaded.perceptual.as_config() == component.as_config()
    assert list(loaded.state_dict()) == ["layer.weight", "layer.bias"]
    with pytest.raises((CheckpointError, ValueError), match="there (is|are) no (checkpoint|weights) nowhere"):
        loaded.perceptual.build()


def complaint(component: PerceptualFeatures, shape: tuple[int, int, int] | None = None) -> str:
    with pytest.raises((CheckpointError, ValueError)) as caught:
        component.build(shape)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_checkpoint_that_does_not_fit_is_refused(checkpoint: Path, tmp_path: Path):
    other = saved(LinearAutoencoder(latent_dim=2), tmp_path / "other.ckpt")
    assert "holds a LinearAutoencoder, which has no stages; give" in complaint(ClassifierFeatures(str(other)))
    bare = saved(Painter(), tmp_path / "bare.ckpt")
    assert "holds a Painter, which has no stages" in complaint(ClassifierFeatures(str(bare)))
    assert "has 3 stages, and no stage 4" in complaint(ClassifierFeatures(str(checkpoint), (1, 4)))
    three = "takes 1-channel images, not 3-channel ones; give the checkpoint of a Classifier of such images"
    assert f"{checkpoint} {three}" in complaint(ClassifierFeatures(str(checkpoint)), (3, 28, 28))
    with pytest.raises(CheckpointError, match=three):
        ClassifierFeatures(str(checkpoint)).build()(torch.rand(2, 3, 28, 28))
    small = complaint(ClassifierFeatures(str(checkpoint)), (1, 28, 3))
    assert "images of 28 x 3 are too small for stage 3" in small and "the last stage that fits is 2" in small
    ClassifierFeatures(str(checkpoint)).build((1, 4, 4))(torch.rand(1, 1, 4, 4))


def test_vgg_says_what_it_lacks(vgg_file: Path):
    assert f"{vgg_file} lack features.5.weight" in complaint(VGGFeatures(str(vgg_file), ("relu2_1",)))
    assert "1 or 3 channels, not 2" in complaint(VGGFeatures(str(vgg_file), ("relu1_1",)), (2, 8, 8))


@pytest.mark.parametrize("stages", [(), (0,), (2, 2)])
def test_stages_are_counted_from_one_and_once_each(stages: tuple[int, ...]):
    with pytest.raises(ValueError, match="counted from 1, and none twice"):
        ClassifierFeatures("x.ckpt", stages)


def test_layers_are_checked_before_anything_is_read():
    with pytest.raises(ValueError, match="VGG-19 has no layer relu6_1"):
        VGGFeatures(layers=("relu6_1",))
