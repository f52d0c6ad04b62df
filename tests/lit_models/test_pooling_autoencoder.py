import pytest
import torch

from lit_models.networks.pooling import PoolingDecoder, PoolingEncoder
from lit_models.pooling_autoencoder import PoolingAutoencoder


def shapes_through(layers: torch.nn.Sequential, x: torch.Tensor) -> list[tuple[int, ...]]:
    found = []
    for layer in layers:
        x = layer(x)
        found.append(tuple(x.shape[1:]))
    return found


def test_the_spec_figures_are_the_defaults():
    model = PoolingAutoencoder()
    shapes = shapes_through(model.encoder.blocks, torch.rand(2, 1, 28, 28))
    assert shapes[::3] == [(4, 28, 28), (8, 14, 14), (16, 7, 7)]  # convolutions
    assert shapes[2::3] == [(4, 14, 14), (8, 7, 7), (16, 4, 4)]  # pooling
    weights = {name: tuple(p.shape) for name, p in model.named_parameters() if name.endswith("weight")}
    assert weights["encoder.project.weight"] == (100, 16 * 4 * 4)
    assert {name.removeprefix("decoder."): shape for name, shape in weights.items() if "decoder" in name} == {
        "expand.weight": (8 * 14 * 14, 100),
        "refine.weight": (8, 8, 3, 3),
        "enlarge.weight": (4 * 28 * 28, 8 * 14 * 14),
        "paint.weight": (1, 4, 3, 3),
    }


def test_a_block_is_convolution_relu_and_the_largest_of_four():
    encoder, x = PoolingEncoder((1, 7, 7), 3), torch.rand(2, 1, 7, 7)
    maps = torch.nn.functional.conv2d(torch.nn.functional.pad(x, (1, 1, 1, 1)), encoder.blocks[0].weight)
    maps = (maps + encoder.blocks[0].bias[:, None, None]).clamp(min=0)
    by_hand = torch.stack(
        [
            torch.stack([maps[:, :, i : i + 2, j : j + 2].amax(dim=(2, 3)) for j in range(0, 7, 2)], dim=-1)
            for i in range(0, 7, 2)
        ],
        dim=-2,
    )
    assert torch.allclose(encoder.blocks[:3](x), by_hand, atol=1e-6)


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 17, 45), (2, 8, 8)])
def test_other_image_shapes_follow_the_same_rule(shape):
    model, x = PoolingAutoencoder(5, shape), torch.rand(2, *shape)
    assert model.encode(x).shape == (2, 5)
    assert model.reconstruct(x).shape == x.shape


def test_the_decoders_weights_are_found_by_name():
    trained, fresh = PoolingAutoencoder(7), PoolingDecoder((1, 28, 28), 7)
    weights = {k.removeprefix("decoder."): v for k, v in trained.state_dict().items() if k.startswith("decoder.")}
    fresh.load_state_dict(weights)
    codes = torch.randn(3, 7)
    assert torch.equal(fresh(codes).sigmoid(), trained.decode(codes))


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [({"latent_dim": 0}, "latent_dim is 0"), ({"image_shape": (1, 3, 28)}, "too deep for images of 3 x 28")],
)
def test_invalid_shapes_raise_an_error(arguments: dict, complaint: str):
    with pytest.raises(ValueError, match=complaint):
        PoolingAutoencoder(**arguments)
