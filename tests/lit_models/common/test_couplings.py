"""Couplings of images and noise."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lit_models import DDPM, CheckpointError, FlowMatching, LinearAutoencoder
from lit_models.common.couplings import Independent, OptimalTransport, Pairs, Reflow
from lit_models.common.latent_space import LatentSpace, PixelSpace
from lit_models.common.noise_predictors import MLPNoisePredictor
from lit_models.common.ode_samplers import Euler, Midpoint
from lit_models.common.samplers import DDIM, Ancestral, AnnealedLangevin
from tests.helpers import saved

SHAPE = (1, 2, 2)
CPU = torch.device("cpu")


def images(n: int) -> Tensor:
    return 2 * torch.rand(n, *SHAPE) - 1


# Optimal transport.


def test_an_assignment_is_the_best_of_all_permutations():
    torch.manual_seed(0)
    for _ in range(20):
        clean, noise, _ = OptimalTransport().draw(images(5), None, True)
        costs = (clean[:, None] - noise[None]).square().flatten(2).sum(dim=2)
        least = min(sum(costs[i, j] for i, j in enumerate(order)) for order in itertools.permutations(range(5)))
        torch.testing.assert_close(costs.trace(), least)


@pytest.mark.parametrize("classes", [None, 3])
def test_images_stay_and_noise_changes_places_within_its_class(classes: int | None):
    x, labels = images(30), None if classes is None else torch.arange(30) % classes
    torch.manual_seed(1)
    drawn = Independent().draw(x, labels, True).noise
    torch.manual_seed(1)
    clean, noise, kept = OptimalTransport().draw(x, labels, True)
    assert clean is x and kept is labels and not torch.equal(noise, drawn)
    for group in [torch.arange(30)] if labels is None else [labels == k for k in range(3)]:
        assert torch.equal(noise[group].flatten(1).unique(dim=0), drawn[group].flatten(1).unique(dim=0))
    assert (clean - noise).square().sum() < (clean - drawn).square().sum()


# Reflow.


def first_model(**options: Any) -> FlowMatching:
    torch.manual_seed(0)
    given = {"network": MLPNoisePredictor((8,)), "sampler": Midpoint(2), "image_shape": SHAPE, "num_classes": 3}
    return FlowMatching(**{**given, **options}).eval()


def pairs_of(path: Path, num_pairs: int = 30, process: tuple[int, int] = (0, 1), **options: Any) -> Pairs:
    coupling = Reflow(str(path), num_pairs, **options)
    coupling.prepare(PixelSpace(SHAPE), None)
    coupling.start(CPU, *process)
    assert coupling._pairs is not None
    return coupling._pairs


@pytest.mark.parametrize("sampler", [None, Euler(3)])
def test_pairs_are_samples_of_the_first_model(sampler: Euler | None, tmp_path: Path):
    model = first_model()
    clean, noise, labels = pairs_of(saved(model, tmp_path / "first.ckpt"), sampler=sampler)
    assert labels is None and noise.std().item() == pytest.approx(1, abs=0.3)
    torch.testing.assert_close(model.sample_with(sampler or Midpoint(2), noise), PixelSpace(SHAPE).decode(clean))


def test_pairs_of_a_model_with_classes_are_of_their_classes(tmp_path: Path):
    model = first_model(conditional=True)
    path = saved(model, tmp_path / "first.ckpt")
    clean, noise, labels = pairs_of(path)
    assert labels is not None and set(labels.tolist()) == {0, 1, 2}
    torch.testing.assert_close(model.sample_with(Midpoint(2), noise, labels), PixelSpace(SHAPE).decode(clean))


def test_a_diffusion_model_can_be_the_first(tmp_path: Path):
    torch.manual_seed(0)
    model = DDPM(MLPNoisePredictor((8,)), num_steps=30, sampler=DDIM(3), image_shape=SHAPE).eval()
    clean, noise, _ = pairs_of(saved(model, tmp_path / "ddpm.ckpt"))
    spread = (model.process.a[-1] ** 2 + model.process.s[-1] ** 2) ** 0.5
    torch.testing.assert_close(model.sample_with(DDIM(3), spread * noise), PixelSpace(SHAPE).decode(clean))


def test_pairs_are_equal_each_time_and_others_in_each_process(tmp_path: Path):
    path = saved(first_model(), tmp_path / "first.ckpt")
    torch.manual_seed(5)
    found = pairs_of(path)
    after = torch.rand(1)
    torch.manual_seed(6)
    assert torch.equal(pairs_of(path).clean, found.clean) and torch.equal(pairs_of(path).noise, found.noise)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(1), after), "making pairs took random numbers of the training"
    first, second = (pairs_of(path, process=(rank, 2)) for rank in range(2))
    assert len(first.clean) == len(second.clean) == 15 and not torch.equal(first.noise, second.noise)
    assert not torch.equal(pairs_of(path, seed=7).noise, found.noise)


def test_training_and_validation_draw_other_pairs(tmp_path: Path):
    coupling = Reflow(str(saved(first_model(), tmp_path / "first.ckpt")), 30)
    coupling.prepare(PixelSpace(SHAPE), None)
    coupling.start(CPU, 0, 1)
    held = coupling._pairs
    assert held is not None
    found = {training: coupling.draw(images(500), None, training) for training in (True, False)}
    for training, kept in ((True, held.noise[:27]), (False, held.noise[27:])):
        drawn = found[training]
        assert drawn is not None and torch.equal(drawn.noise.flatten(1).unique(dim=0), kept.flatten(1).unique(dim=0))
        rows = [(held.noise == noise).all(dim=(1, 2, 3)).nonzero().item() for noise in drawn.noise]
        assert torch.equal(held.clean[rows], drawn.clean)
    coupling.stop()
    assert coupling.draw(images(5), None, False) is None


def test_codes_of_a_latent_model_are_those_of_the_first_one(tmp_path: Path):
    autoencoder = saved(LinearAutoencoder(3, image_shape=SHAPE), tmp_path / "autoencoder.ckpt")
    first, second = (first_model(autoencoder=str(autoencoder)) for _ in range(2))
    assert isinstance(first.space, LatentSpace) and isinstance(second.space, LatentSpace)
    first.space.set_scale(first.space.codes(images(20)))
    second.coupling = Reflow(str(saved(first, tmp_path / "first.ckpt")), 30)
    second.prepare_fit()
    assert second.space.scaled and torch.equal(second.space.scale, first.space.scale)
    second.coupling.start(CPU, 0, 1)
    pairs = second.coupling.draw(images(5), None, True)
    assert pairs is not None and pairs.clean.shape == (5, 3, 1, 1)
    torch.testing.assert_close(second.space.decode(pairs.clean), first.sample_with(Midpoint(2), pairs.noise))
    other = saved(LinearAutoencoder(2, image_shape=SHAPE), tmp_path / "other.ckpt")
    for model in (first_model(), first_model(autoencoder=str(other))):
        with pytest.raises(CheckpointError, match="give a first model of the same data and autoencoder"):
            Reflow(str(tmp_path / "first.ckpt")).prepare(model.space, None)


def test_first_models_that_do_not_fit_raise_an_error(tmp_path: Path):
    plain = saved(first_model(), tmp_path / "plain.ckpt")
    other = saved(LinearAutoencoder(2, image_shape=SHAPE), tmp_path / "other.ckpt")
    for path, shape, classes, options, message in (
        (tmp_path / "gone.ckpt", SHAPE, None, {}, "there is no checkpoint"),
        (other, SHAPE, None, {}, "holds a LinearAutoencoder, which makes no images from noise"),
        (
            plain,
            (1, 4, 4),
            None,
            {},
            "makes x_0 in a PixelSpace of 1 x 2 x 2, and .* in a PixelSpace of 1 x 4 x 4",
        ),
        (plain, SHAPE, 3, {}, "has no classes, and the model 3: give a first model of the same classes"),
        (plain, SHAPE, None, {"sampler": Ancestral()}, "no end of noise levels: give the sampler's steps"),
        (plain, SHAPE, None, {"sampler": AnnealedLangevin(2)}, "gives other images from the same noise each time"),
    ):
        with pytest.raises(CheckpointError, match=message):
            Reflow(str(path), **options).prepare(PixelSpace(shape), classes)
    with pytest.raises(ValueError, match="num_pairs is 9; it must be at least 10"):
        Reflow(str(plain), 9)
