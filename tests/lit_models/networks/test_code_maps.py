import pytest
import torch

from lit_models import VAE, WAE, Autoencoder
from lit_models.common.capabilities import HasCodeMaps
from lit_models.common.latent_distributions import GumbelSoftmax
from lit_models.common.map_networks import MapNetworks


@pytest.mark.parametrize(
    ("shape", "depth", "size"),
    [((1, 28, 28), 2, (7, 7)), ((3, 64, 64), 2, (16, 16)), ((2, 25, 18), 2, (7, 5)), ((1, 9, 6), 3, (2, 1))],
)
def test_sides_are_halved_and_rounded_up(shape: tuple[int, int, int], depth: int, size: tuple[int, int]):
    networks = MapNetworks(depth, 4, 8)
    dim = 3 * size[0] * size[1]
    maps = []
    encoder, decoder = networks.build_encoder(shape, dim), networks.build_decoder(shape, dim)
    encoder.head.register_forward_hook(lambda layer, inputs, output: maps.append(output))
    codes = encoder(torch.rand(2, *shape))
    assert networks.code_shape(shape, dim) == maps[0].shape[1:] == (3, *size)
    assert torch.equal(codes.view(2, 3, *size), maps[0])  # channels first, then rows
    assert decoder(codes).shape == (2, *shape)


def test_the_means_of_a_vae_are_the_first_half_of_the_channels():
    model = VAE(3 * 49, networks=MapNetworks(2, 4), importance_samples=2).eval()
    maps = []
    model.encoder.networks[0].head.register_forward_hook(lambda layer, inputs, output: maps.append(output))
    codes = model.encode(torch.rand(2, 1, 28, 28))
    assert model.code_shape == (3, 7, 7) and maps[0].shape[1] == 6
    assert torch.equal(codes.view(2, 3, 7, 7), maps[0][:, :3])
    assert model.log_prob(torch.rand(2, 1, 28, 28)).isfinite().all()


def test_only_models_of_maps_say_so():
    assert isinstance(Autoencoder(32, 3, 4, hidden_dim=None), HasCodeMaps)
    assert isinstance(WAE(98, MapNetworks(2, 4)), HasCodeMaps)
    assert not isinstance(Autoencoder(32, 3, 4), HasCodeMaps)
    assert not isinstance(VAE(98), HasCodeMaps)


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: VAE(20, networks=MapNetworks(2)), "a code of 20 numbers is no map of 7 x 7: .* multiple of 49, such"),
        (lambda: VAE(128, networks=MapNetworks(), image_shape=(3, 64, 64)), "code of 128 .* multiple of 256"),
        (lambda: MapNetworks().build_decoder((1, 28, 28), 50), "code of 50 numbers is no map of 7 x 7"),
        (lambda: Autoencoder(20, 2, hidden_dim=None), "a code of 20 numbers is no map of 7 x 7"),
        (lambda: MapNetworks(6).code_shape((1, 28, 28), 8), "depth 6 is too deep for images of 28 x 28"),
        (lambda: MapNetworks(blocks=0), "blocks is 0"),
        (lambda: MapNetworks(depth=0), "depth 0"),
        (lambda: VAE(49, GumbelSoftmax(2), MapNetworks(2)), "maps hold real numbers"),
    ],
)
def test_what_is_no_map_is_refused(make, complaint: str):
    with pytest.raises(ValueError, match=complaint):
        make()
