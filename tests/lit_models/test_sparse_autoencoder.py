import pytest
import torch

from lit_models.common.encoder_decoders import StridedNetworks
from lit_models.losses.penalty import l1_norm
from lit_models.networks.one_layer import DictionaryDecoder
from lit_models.sparse_autoencoder import SparseAutoencoder


def test_the_penalty_is_the_sum_of_sizes_of_each_code():
    codes = torch.tensor([[1.0, -2.0, 0.0], [0.5, 0.25, -0.25]])
    assert l1_norm(codes).tolist() == [3.0, 1.0]


def test_loss_is_squared_error_and_penalty_summed_over_an_image_and_averaged_over_images():
    model, x = SparseAutoencoder(7, penalty_weight=0.3), torch.rand(5, 1, 28, 28)
    terms = {name: value.item() for name, value in model.loss_terms((x, None)).items()}
    codes, again = model.encode(x).detach(), model.reconstruct(x).detach()
    by_hand = sum(((a - b) ** 2).sum() + 0.3 * h.abs().sum() for a, b, h in zip(x, again, codes, strict=True)) / 5
    assert terms["loss"] == pytest.approx(by_hand.item(), rel=1e-5)
    assert terms["mse"] == pytest.approx(((x - again) ** 2).mean().item(), rel=1e-5)
    assert terms["active"] == pytest.approx(codes.count_nonzero().item() / codes.numel())


def test_codes_are_zero_or_positive_whatever_the_networks():
    for networks in (None, StridedNetworks(2, 2)):
        codes = SparseAutoencoder(32, networks=networks).encode(torch.rand(50, 1, 28, 28))
        assert (codes >= 0).all() and (codes == 0).any() and (codes > 0).any()


def test_an_image_is_a_sum_of_atoms_of_unit_norm():
    decoder = DictionaryDecoder(3, (1, 2, 5))
    torch.nn.init.normal_(decoder.bias)
    atoms = [decoder(row[None]).flatten() - decoder.bias for row in torch.eye(3)]
    assert [atom.norm().item() for atom in atoms] == pytest.approx([1, 1, 1], rel=1e-5)
    mixed = decoder(torch.tensor([[2.0, 0.0, 0.5]])).flatten()
    assert torch.allclose(mixed, 2 * atoms[0] + 0.5 * atoms[2] + decoder.bias, atol=1e-6)


def test_a_heavier_penalty_makes_codes_sparser():
    torch.manual_seed(0)
    x = torch.rand(64, 1, 8, 8) * (torch.rand(64, 1, 8, 8) < 0.2)
    penalties = []
    for weight in (0.0, 1.0):
        torch.manual_seed(1)
        model = SparseAutoencoder(32, weight, image_shape=(1, 8, 8))
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
        for _ in range(150):
            optimizer.zero_grad()
            terms = model.loss_terms((x, None))
            terms["loss"].backward()
            optimizer.step()
        penalties.append((terms["penalty"].item(), terms["active"].item()))
    assert penalties[1][0] < 0.5 * penalties[0][0] and penalties[1][1] < 0.7 * penalties[0][1]


@pytest.mark.parametrize("arguments", [{"latent_dim": 0}, {"penalty_weight": -1.0}])
def test_invalid_arguments_raise_an_error(arguments: dict):
    with pytest.raises(ValueError, match="latent_dim is"):
        SparseAutoencoder(**arguments)
