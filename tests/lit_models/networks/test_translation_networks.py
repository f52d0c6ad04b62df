"""Networks of image-to-image models: shapes, the layers of the papers, and initial weights."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from datamodules import DigitsDataModule
from lit_models.common.discriminators import Discriminator, PatchDiscriminator, PoolingDiscriminator
from lit_models.common.translators import ConvTranslator, ResNetTranslator, Translator, UNetTranslator
from lit_models.common.upscalers import SRResNet
from tests.lit_models.networks.test_gan_networks import shapes

SIZES = [(28, 28), (32, 32), (30, 22), (7, 7)]
TRANSLATORS = [
    ConvTranslator((4, 3), 3),
    ResNetTranslator(2, 1),
    ResNetTranslator(2, 0, "none"),
    UNetTranslator(2, 2),
    UNetTranslator(2, 1, norm="layer"),
    UNetTranslator(2, 2, norm="instance"),
]


def of_layers(network: nn.Module, kind: type[nn.Module]) -> list[Any]:
    return [m for m in network.modules() if isinstance(m, kind)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("translator", TRANSLATORS, ids=lambda component: type(component).__name__)
def test_a_translator_makes_images_of_any_size(translator: Translator, size: tuple[int, int]):
    torch.manual_seed(0)
    for c_in, c_out in ((1, 3), (3, 1)):
        made = translator.build((c_in, *size), c_out)(torch.rand(4, c_in, *size))
        assert made.shape == (4, c_out, *size) and made.std() > 0
        linear = isinstance(translator, ConvTranslator)
        assert linear or (made.min() >= 0 and made.max() <= 1)


@pytest.mark.parametrize(
    ("translator", "size", "match"),
    [
        (UNetTranslator(2, 3), (7, 30), "depth 3 is too deep for images of 7 x 30: give at most 2"),
        (UNetTranslator(2, 5), (28, 28), "depth 5 is too deep for images of 28 x 28: give at most 4"),
        (UNetTranslator(2), (1, 28), "images of 1 x 28: use ConvTranslator"),
        (ResNetTranslator(2, 1), (30, 4), "images of 30 x 4 are too small"),
    ],
)
def test_an_image_that_is_too_small_is_an_error(translator: Translator, size: tuple[int, int], match: str):
    with pytest.raises(ValueError, match=match):
        translator.build((1, *size), 1)(torch.rand(2, 1, *size))


def test_the_smallest_images_that_fit():
    for translator, side in ((UNetTranslator(2, 3), 8), (UNetTranslator(2, 1), 2), (ResNetTranslator(2, 1), 5)):
        assert translator.build((1, side, side), 1)(torch.rand(2, 1, side, side)).shape == (2, 1, side, side)


def test_the_resnet_has_the_papers_layers():
    """c7s1-64, d128, d256, six R256, u128, u64, c7s1-3 (Zhu et al. 2017, section 7.2), each u a plain convolution."""
    network = ResNetTranslator(64, 6).build((3, 28, 28), 3)
    blocks = [(256, 256, 3, 3)] * 12
    down, up = [(64, 3, 7, 7), (128, 64, 3, 3), (256, 128, 3, 3)], [(128, 256, 3, 3), (64, 128, 3, 3), (3, 64, 7, 7)]
    assert shapes(network, nn.Conv2d) == [*down, *blocks, *up]
    assert [m.stride for m in of_layers(network, nn.Conv2d)] == [(1, 1), (2, 2), (2, 2)] + [(1, 1)] * 15
    assert shapes(network, nn.InstanceNorm2d) == [(64,), (128,), (256,)] + [(256,)] * 12 + [(128,), (64,)]
    assert not of_layers(network, nn.ConvTranspose2d)


def test_the_u_net_concatenates_maps_of_the_way_down():
    """C64-C128-C256 down; on the way up with the maps of the same size (Isola et al. 2016, section 6.1)."""
    network = UNetTranslator(64, dropout=0.5).build((1, 28, 28), 3)
    down = [(64, 1, 4, 4), (128, 64, 4, 4), (256, 128, 4, 4)]
    up = [(128, 256, 3, 3), (64, 128 + 128, 3, 3), (3, 64 + 64, 3, 3)]
    assert shapes(network, nn.Conv2d) == down + up
    assert shapes(network, nn.BatchNorm2d) == [(128,), (128,), (64,)]  # none first, innermost and last
    assert [m.p for m in of_layers(network, nn.Dropout)] == [0.5]
    assert [m.negative_slope for m in of_layers(network, nn.LeakyReLU)] == [0.2] * 3
    assert max(m.out_channels for m in of_layers(UNetTranslator(2).build((1, 256, 256), 1), nn.Conv2d)) == 16


def test_dropout_acts_in_training_only():
    torch.manual_seed(0)
    network, images = UNetTranslator(4, 3, dropout=0.5, norm="none").build((1, 28, 28), 1), torch.rand(2, 1, 16, 16)
    assert not torch.equal(network(images), network(images))
    assert torch.equal(network.eval()(images), network(images))


@pytest.mark.parametrize(
    "network",
    [
        ResNetTranslator(2, 1).build((1, 28, 28), 1),
        UNetTranslator(2, 4, norm="instance").build((1, 28, 28), 1),
        UNetTranslator(2, 4, norm="batch").build((1, 28, 28), 1),
        PatchDiscriminator(2, 2).build_features((1, 28, 28)),
        PatchDiscriminator(2, 2, "batch").build_features((1, 28, 28)),
    ],
)
def test_convolutions_before_a_norm_have_no_bias(network: nn.Module):
    """The norm would subtract it, and rounding errors would change it."""
    pairs = [pair for layers in of_layers(network, nn.Sequential) for pair in itertools.pairwise(layers)]
    normed = [a for a, b in pairs if isinstance(a, nn.Conv2d) and isinstance(b, nn.InstanceNorm2d | nn.BatchNorm2d)]
    assert normed and not any(layer.bias is not None for layer in normed)


def test_convolutions_are_initialised_near_the_identity():
    """Over twenty seeds. With torch's initial weights alone, inputs and outputs are not correlated."""
    images = DigitsDataModule().examples("test", 20)[0]
    found: dict[str, list[float]] = {"ours": [], "torch's": []}
    for seed in range(20):
        torch.manual_seed(seed)
        network = ConvTranslator((8, 8), 3).build((1, 28, 28), 1)
        for name, each in found.items():
            with torch.no_grad():
                made = network(images)
            each.append(np.corrcoef(images.flatten(), made.flatten())[0, 1])
            if name == "ours":
                network.apply(lambda m: m.reset_parameters() if isinstance(m, nn.Conv2d) else None)
    assert np.median(found["ours"]) > 0.85
    assert np.median(np.abs(found["torch's"])) < 0.85 and np.mean(found["torch's"]) < 0.5


# Upscalers.


@pytest.mark.parametrize("factor", [2, 4])
@pytest.mark.parametrize("noise", [0, 2])
def test_an_upscaler_starts_near_bicubic_upsampling(factor: int, noise: int):
    """As Pillow computes it, clipped; the kernel has a = -1/2."""
    torch.manual_seed(0)
    network = SRResNet(8, 2).build(3 + noise, 3, factor).eval()
    small = DigitsDataModule().examples("test", 6)[0][:, :, ::2, 1::3].reshape(2, 3, 14, -1)
    height, width = small.shape[2] * factor, small.shape[3] * factor
    with torch.no_grad():
        made = network(torch.cat([small, torch.randn(2, noise, *small.shape[2:])], dim=1))
    assert made.shape == (2, 3, height, width)
    for image, plane in zip(made.flatten(0, 1), small.flatten(0, 1), strict=True):
        expected = Image.fromarray(plane.numpy()).resize((width, height), Image.Resampling.BICUBIC)
        np.testing.assert_allclose(image.numpy(), np.asarray(expected).clip(0, 1), atol=0.03)
    assert (made[:, :, ::factor, ::factor] - small).abs().mean() > 0.01  # not by repeating pixels


def test_the_upscaler_has_the_papers_layers():
    """k9n64, B blocks of two k3n64, k3n64, a k3n256 and shuffled pixels for each doubling, k9 (Ledig et al. 2016,
    figure 4), here without the last norm's bias before it."""
    network = SRResNet(64, 16).build(3, 3, 4)
    assert shapes(network, nn.Conv2d) == [
        (64, 3, 9, 9),
        *[(64, 64, 3, 3)] * 33,
        *[(256, 64, 3, 3)] * 2,
        (3, 64, 9, 9),
    ]
    assert len(of_layers(network, nn.PixelShuffle)) == 2 and len(of_layers(network, nn.BatchNorm2d)) == 33
    assert len(of_layers(network, nn.PReLU)) == 1 + 16 + 2


# Discriminators.


@pytest.mark.parametrize(("depth", "side"), [(1, 16), (2, 34), (3, 70)])
def test_the_size_of_a_patch(depth: int, side: int):
    """The pixels at which a logit in the middle has a gradient, without norms, which depend on the whole image."""
    torch.manual_seed(0)
    component = PatchDiscriminator(2, depth, norm="none")
    images = torch.rand(1, 1, 160, 160, requires_grad=True)
    network = component.build_features(tuple(images.shape[1:]))
    logits = component.build_head(network.out_dim, 1)(network(images))
    middle = logits.shape[2] // 2
    [slope] = torch.autograd.grad(logits[0, 0, middle, middle], images)
    rows, columns = (slope[0, 0].abs().sum(dim=axis).nonzero().flatten() for axis in (1, 0))
    for seen in (rows, columns):
        assert seen[0] > 0 and seen[-1] < 159  # the patch is inside the image
        assert seen[-1] - seen[0] + 1 == side


@pytest.mark.parametrize(
    ("depth", "size", "logits"),
    [(2, (28, 28), (5, 5)), (2, (32, 32), (6, 6)), (2, (30, 22), (5, 3)), (1, (7, 7), (1, 1)), (3, (28, 28), (1, 1))],
)
def test_patches_of_images_of_any_size(depth: int, size: tuple[int, int], logits: tuple[int, int]):
    component = PatchDiscriminator(2, depth)
    network = component.build_features((3, *size))
    features = network(torch.rand(2, 3, *size))
    assert features.shape[:2] == (2, network.out_dim)
    assert component.build_head(network.out_dim, 1)(features).shape == (2, 1, *logits)


def test_patches_have_the_papers_layers():
    """C64-C128-C256-C512 and a convolution to one logit, for patches of 70 x 70 (Isola et al. 2016, section 6.1.2)."""
    component = PatchDiscriminator(64, 3, "batch")
    network = component.build_features((3, 256, 256))
    assert shapes(network, nn.Conv2d) == [(64, 3, 4, 4), (128, 64, 4, 4), (256, 128, 4, 4), (512, 256, 4, 4)]
    assert [m.stride for m in of_layers(network, nn.Conv2d)] == [(2, 2)] * 3 + [(1, 1)]
    assert shapes(network, nn.BatchNorm2d) == [(128,), (256,), (512,)]  # none after the first convolution
    assert {m.negative_slope for m in of_layers(network, nn.LeakyReLU)} == {0.2}
    assert shapes(component.build_head(network.out_dim, 1), nn.Conv2d) == [(1, 512, 4, 4)]


def test_patches_under_spectral_norm():
    component = PatchDiscriminator(4, 1, "none", spectral_norm=True)
    network = component.build_features((1, 28, 28))
    layers = [*of_layers(network, nn.Conv2d), *of_layers(component.build_head(network.out_dim, 1), nn.Conv2d)]
    assert len(layers) == 3
    for layer in layers:
        for _ in range(50):  # in training each access is a power iteration
            weight = layer.weight
        assert torch.linalg.matrix_norm(weight.flatten(1), 2).item() == pytest.approx(1.0, abs=0.02)


def test_the_pooling_discriminator_has_its_layers():
    """Twice a convolution at full size, ReLU and max pooling, then two fully connected layers, the last the logit."""
    component = PoolingDiscriminator((32, 64), 128, 5)
    network = component.build_features((3, 30, 22))
    kinds = [nn.Conv2d, nn.ReLU, nn.MaxPool2d] * 2 + [nn.Flatten, nn.Linear, nn.ReLU]
    assert [type(m) for m in network.layers] == kinds
    assert shapes(network, nn.Conv2d) == [(32, 3, 5, 5), (64, 32, 5, 5)]
    assert [m.padding for m in of_layers(network, nn.Conv2d)] == [(2, 2)] * 2
    assert shapes(network, nn.Linear) == [(128, 64 * 7 * 5)]
    head = component.build_head(network.out_dim, 1)
    assert isinstance(head, nn.Linear) and head.weight.shape == (1, 128)
    assert head(network(torch.rand(2, 3, 30, 22))).shape == (2, 1)


@pytest.mark.parametrize("component", [PatchDiscriminator(2, 1, "none"), PoolingDiscriminator((2, 2), 8, 3)])
def test_a_grey_image_has_no_features(component: Discriminator):
    """Pixels are mapped to [-1, 1]: without biases, the features of an image of 1/2 are 0."""
    torch.manual_seed(0)
    network = component.build_features((1, 8, 8))
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear) and layer.bias is not None:
            nn.init.zeros_(layer.bias)

    def features(images: Tensor) -> Tensor:
        return network(images).abs().sum()

    assert features(torch.full((1, 1, 8, 8), 0.5)) == 0 < features(torch.rand(1, 1, 8, 8))


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: ConvTranslator(()), "channels are"),
        (lambda: ConvTranslator((4, 0)), "channels are"),
        (lambda: ConvTranslator((4,), 4), "kernel_size must be odd"),
        (lambda: ResNetTranslator(0), "channels is 0"),
        (lambda: ResNetTranslator(4, -1), "blocks -1"),
        (lambda: UNetTranslator(0), "channels is 0"),
        (lambda: UNetTranslator(4, 0), "depth 0"),
        (lambda: UNetTranslator(4, 3, 1.0), "dropout 1.0"),
        (lambda: UNetTranslator(4, 3, float("nan")), "dropout nan"),
        (lambda: UNetTranslator(4, dropout=0.5).build((1, 16, 16), 1), "depth is 2; give dropout 0, or a depth"),
        (lambda: SRResNet(0), "channels is 0"),
        (lambda: SRResNet(4, -1), "blocks -1"),
        (lambda: SRResNet(4).build(1, 1, 3), "powers of two, not by 3"),
        (lambda: SRResNet(4).build(1, 1, 1), "powers of two, not by 1"),
        (lambda: PatchDiscriminator(0), "channels is 0"),
        (lambda: PatchDiscriminator(4, 0), "depth 0"),
        (
            lambda: PatchDiscriminator(4, 2).build_features((1, 7, 28)),
            "depth 2 is too deep for patches of images of 7 x 28: give at most 1",
        ),
        (lambda: PatchDiscriminator(4).build_features((1, 5, 28)), "images of 5 x 28: use DCGANDiscriminator"),
        (lambda: PoolingDiscriminator((0, 2)), "channels are"),
        (lambda: PoolingDiscriminator((2, 2), 0), "hidden_dim is 0"),
        (lambda: PoolingDiscriminator((2, 2), 4, 2), "kernel_size odd"),
        (lambda: PoolingDiscriminator((2, 2)).build_features((1, 28, 3)), "images of 28 x 3 are too small"),
    ],
)
def test_arguments_are_checked(make: Any, match: str):
    with pytest.raises(ValueError, match=match):
        make()
