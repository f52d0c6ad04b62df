"""Gated PixelCNN and causal transformer: what sees what, and sampling with kept features against sampling without."""

import math

import pytest
import torch
from torch import Tensor, nn

from lit_models.common.autoregressive_networks import AutoregressiveNetwork, CausalTransformer, GatedPixelCNN
from studies.benchmarks.autoregressive_sampling import generate_naively

K = 4
CLASSES = 3
WIDE = {"pixelcnn": GatedPixelCNN(16, 4, first_kernel_size=3), "transformer": CausalTransformer(8, 2, 2)}
"""Networks in which each value can see all values before it."""
NETWORKS = [
    pytest.param(network, shape, ordered, id=f"{name}-{shape[0]}-{'levels' if ordered else 'tokens'}")
    for name, network in WIDE.items()
    for shape, ordered in (((3, 4, 3), True), ((2, 4, 3), False), ((1, 5, 4), False))
]


def built(network: AutoregressiveNetwork, shape: tuple[int, int, int], ordered: bool) -> nn.Module:
    """In double precision, with larger weights, so that all that is connected is felt."""
    torch.manual_seed(0)
    made = network.build(shape, K, ordered, CLASSES).double().eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(0, 0.5)
    return made


def in_raster_order(x: Tensor) -> Tensor:
    """N x C x H x W x ... -> N x L x ..., the channels of a pixel one after another."""
    return x.movedim(1, 3).flatten(1, 3)


@pytest.mark.parametrize(("network", "shape", "ordered"), NETWORKS)
def test_a_value_sees_all_values_before_it_and_no_others(network, shape, ordered):
    """One value of each image but the first is changed, so that its logits differ where that value is seen."""
    model, length = built(network, shape, ordered), math.prod(shape)
    values = torch.randint(K, (1, *shape)).repeat(1 + length, 1, 1, 1)
    numbers = in_raster_order(torch.arange(length).view(1, *shape))[0]
    for place, number in enumerate(numbers):
        changed = values[1 + place].view(-1)
        changed[number] = (changed[number] + 1) % K
    with torch.no_grad():
        logits = in_raster_order(model(values, torch.zeros(1 + length, dtype=torch.int64)))
    sees = (logits[1:] - logits[0]).abs().amax(dim=2) > 1e-12  # [changed place, place]
    assert torch.equal(sees, torch.ones(length, length, dtype=torch.bool).triu(1))


@pytest.mark.parametrize("network", WIDE.values(), ids=WIDE)
def test_gradients_reach_back_and_never_forward(network):
    """The same by autograd, from the logits of the middle value to the embedded values."""
    model, shape = built(network, (1, 5, 4), False), (1, 5, 4)
    seen: list[Tensor] = []
    model.embedding.register_forward_hook(lambda module, inputs, output: seen.append(output.detach().requires_grad_()))
    model.embedding.register_forward_hook(lambda module, inputs, output: seen[-1])
    logits = in_raster_order(model(torch.randint(K, (1, *shape)), torch.zeros(1, dtype=torch.int64)))
    (gradient,) = torch.autograd.grad(logits[0, 10].sum(), seen[-1])
    size = gradient.flatten(0, -2).abs().sum(dim=1)
    assert (size[:10] > 0).all() and not size[10:].any()


@pytest.mark.parametrize(("network", "shape", "ordered"), NETWORKS)
def test_kept_features_give_the_samples_of_whole_passes(network, shape, ordered):
    model, labels = built(network, shape, ordered), torch.arange(6) % CLASSES

    def draw(logits: Tensor) -> Tensor:
        return (logits - torch.empty_like(logits).exponential_().log()).argmax(dim=1)

    torch.manual_seed(1)
    made = model.generate(6, labels, draw)
    torch.manual_seed(1)
    assert torch.equal(made, generate_naively(model, shape, 6, labels, draw)) and made.unique().numel() == K


@pytest.mark.parametrize("network", WIDE.values(), ids=WIDE)
def test_a_class_changes_every_logit(network):
    model, values = built(network, (2, 3, 3), True), torch.randint(K, (1, 2, 3, 3)).expand(2, -1, -1, -1)
    with torch.no_grad():
        first, second = model(values, torch.tensor([0, 2]))
    assert (first != second).all()


def test_dropout_is_that_of_training():
    for network in (GatedPixelCNN(6, 1, dropout=0.5), CausalTransformer(8, 1, 2, dropout=0.5)):
        model, values = network.build((1, 4, 4), K, False), torch.randint(K, (2, 1, 4, 4))
        with torch.no_grad():
            assert not torch.equal(model.train()(values), model(values))
            assert torch.equal(model.eval()(values), model(values))


def test_bad_sizes_are_refused():
    for make, complaint in (
        (lambda: GatedPixelCNN(layers=0), "layers 0"),
        (lambda: GatedPixelCNN(kernel_size=4), "give odd numbers"),
        (lambda: GatedPixelCNN(first_kernel_size=1), "at least 3"),
        (lambda: CausalTransformer(width=10, heads=4), "width a multiple of heads"),
        (lambda: CausalTransformer(dropout=1.0), r"dropout in \[0, 1\)"),
    ):
        with pytest.raises(ValueError, match=complaint):
            make()
