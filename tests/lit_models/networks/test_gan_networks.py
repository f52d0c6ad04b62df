"""Networks of adversarial models: shapes, the layers of the papers, and special layers."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lit_models.common.discriminators import (
    ACGANDiscriminator,
    DCGANDiscriminator,
    Discriminator,
    MLPDiscriminator,
    R3GANDiscriminator,
    ResNetDiscriminator,
)
from lit_models.common.encoder_decoders import ResidualNetworks
from lit_models.common.generators import (
    ACGANGenerator,
    DCGANGenerator,
    Generator,
    LinearGenerator,
    MLPGenerator,
    PoolingGenerator,
    R3GANGenerator,
    ResNetGenerator,
)
from lit_models.networks.acgan import ACGANDecoder, ACGANFeatures
from lit_models.networks.dcgan import DCGANDecoder, DCGANFeatures
from lit_models.networks.minibatch_std import MinibatchStd
from lit_models.networks.noise import GaussianNoise
from lit_models.networks.pooling import PoolingDecoder
from lit_models.networks.r3gan import R3GANDecoder, R3GANFeatures, ResidualBlock, Resize
from lit_models.networks.resnet_gan import DownBlock, ResNetDecoder, ResNetFeatures, UpBlock

SHAPES = [(1, 28, 28), (3, 28, 28), (3, 32, 32)]
GENERATORS = [
    DCGANGenerator(4),
    ResNetGenerator(4, 8),
    R3GANGenerator(4, 8),
    ACGANGenerator(),
    PoolingGenerator(),
    LinearGenerator(),
    MLPGenerator((8,)),
]
DISCRIMINATORS = [
    DCGANDiscriminator(4),
    DCGANDiscriminator(4, norm="layer", minibatch_std=True),
    ResNetDiscriminator(4, 8, minibatch_std=True),
    R3GANDiscriminator(4, 8, blocks=2, patch_size=2),
    ACGANDiscriminator(),
    MLPDiscriminator((8,)),
]


def shapes(network: nn.Module, kind: type[nn.Module]) -> list[tuple[int, ...]]:
    return [tuple(m.weight.shape) for m in network.modules() if isinstance(m, kind)]  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("generator", GENERATORS, ids=lambda component: type(component).__name__)
def test_a_generator_makes_images(generator: Generator, shape: tuple[int, int, int]):
    images = generator.build(shape, 7).eval()(10 * torch.randn(5, 7))
    assert images.shape == (5, *shape) and images.min() >= 0 and images.max() <= 1


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("discriminator", DISCRIMINATORS, ids=lambda component: type(component).__name__)
def test_a_discriminator_makes_features(discriminator: Discriminator, shape: tuple[int, int, int]):
    network = discriminator.build_features(shape)
    features = network(torch.rand(6, *shape))
    assert features.shape == (6, network.out_dim)
    assert discriminator.build_head(network.out_dim, 3)(features).shape == (6, 3)


def test_dcgan_has_the_papers_layers():
    """64 x 64 with 128 channels: 4 x 4 x 1024, 512, 256, 128, 3 (Radford et al. 2015, figure 1)."""
    up = DCGANDecoder((3, 64, 64), 100, 128, 4)
    assert shapes(up, nn.Linear) == [(1024 * 4 * 4, 100)]
    assert shapes(up, nn.ConvTranspose2d) == [(1024, 512, 4, 4), (512, 256, 4, 4), (256, 128, 4, 4), (128, 3, 4, 4)]
    assert shapes(up, nn.BatchNorm2d) == [(1024,), (512,), (256,), (128,)]  # and none at the output
    down = DCGANFeatures((3, 64, 64), 64, 4)
    assert shapes(down, nn.Conv2d) == [(64, 3, 4, 4), (128, 64, 4, 4), (256, 128, 4, 4), (512, 256, 4, 4)]
    assert shapes(down, nn.BatchNorm2d) == [(128,), (256,), (512,)]  # and none at the input
    assert not any(isinstance(m, nn.Linear | nn.MaxPool2d | nn.AvgPool2d) for m in down.modules())
    assert {m.negative_slope for m in down.modules() if isinstance(m, nn.LeakyReLU)} == {0.2}


def test_dcgan_has_small_initial_weights():
    torch.manual_seed(0)
    for network in (
        DCGANDecoder((1, 28, 28), 100, 64, 2),
        DCGANFeatures((1, 28, 28), 64, 2),
        ACGANDecoder((3, 32, 32), 110),
    ):
        for module in network.modules():
            if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
                # The standard deviation of the smallest, 1,024 weights, is off by 2 % on average; 5 of those.
                assert module.weight.std().item() == pytest.approx(0.02, rel=0.12)
                assert module.bias is None or not module.bias.any()


def test_an_image_that_is_too_small_is_an_error():
    with pytest.raises(ValueError, match="depth 4 is too deep for images of 8 x 8: at most 3 fit"):
        DCGANGenerator(depth=4).build((1, 8, 8), 10)


PAPERS_RESNETS = {  # Miyato et al. 2018, tables 3 to 5
    "CIFAR-10": (32, (256, 256, 3), [256] * 4, (128, 128, 2, 2), [128] * 4),
    "STL-10": (48, (64, 512, 3), [512, 256, 128, 64], (64, 1024, 4, 1), [64, 128, 256, 512, 1024]),
    "ImageNet": (
        128,
        (64, 1024, 5),
        [1024, 1024, 512, 256, 128, 64],
        (64, 1024, 5, 1),
        [64, 128, 256, 512, 1024, 1024],
    ),
}
"""Side of the images; options of the generator and its maps' channels; the same of the discriminator."""


@pytest.mark.parametrize("name", PAPERS_RESNETS)
def test_resnets_have_the_papers_layers(name: str):
    side, up_options, up_widths, down_options, down_widths = PAPERS_RESNETS[name]
    with torch.device("meta"):
        up = ResNetDecoder((3, side, side), 128, *up_options)
        down = ResNetFeatures((3, side, side), *down_options, "none", False, False)
    assert shapes(up, nn.Linear) == [(up_widths[0] * (side // 2 ** up_options[2]) ** 2, 128)]
    expected = [shape for a, b in itertools.pairwise(up_widths) for shape in ((b, a, 3, 3), (b, b, 3, 3), (b, a, 1, 1))]
    assert shapes(up, nn.Conv2d) == [*expected, (3, up_widths[-1], 3, 3)]
    expected = [(down_widths[0], 3, 3, 3), (down_widths[0], down_widths[0], 3, 3), (down_widths[0], 3, 1, 1)]
    for level, (a, b) in enumerate(itertools.pairwise(down_widths), start=1):
        expected += [(a, a, 3, 3), (b, a, 3, 3)] + [(b, a, 1, 1)] * (level < down_options[2] or a != b)
    assert shapes(down, nn.Conv2d) == expected


def test_resnet_blocks_by_formula():
    """Each as in the papers: the skip connection upsamples before its convolution, or pools after it."""
    torch.manual_seed(0)
    x = torch.randn(4, 3, 7, 7)
    for size in ((15, 14), (14, 14)):
        block = UpBlock(3, 5, size)
        h = F.interpolate(F.batch_norm(x, None, None, training=True).relu(), size)
        h = F.batch_norm(F.conv2d(h, block.residual[2].weight, padding=1), None, None, training=True).relu()
        expected = F.conv2d(h, block.residual[5].weight, padding=1)
        expected += F.conv2d(F.interpolate(x, size), block.skip[0].weight)
        torch.testing.assert_close(block(x), expected)

    block = DownBlock(3, 5, True, "none")
    conv_1, conv_2, skip = (module for module in block.modules() if isinstance(module, nn.Conv2d))
    expected = conv_2(conv_1(x.relu()).relu()) + skip(x)
    torch.testing.assert_close(block(x), F.avg_pool2d(expected, 2))
    assert torch.equal(DownBlock(3, 3, False, "none").skip(x), x)
    for convolution, bound in ((conv_2, (2 * 6 / (9 * (3 + 5))) ** 0.5), (skip, (6 / (3 + 5)) ** 0.5)):  # Glorot's
        assert 0.8 * bound < convolution.weight.abs().max() <= bound and not convolution.bias.any()


def test_r3gan_has_the_papers_layers():
    """CIFAR-10: four sizes of 768 channels, two blocks each, expansion 2, groups of 16 channels (Huang et al. 2025)."""
    block = [(1536, 768, 1, 1), (1536, 16, 3, 3), (768, 1536, 1, 1)]
    with torch.device("meta"):
        up = R3GANDecoder((3, 32, 32), 64, 768, 768, 3, 2)
        down = R3GANFeatures((3, 32, 32), 768, 768, 3, 2)
    assert up.basis.shape == (768, 4, 4) and shapes(up, nn.Linear) == [(768, 64)]
    assert shapes(up, nn.Conv2d) == [*block * 8, (3, 768, 1, 1)]
    assert shapes(down, nn.Conv2d) == [(768, 3, 1, 1), *block * 8, (768, 1, 4, 4)] and down.out_dim == 768
    assert [m.groups for m in down.modules() if isinstance(m, nn.Conv2d)][2::3] == [96] * 8 and down.basis.groups == 768
    assert R3GANDiscriminator(8, 8).build((1, 28, 28)).head.bias is None


def test_an_r3gan_block_starts_as_the_identity():
    """The last weights are 0; the others keep the variance but for blocks^(-1/4) each (Zhang et al. 2019)."""
    torch.manual_seed(0)
    block, x = ResidualBlock(64, blocks=16), torch.randn(8, 64, 14, 14)
    first, slope, second, _, last = block.layers
    assert torch.equal(block(x), x) and not last.weight.any() and last.bias is None
    for layer, fan_in in ((first, 64), (second, 16 * 9)):
        assert layer.weight.std().item() == pytest.approx((2 / 1.04 / fan_in) ** 0.5 / 2, rel=0.02)
        assert not layer.bias.any()
    hidden = slope(first(x))
    assert hidden.square().mean().item() == pytest.approx(1 / 4, rel=0.1)
    with torch.no_grad():
        last.weight.normal_()
    torch.testing.assert_close(block(x), x + last(F.leaky_relu(second(F.leaky_relu(first(x), 0.2)), 0.2)))


def test_r3gan_resizes_in_both_directions():
    """Halving takes the mean of 2 x 2 pixels, and a linear ramp stays one inside when the size doubles."""
    ramp = torch.arange(8.0).expand(1, 1, 8, 8)
    half = Resize(1, 1, (4, 4), up=False)(ramp)
    torch.testing.assert_close(half, F.avg_pool2d(ramp, 2))
    torch.testing.assert_close(Resize(1, 1, (8, 8), up=True)(half)[..., 1:-1], ramp[..., 1:-1])
    odd = Resize(1, 1, (4, 4), up=False)(ramp[..., :7, :7])
    torch.testing.assert_close(odd[0, 0, 0], torch.tensor([0.5, 2.5, 4.5, 6.0]))


def test_an_r3gan_generator_is_linear_in_training_and_clips_in_evaluation():
    """A discriminator that saw clipped images could not push pixels back that are far beyond the range."""
    torch.manual_seed(0)
    network = R3GANGenerator(4, 8, patch_size=2).build((1, 28, 28), 5)
    codes = 5 * torch.randn(3, 5)
    seen = network.train()(codes)
    assert seen.min() < -0.1 and seen.max() > 1.1
    torch.testing.assert_close(network.eval()(codes), seen.clamp(0, 1))
    with pytest.raises(ValueError, match="images of 27 x 28 cannot be cut into patches of 2 x 2"):
        R3GANDiscriminator(4, 8, patch_size=2).build((1, 27, 28))
    with pytest.raises(ValueError, match="depth 6 is too deep for images of 28 x 28: at most 5 fit"):
        R3GANDiscriminator(4, 8, depth=6).build((1, 28, 28))


def test_acgan_has_the_papers_layers():
    """Odena et al. 2016, appendix A, for CIFAR-10."""
    up, down = ACGANDecoder((3, 32, 32), 110), ACGANFeatures((3, 32, 32), 0.0, 0.5)
    assert shapes(up, nn.Linear) == [(384 * 4 * 4, 110)]
    assert shapes(up, nn.ConvTranspose2d) == [(384, 192, 5, 5), (192, 96, 5, 5), (96, 3, 5, 5)]
    assert shapes(up, nn.BatchNorm2d) == [(192,), (96,)]
    channels = [3, 16, 32, 64, 128, 256, 512]
    assert shapes(down, nn.Conv2d) == [(b, a, 3, 3) for a, b in itertools.pairwise(channels)]
    assert [m.stride[0] for m in down.modules() if isinstance(m, nn.Conv2d)] == [2, 1, 2, 1, 2, 1]
    assert shapes(down, nn.BatchNorm2d) == [(32,), (64,), (128,), (256,), (512,)]
    assert down.out_dim == 512 * 4 * 4
    assert [m.p for m in down.modules() if isinstance(m, nn.Dropout)] == [0.5] * 6


def test_the_pooling_generator_is_the_autoencoders_decoder():
    torch.manual_seed(0)
    network = PoolingGenerator().build((1, 28, 28), 100)
    decoder = PoolingDecoder((1, 28, 28), 100)
    decoder.load_state_dict(network.state_dict())
    z = torch.randn(3, 100)
    torch.testing.assert_close(network(z), decoder(z).sigmoid())


def test_minibatch_std_by_numpy():
    maps = torch.randn(8, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    out = MinibatchStd(group=4)(maps)
    assert out.shape == (8, 4, 2, 2) and torch.equal(out[:, :3], maps)
    for start in (0, 4):
        expected = maps[start : start + 4].numpy().std(axis=0).mean()
        np.testing.assert_allclose(out[start : start + 4, 3].numpy(), expected, rtol=1e-4)
    assert MinibatchStd()(maps[:1].expand(4, -1, -1, -1))[:, 3].max() < 1e-3  # equal images
    assert MinibatchStd()(maps[:6]).shape == (6, 4, 2, 2)  # not a multiple of the group


def test_noise_is_added_in_training_only():
    torch.manual_seed(0)
    noise, x = GaussianNoise(0.2), torch.zeros(100_000)
    assert noise(x).std().item() == pytest.approx(0.2, rel=0.01)  # its standard error is 0.2 %
    assert torch.equal(noise.eval()(x), x)


@pytest.mark.parametrize(
    ("discriminator", "layers"),
    [(DCGANDiscriminator(4, norm="none", spectral_norm=True), 4), (ResNetDiscriminator(4, 8), 12)],
)
def test_spectral_norm_is_one(discriminator: Discriminator, layers: int):
    network = discriminator.build_features((1, 28, 28))
    modules = [*network.modules(), *discriminator.build_head(network.out_dim, 1).modules()]
    weighted = [m for m in modules if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(weighted) == layers
    for layer in weighted:
        for _ in range(50):  # in training each access is a power iteration
            weight = layer.weight
        assert torch.linalg.matrix_norm(weight.flatten(1), 2).item() == pytest.approx(1.0, abs=0.02)


def test_arguments_are_checked():
    for wrong in (
        lambda: DCGANGenerator(0),
        lambda: DCGANDiscriminator(noise_std=-1.0),
        lambda: ACGANDiscriminator(dropout=1.0),
        lambda: MLPGenerator((0,)),
        lambda: MLPDiscriminator(()),
        lambda: ResNetGenerator(depth=0),
        lambda: ResNetGenerator(8, 4),
        lambda: ResNetDiscriminator(last_blocks=-1),
        lambda: R3GANGenerator(blocks=0),
        lambda: R3GANDiscriminator(patch_size=0),
        lambda: ResidualNetworks(blocks=0),
    ):
        with pytest.raises(ValueError, match="must be|there must"):
            wrong()
