import re
import urllib.error
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import VGG19_Weights, vgg11, vgg16, vgg19, vgg19_bn
from torchvision.transforms import functional as transforms

from lit_models.networks.vgg import LAYERS, VGG19Features
from tests.helpers import same

KEPT = Path(VGG19_Weights.DEFAULT.url).name


def torchvisions(make: Any = vgg19) -> nn.Sequential:
    with torch.device("meta"):
        return make(init_weights=False).features


def random_weights(features: nn.Sequential) -> dict[str, Tensor]:
    """A state_dict as torchvision has it. A filter sees all channels and neighbours alike: a small file."""
    torch.manual_seed(1)
    state = {}
    for name, value in features.state_dict().items():
        state[f"features.{name}"] = 0.1 * torch.randn(value.shape)
        if value.ndim == 4:
            filters = torch.randn(len(value), 1, 1, 1) * (4 / value[0].numel())
            state[f"features.{name}"] = filters.expand(value.shape)
    return state


def written(state: Any, path: Path) -> str:
    torch.save(state, path)
    return str(path)


def reference(features: nn.Sequential, state: Mapping[str, Tensor]) -> nn.Sequential:
    features = features.to_empty(device="cpu")
    features.load_state_dict({name.removeprefix("features."): value for name, value in state.items()})
    for layer in features:
        if isinstance(layer, nn.ReLU):
            layer.inplace = False
    return features


def prepared(images: Tensor) -> Tensor:
    presets = VGG19_Weights.DEFAULT.transforms()
    return transforms.normalize(images.expand(-1, 3, -1, -1), list(presets.mean), list(presets.std))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file with the weights up to relu1_2 alone."""
    features = torchvisions()[:4]
    state = {f"features.{name}": torch.randn(value.shape) / 9 for name, value in features.state_dict().items()}
    return written(state, tmp_path_factory.mktemp("weights") / "vgg19.pth")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> str:
    return written(random_weights(torchvisions()), tmp_path_factory.mktemp("weights") / "vgg19.pth")


def test_layers_are_named_by_their_block_and_kind():
    kinds = {"conv": nn.Conv2d, "relu": nn.ReLU, "pool": nn.MaxPool2d}
    features = torchvisions()
    block = unit = 1
    for name, layer in zip(LAYERS, features, strict=True):
        kind, numbers = name[:4], name[4:]
        assert isinstance(layer, kinds[kind])
        assert numbers == (str(block) if kind == "pool" else f"{block}_{unit}")
        unit += kind == "relu"
        if kind == "pool":
            block, unit = block + 1, 1
    assert block == 6 and LAYERS[-2] == "relu5_4"


@pytest.mark.parametrize("channels", [1, 3])
def test_maps_are_those_of_torchvisions_network(channels: int, small: str):
    network = VGG19Features(("relu1_2", "conv1_1", "relu1_1", "conv1_2"), small)
    x = prepared(images := torch.rand(2, channels, 9, 7))
    expected = []
    for layer in reference(torchvisions()[:4], torch.load(small)):
        expected.append(x := layer(x))
    conv1_1, relu1_1, conv1_2, relu1_2 = expected
    for found, right in zip(network(images), (relu1_2, conv1_1, relu1_1, conv1_2), strict=True):
        assert torch.allclose(found, right, atol=1e-5)
    assert (conv1_2 < 0).any()


def test_the_deepest_map_too(whole: str):
    network, images = VGG19Features(["relu5_4", "pool2"], whole), torch.rand(2, 3, 33, 20)
    deep, shallow = network(images)
    own = reference(torchvisions(), torch.load(whole))
    with torch.no_grad():
        assert torch.allclose(deep, own[:36](prepared(images)), rtol=1e-3, atol=1e-5)
        assert torch.allclose(shallow, own[:10](prepared(images)), rtol=1e-3, atol=1e-5)
    assert deep.shape == (2, 512, 2, 1) and deep.std() > 1e-3 and (deep > 0).float().mean() > 0.1


def test_average_pooling_replaces_the_maximum(whole: str):
    images = torch.rand(2, 1, 12, 12)
    relu, pool = VGG19Features(("relu1_2", "pool1"), whole, pooling="average")(images)
    assert torch.allclose(pool, relu.unflatten(3, (6, 2)).unflatten(2, (6, 2)).mean(dim=(3, 5)), atol=1e-6)
    relu, pool = VGG19Features(("relu1_2", "pool1"), whole)(images)
    assert torch.equal(pool, relu.unflatten(3, (6, 2)).unflatten(2, (6, 2)).amax(dim=(3, 5)))


def test_it_is_frozen_whatever_is_asked_for(small: str):
    network = nn.Sequential(VGG19Features(("relu1_2",), small)).train()
    assert not any(module.training for module in network[0].modules())
    images = torch.rand(1, 3, 8, 8, requires_grad=True)
    network(images)[0].sum().backward()
    assert images.grad is not None and images.grad.abs().sum() > 0
    assert all(not p.requires_grad and p.grad is None for p in network.parameters())


def test_layers_above_the_last_are_not_kept_and_nothing_is_drawn(whole: str):
    before = torch.random.get_rng_state()
    network = VGG19Features(("conv1_2",), whole)
    assert torch.equal(before, torch.random.get_rng_state())
    assert list(network.state_dict()) == [f"features.{place}.{name}" for place in (0, 2) for name in ("weight", "bias")]


@pytest.mark.parametrize("name", list(VGG19_Weights.__members__))
def test_a_name_is_torchvisions_file(name: str, small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    kept = Path(torch.hub.get_dir(), "checkpoints", KEPT)
    kept.parent.mkdir(parents=True)
    kept.write_bytes(Path(small).read_bytes())
    assert same(VGG19Features(("relu1_2",), name).state_dict(), torch.load(small))


def test_without_a_network_it_says_how_to_bring_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fails(*args: Any, **kwargs: Any) -> None:
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(torch.hub, "urlopen", fails)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(ValueError, match="weights IMAGENET1K_V1 cannot be downloaded") as caught:
        VGG19Features(("relu1_2",), "IMAGENET1K_V1", option="--model.texture.weights")
    message = str(caught.value)
    assert "\n" not in message and "--model.texture.weights FILE" in message
    assert str(tmp_path / "hub" / "checkpoints" / KEPT) in message and VGG19_Weights.DEFAULT.url in message


def test_half_precision_weights_become_single(small: str, tmp_path: Path):
    half = {name: value.half() for name, value in torch.load(small).items()}
    network = VGG19Features(("relu1_2",), written(half, tmp_path / "half.pth"))
    assert {p.dtype for p in network.parameters()} == {torch.float32}


def test_a_file_that_does_not_fit_is_refused(small: str, tmp_path: Path):
    def complaint(weights: str | Path, layer: str = "relu1_2") -> str:
        with pytest.raises(ValueError) as caught:
            VGG19Features((layer,), str(weights))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "neither a file nor IMAGENET1K_V1 or DEFAULT" in complaint(tmp_path / "none.pth")
    cut = tmp_path / "cut.pth"
    cut.write_bytes(Path(small).read_bytes()[:1000])
    assert f"{cut} is damaged" in complaint(cut)
    assert f"{small} lack features.5.weight; give a state_dict of torchvision's vgg19" in complaint(small, "relu2_1")
    assert "holds a Tensor, not a state_dict of torchvision's vgg19" in complaint(
        written(torch.zeros(2), tmp_path / "tensor.pth")
    )
    numbers = written({1: torch.zeros(2)}, tmp_path / "numbers.pth")
    assert "of another network than VGG19" in complaint(numbers)
    for make, layer in ((vgg19_bn, "conv1_1"), (vgg16, "relu3_3"), (vgg11, "relu4_1")):
        other = written(random_weights(torchvisions(make)), tmp_path / "other.pth")
        assert "of another network than VGG19" in complaint(other, layer)


def test_small_images_get_the_last_layer_that_fits(whole: str):
    network = VGG19Features(("relu1_1", "conv3_1"), whole)
    assert network(torch.rand(1, 1, 4, 9))[1].shape == (1, 256, 1, 2)
    with pytest.raises(ValueError, match=re.escape("images of 3 x 9 are too small for conv3_1 of VGG-19")) as caught:
        network(torch.rand(1, 1, 3, 9))
    assert "halves them 2 times; the last layer that fits is relu2_2" in str(caught.value)
    network = VGG19Features(("pool5",), whole)
    for pixels, last in ((1, "relu1_2"), (2, "relu2_2"), (15, "relu4_4"), (16, "relu5_4"), (31, "relu5_4")):
        with pytest.raises(ValueError, match=f"the last layer that fits is {last}$"):
            network.check_shape((3, pixels, 99))
    assert network(torch.rand(1, 3, 32, 32))[0].shape == (1, 512, 1, 1)


def test_invalid_arguments_raise_an_error(small: str):
    for layers, complaint in (
        ((), "at least one layer"),
        (("relu1_1", "relu1_1"), "none twice"),
        (("relu3_5",), "VGG-19 has no layer relu3_5; its layers are conv1_1"),
    ):
        with pytest.raises(ValueError, match=complaint):
            VGG19Features(layers, small)
    with pytest.raises(ValueError, match="1 or 3 channels, not 2"):
        VGG19Features(("relu1_1",), small)(torch.rand(1, 2, 8, 8))
