import pytest
import torch

from lit_models import Autoencoder
from lit_models.networks.conv import StridedDecoder, StridedEncoder, growing_channels, strided_sizes


@pytest.mark.parametrize("kernel_size", [2, 3, 4, 5, 7])
@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (2, 17, 45)])
def test_the_decoder_is_the_encoders_mirror_image(shape, depth: int, kernel_size: int):
    channels = growing_channels(depth, 2, (28, 28))
    encoder = StridedEncoder(shape, channels, kernel_size, 8, 4)
    decoder = StridedDecoder(shape, channels, kernel_size, 8, 4)
    sizes, x = [], torch.rand(2, *shape)
    for layer in encoder.convolutions:
        x = layer(x)
        sizes.append(x.shape[1:])
    mirrored, y = [], decoder.head(torch.rand(2, 4)).unflatten(1, decoder.smallest)
    for layer in decoder.convolutions:
        mirrored.append(y.shape[1:])
        y = layer(y)
    assert y.shape[1:] == shape
    assert sizes[::2] == mirrored[::2][::-1]


def test_channels_grow_by_the_factor():
    assert growing_channels(3, 8, (28, 28)) == growing_channels(None, 8, (28, 28)) == [8, 64, 512]


def test_the_spec_figures_are_the_defaults():
    model = Autoencoder()
    shapes = [tuple(p.shape) for n, p in model.encoder.named_parameters() if n.endswith("weight")]
    assert shapes == [(8, 1, 3, 3), (64, 8, 3, 3), (512, 64, 3, 3), (128, 512 * 16), (20, 128)]
    assert not any(isinstance(m, torch.nn.MaxPool2d) for m in model.modules())
    assert isinstance(model.encoder.head[-1], torch.nn.Linear)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"depth": 6}, "depth 6 is too deep for images of 28 x 28: at most 5"),
        ({"depth": 0}, "depth is 0"),
        ({"latent_dim": 0}, "latent_dim is 0"),
        ({"kernel_size": 1}, "kernel_size is 1"),
        ({"channel_factor": 0}, "channel_factor 0"),
    ],
)
def test_invalid_shapes_raise_an_error(arguments: dict, complaint: str):
    with pytest.raises(ValueError, match=complaint):
        Autoencoder(**arguments)


def test_sizes_are_those_that_torch_computes():
    x = torch.rand(1, 1, 30, 41)
    for size in strided_sizes((30, 41), 4, 5)[1:]:
        x = torch.nn.functional.conv2d(x, torch.ones(1, 1, 5, 5), stride=2, padding=2)
        assert tuple(x.shape[2:]) == size


def test_loss_is_the_mean_squared_error_over_all_pixels():
    model, x = Autoencoder(3, 1, 2), torch.rand(4, 1, 28, 28)
    by_hand = ((model.reconstruct(x) - x) ** 2).sum() / x.numel()
    assert torch.allclose(model.loss_terms((x, None))["mse"], by_hand)
