from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from genlab.callbacks.latent_arithmetic import LatentArithmetic
from genlab.callbacks.sample_quality import SampleQuality
from genlab.evaluation.latent_arithmetic import add_codes
from genlab.media import image_grid
from lit_models.common.priors import Uniform
from tests.genlab.callbacks.toy_generators import ClassGenerator, Generator, after_test
from tests.genlab.callbacks.toy_models import Painter, contains, picture

CLASSES = ("red", "green", "blue", "black")


def colours(codes: Tensor) -> Tensor:
    return codes[:, :3].sigmoid()


def classifier(per_channel: bool = False) -> Any:
    """Predicts the class of the strongest channel, or black if none is strong."""

    def probabilities(images: Tensor) -> Tensor:
        logits = 20 * images.mean(dim=(2, 3))
        return torch.cat([logits, torch.full((len(images), 1), 9.0)], dim=1).softmax(dim=1)

    made = SimpleNamespace(per_channel=per_channel, probabilities=probabilities, to=lambda device: None)
    made.modes = lambda images: probabilities(images).argmax(dim=1)
    return made


def quality(found: Any) -> SampleQuality:
    made = SampleQuality()
    made.evaluation_classifier = found
    return made


def drawn_titles(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    titles: list[str] = []

    def framed(grid: Any, title: str, **more: Any) -> Any:
        titles.append(title)
        return grid

    monkeypatch.setattr("genlab.callbacks.latent_arithmetic.framed", framed)
    return titles


def test_titles_name_the_predicted_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    titles = drawn_titles(monkeypatch)
    state = torch.get_rng_state()
    running = after_test(tmp_path, quality(classifier()), classes=CLASSES)
    LatentArithmetic([(0, 1, 1), (0, 3, 2), (0, 9, 1)]).on_test_end(running, Generator(3, colours))  # type: ignore[arg-type]
    assert torch.equal(torch.get_rng_state(), state)
    assert len(titles) == 2  # there is no class 9
    assert titles[0].startswith("red - green + green: the classifier predicts red, as for ")
    assert titles[1].startswith("red - black + blue: the classifier predicts ")
    drawn = picture(tmp_path, "arithmetic.png")
    assert drawn.shape[:2] == (2 * 2 * (4 * 6 + 2), 2 * (7 * 6 + 2))
    first = drawn[6, 6].astype(int)
    assert first[0] > 200 and first[0] > first[1:].max()  # the first of the red samples


def test_picture_shows_the_decoded_codes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    results: list[Any] = []
    monkeypatch.setattr(
        "genlab.callbacks.latent_arithmetic.add_codes",
        lambda *given: results.append(add_codes(*given)) or results[-1],
    )
    model = Generator(3, colours, Uniform())
    LatentArithmetic([(0, 1, 2)]).on_test_end(after_test(tmp_path, quality(classifier()), classes=CLASSES), model)  # type: ignore[arg-type]
    white = torch.ones(1, 3, 4, 4)
    rows = []
    for row in range(3):
        rows += [
            model.decode(results[0].exemplars[:, row]),
            white,
            model.decode(results[0].codes[3 * row : 3 * row + 3]),
        ]
    rows += [model.decode(results[0].exemplars.mean(dim=1)), white.expand(4, -1, -1, -1)]
    assert contains(picture(tmp_path, "arithmetic.png"), np.asarray(image_grid(torch.cat(rows), 7)))


def test_first_three_classes_are_used_without_digits(tmp_path: Path, monkeypatch):
    titles = drawn_titles(monkeypatch)
    running = after_test(tmp_path, quality(classifier()), classes=CLASSES)
    LatentArithmetic().on_test_end(running, Generator(3, colours))  # type: ignore[arg-type]
    assert len(titles) == 1 and titles[0].startswith("red - green + blue:")


@pytest.mark.parametrize(
    ("model", "found"),
    [
        (Generator(3, colours), None),  # no classifier
        (Generator(3, colours), classifier(per_channel=True)),
        (Generator(3, lambda codes: codes[:, :3].sigmoid() * torch.nan), classifier()),
        (Generator(3, lambda codes: torch.zeros(len(codes), 3)), classifier()),  # one class only
        (ClassGenerator(3, 3, colours), classifier()),
        (Painter(Generator(3, None).latent_blocks(), colours), classifier()),  # has an encoder
    ],
)
def test_no_picture_for_other_models_and_classifiers(model: Any, found: Any, tmp_path: Path):
    LatentArithmetic().on_test_end(after_test(tmp_path, quality(found), classes=CLASSES), model)
    LatentArithmetic().on_test_end(after_test(tmp_path, classes=CLASSES), model)
    assert not (tmp_path / "media").exists()
