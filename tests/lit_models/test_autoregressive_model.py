"""The autoregressive model: probabilities that sum to one, samples that follow them, and tokens of a tokenizer."""

import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from lit_models import VQVAE, Autoencoder, AutoregressiveModel, CheckpointError, GenerativeModule
from lit_models.common.autoregressive_networks import AutoregressiveNetwork, CausalTransformer, GatedPixelCNN
from lit_models.common.map_networks import MapNetworks
from lit_models.common.quantizers import VectorQuantizer
from tests.helpers import saved
from tests.lit_models.adversaries import adam, batches_of, fitted, weights_of

SHAPE = (1, 8, 8)
NETWORKS = {"pixelcnn": GatedPixelCNN(6, 2, first_kernel_size=3), "transformer": CausalTransformer(8, 2, 2)}


def woken(model: AutoregressiveModel) -> AutoregressiveModel:
    """In double precision, with weights that make the values depend on one another."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.network.parameters():
            parameter.normal_(0, 0.5)
    return model.double().eval()


def all_images(shape: tuple[int, int, int], levels: int) -> Tensor:
    rows = list(itertools.product(range(levels), repeat=math.prod(shape)))
    return torch.tensor(rows, dtype=torch.float64).view(-1, *shape) / (levels - 1)


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
@pytest.mark.parametrize(("shape", "levels"), [((1, 3, 3), 2), ((3, 1, 2), 3)])
def test_the_probabilities_of_all_images_sum_to_one(network: AutoregressiveNetwork, shape, levels: int):
    images = all_images(shape, levels)
    for conditional in (False, True):
        model = woken(AutoregressiveModel(network, levels, conditional=conditional, num_classes=2, image_shape=shape))
        with torch.no_grad():
            assert model.log_prob(images).exp().sum().item() == pytest.approx(1, abs=1e-6)
            labels = torch.ones(len(images), dtype=torch.int64)
            mean = model.loss_terms((images, labels))["nll"]
        assert conditional or mean.item() == pytest.approx(-model.log_prob(images).mean().item(), rel=1e-6)


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_samples_have_the_probabilities_of_log_prob(network: AutoregressiveNetwork):
    """By a chi-squared test of the numbers of each image of 2 x 2 black and white pixels: 15 degrees of freedom."""
    model, n = woken(AutoregressiveModel(network, 2, image_shape=(1, 2, 2))), 4000
    torch.manual_seed(1)
    bits = model.sample(n).flatten(1).long()
    counts = (bits * torch.tensor([8, 4, 2, 1])).sum(dim=1).bincount(minlength=16)
    with torch.no_grad():
        expected = n * model.log_prob(all_images((1, 2, 2), 2)).exp()
    assert ((counts - expected).square() / expected).sum() < 45  # by chance once in 10,000
    assert expected.max() > 1.4 * expected.min()  # the images are not all equally likely


def test_log_prob_of_a_conditional_model_is_of_any_class():
    model = woken(AutoregressiveModel(NETWORKS["pixelcnn"], 3, conditional=True, num_classes=4, image_shape=SHAPE))
    images = torch.rand(3, *SHAPE).double()
    with torch.no_grad():
        of_classes = [math.exp(-model.loss_terms((images[:1], torch.tensor([k])))["nll"].item()) for k in range(4)]
        predicted = model.predict_step((images, torch.zeros(3)), 0)["log_prob"]
        found = model.log_prob(images)[0].exp().item()
    assert found == pytest.approx(sum(of_classes) / 4, rel=1e-4) and len(set(of_classes)) == 4
    assert torch.equal(predicted, model.log_prob(images))


def test_a_pixel_is_rounded_to_its_level_and_back():
    for levels in (2, 5, 256):
        space = AutoregressiveModel(GatedPixelCNN(2, 1), levels, image_shape=SHAPE).space
        images = torch.randint(levels, (3, *SHAPE)) / (levels - 1)
        assert torch.equal(space.images(space.values(images)), images)
        assert torch.equal(space.values(images + 0.49 / (levels - 1)), space.values(images))


def test_bits_per_dimension_are_those_of_eight_bits_only():
    """A network whose logits are all zero gives all values the same probability."""
    for levels, terms in ((256, {"nll": 64 * math.log(256), "bits_per_dim": 8.0}), (16, {"nll": 64 * math.log(16)})):
        model = AutoregressiveModel(GatedPixelCNN(2, 1), levels, image_shape=SHAPE)
        torch.nn.init.zeros_(model.network.head.logits.weight)
        torch.nn.init.zeros_(model.network.head.logits.bias)
        found = model.loss_terms((torch.rand(2, *SHAPE), torch.zeros(2)))
        assert {name: value.item() for name, value in found.items()} == pytest.approx(terms, rel=1e-5)
        assert next(iter(found)) == "nll"


def test_draws_follow_temperature_and_top_k():
    logits, n = torch.tensor([1.0, -0.5, 0.3, 0.9, -2.0]), 20_000
    for temperature, top_k in ((1.0, None), (0.5, None), (2.0, 3), (1.0, 9), (1.0, 1)):
        torch.manual_seed(0)
        model = AutoregressiveModel(NETWORKS["transformer"], 5, temperature=temperature, top_k=top_k, image_shape=SHAPE)
        drawn = model._draw(logits.expand(n, -1)).bincount(minlength=5) / n
        kept = logits.argsort(descending=True)[: top_k or 5]
        expected = torch.zeros(5).index_copy(0, kept, (logits[kept] / temperature).softmax(dim=0))
        assert torch.allclose(drawn, expected, atol=0.015) and not drawn[expected == 0].any()
    model.temperature = 0.0
    assert (model._draw(logits.expand(n, -1)) == 0).all()


def test_a_markov_chain_is_learned():
    """Each value is the one before plus one, with a probability of 0.8, else any; the first is any.

    The likelihood comes close to that of the chain itself, and stays below it.
    """
    length, levels = 8, 4
    step = 0.8 * torch.eye(levels).roll(1, dims=1) + 0.2 / levels

    def chains(n: int) -> Tensor:
        values = [torch.randint(levels, (n,))]
        while len(values) < length:
            values.append(torch.multinomial(step[values[-1]], 1)[:, 0])
        return torch.stack(values, dim=1)

    torch.manual_seed(0)
    entropy = math.log(levels) - (length - 1) * (step[0] * step[0].log()).sum().item()
    model = AutoregressiveModel(CausalTransformer(16, 1, 2), levels, image_shape=(1, 1, length))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(100):
        loss = model.loss_terms((chains(64).view(-1, 1, 1, length) / (levels - 1), torch.zeros(128)))["nll"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    test = chains(4000)
    true = math.log(levels) - step[test[:, :-1], test[:, 1:]].log().sum(dim=1)
    with torch.no_grad():
        nll = -model.log_prob(test.view(-1, 1, 1, length) / (levels - 1))
    assert true.mean().item() == pytest.approx(entropy, rel=0.02)
    assert 0 < (nll - true).mean().item() < 0.1
    made = (model.sample(2000) * (levels - 1)).round().long().flatten(1)
    follows = (made[:, 1:] == (made[:, :-1] + 1) % levels).float().mean().item()
    assert follows == pytest.approx(0.85, abs=0.04)


def tokenizer(shape: tuple[int, int, int] = SHAPE) -> VQVAE:
    torch.manual_seed(0)
    return VQVAE(MapNetworks(1, 4), VectorQuantizer(6, 3), image_shape=shape)


def on_tokens(folder: Path, **options: Any) -> AutoregressiveModel:
    path = saved(tokenizer(), folder / "vqvae.ckpt")
    return AutoregressiveModel(CausalTransformer(8, 1, 2), tokenizer=str(path), image_shape=SHAPE, **options)


def test_tokens_are_those_of_the_tokenizer(tmp_path: Path):
    model, images = on_tokens(tmp_path, optimizer=adam), torch.rand(5, *SHAPE)
    vqvae, tokens = tokenizer().eval(), model.space.values(images)
    assert torch.equal(tokens[:, 0], vqvae.tokenize(images)) and tokens.dtype == torch.int64
    assert torch.equal(model.space.images(tokens), vqvae.detokenize(tokens[:, 0]))
    logits = model.network(tokens)
    by_hand = F.cross_entropy(logits.flatten(0, 3), tokens.flatten(), reduction="none").view(5, -1).sum(dim=1)
    assert torch.allclose(model.log_prob(images), -by_hand) and list(model.loss_terms((images, images))) == ["nll"]
    made = model.sample(3)
    assert made.shape == (3, *SHAPE) and made.min() >= 0 and made.max() <= 1
    assert model.derived_config()["tokenizer.likelihood_scale"] == 0.1


def test_training_turns_images_into_tokens_once_and_leaves_the_tokenizer_alone(tmp_path: Path):
    model = on_tokens(tmp_path, optimizer=adam)
    seen: list[int] = []
    model.space.tokenizer.encoder.network.register_forward_hook(
        lambda module, inputs, output: seen.append(len(inputs[0]))
    )
    images = torch.randint(256, (24, *SHAPE), dtype=torch.uint8)
    before, batches = weights_of(model.space), batches_of(images, 8)
    trainer = fitted(model, batches, max_epochs=3)
    assert sum(seen) == 24
    assert torch.equal(batches.images.long(), tokenizer().eval().tokenize(images / 255))
    assert all(torch.equal(before[name], value) for name, value in model.space.state_dict().items())
    assert not model.space.tokenizer.training and model.network.training
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    (tmp_path / "vqvae.ckpt").unlink()
    loaded = GenerativeModule.load(tmp_path / "model.ckpt")
    assert torch.equal(loaded(images / 255), model.eval()(images / 255))


def test_images_that_change_between_epochs_are_turned_into_tokens_in_each_step(tmp_path: Path):
    model = on_tokens(tmp_path, optimizer=adam)
    batches = batches_of(torch.randint(256, (24, *SHAPE), dtype=torch.uint8), 8)
    batches.augmentation = lambda images, generator: images.flip(3)
    fitted(model, batches, max_epochs=1)
    assert batches.images.dtype == torch.uint8


def test_what_is_not_possible_is_refused(tmp_path: Path):
    network = NETWORKS["transformer"]
    for options, complaint in (
        ({"values": 1}, "values is 1"),
        ({"values": 257}, "from 2"),
        ({"temperature": -1.0}, "temperature is -1.0"),
        ({"top_k": 0}, "top_k 0"),
        ({"ema_decay": 1.0}, "ema_decay 1.0"),
        ({"conditional": True, "num_classes": 1}, "at least 2"),
        ({"values": 4, "tokenizer": "a.ckpt"}, "leave one of them out"),
    ):
        with pytest.raises(ValueError, match=complaint):
            AutoregressiveModel(network, image_shape=SHAPE, **options)
    other = saved(Autoencoder(latent_dim=2, image_shape=(1, 28, 28)), tmp_path / "ae.ckpt")
    large = saved(tokenizer((3, 8, 8)), tmp_path / "large.ckpt")
    for path, complaint in (
        (tmp_path / "none.ckpt", "there is no checkpoint"),
        (other, "holds an Autoencoder, which has no tokens"),
        (large, "has a tokenizer that cannot take images of 1 x 8 x 8"),
    ):
        with pytest.raises(CheckpointError, match=complaint):
            AutoregressiveModel(network, tokenizer=str(path), image_shape=SHAPE)
    assert AutoregressiveModel(network, tokenizer="none", image_shape=SHAPE).space.num_values == 256
    with pytest.raises(ValueError, match="without labels"):
        AutoregressiveModel(network, image_shape=SHAPE).sample(1, label=0)
    with pytest.raises(ValueError, match="there is no class 10"):
        AutoregressiveModel(network, conditional=True, image_shape=SHAPE).sample(1, label=10)
