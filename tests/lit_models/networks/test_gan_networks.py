"""Networks of adversarial models: shapes, the layers of the papers, and special layers."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from lit_models.common.discriminators import (
    ACGANDiscriminator,
    DCGANDiscriminator,
    Discriminator,
    MLPDiscriminator,
)
from lit_models.common.generators import (
    ACGANGenerator,
    DCGANGenerator,
    Generator,
    LinearGenerator,
    MLPGenerator,
    PoolingGenerator,
)
from lit_models.networks.acgan import ACGANDecoder, ACGANFeatures
from lit_models.networks.dcgan import DCGANDecoder, DCGANFeatures
from lit_models.networks.minibatch_std import MinibatchStd
from lit_models.networks.noise import GaussianNoise
from lit_models.networks.pooling import PoolingDecoder

SHAPES = [(1, 28, 28), (3, 28, 28), (3, 32, 32)]
GENERATORS = [DCGANGenerator(4), ACGANGenerator(), PoolingGenerator(), LinearGenerator(), MLPGenerator((8,))]
DISCRIMINATORS = [
    DCGANDiscriminator(4),
    DCGANDiscriminator(4, norm="layer", minibatch_std=True),
    ACGANDiscriminator(),
    MLPDiscriminator((8,)),
]


def shapes(network: nn.Module, kind: type[nn.Module]) -> list[tuple[int, ...]]:
    return [tuple(m.weight.shape) for m in network.modules() if isinstance(m, kind)]  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("generator", GENERATORS, ids=lambda component: type(component).__name__)
def test_a_generator_makes_images(generator: Generator, shape: tuple[int, int, int]):
    images = generator.build(shape, 7)(10 * torch.randn(5, 7))
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


def test_spectral_norm_is_one():
    discriminator = DCGANDiscriminator(4, norm="none", spectral_norm=True)
    network = discriminator.build_features((1, 28, 28))
    layers = [*network.modules(), *discriminator.build_head(network.out_dim, 1).modules()]
    weighted = [m for m in layers if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(weighted) == 4
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
    ):
        with pytest.raises(ValueError, match="must be|there must"):
            wrong()
