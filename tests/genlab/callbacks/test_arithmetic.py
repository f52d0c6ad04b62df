from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from genlab.callbacks.latent_arithmetic import LatentArithmetic
from genlab.callbacks.sample_quality import SampleQuality
from genlab.evaluation.latent_arithmetic import NOISE, add, most_confident
from genlab.media import image_grid
from lit_models.common.priors import Uniform
from tests.genlab.callbacks.generators import ClassGenerator, Generator, after_test
from tests.genlab.callbacks.toys import Painter, contains, picture

CLASSES = ("red", "green", "blue", "black")


def colours(codes: Tensor) -> Tensor:
    return codes[:, :3].sigmoid()


def judge(per_channel: bool = False) -> Any:
    """Reads the strongest channel; black where none is strong."""

    def probabilities(images: Tensor) -> Tensor:
        logits = 20 * images.mean(dim=(2, 3))
        return torch.cat([logits, torch.full((len(images), 1), 9.0)], dim=1).softmax(dim=1)

    read = SimpleNamespace(per_channel=per_channel, probabilities=probabilities, to=lambda device: None)
    read.modes = lambda images: probabilities(images).argmax(dim=1)
    return read


def quality(found: Any) -> SampleQuality:
    made = SampleQuality()
    made.judge = found
    return made


def test_exemplars_are_the_surest_of_their_class():
    codes = torch.arange(9.0)[:, None]
    probabilities = torch.tensor([[0.9, 0.6, 0.8, 0.7, 0.2, 0.1, 0.0, 0.4, torch.nan]]).T.nan_to_num()
    both = torch.cat([probabilities, 0.95 * (1 - probabilities)], dim=1)
    both[8] = 0  # an image that is not finite
    found = most_confident(codes, both)
    assert found[0].flatten().tolist() == [0, 2, 3] and found[1].flatten().tolist() == [6, 5, 4]
    assert most_confident(codes[:5], both[:5]).keys() == {0}  # there is but one of the other


def test_a_sum_is_that_of_the_means():
    exemplars = {label: torch.randn(3, 5, generator=torch.Generator().manual_seed(label)) for label in range(4)}
    torch.manual_seed(0)
    deviation = torch.tensor([1.0, 2.0, 0.0, 1.0, 1.0])
    found = add(exemplars, (3, 0, 1), deviation)
    result = exemplars[3].mean(dim=0) - exemplars[0].mean(dim=0) + exemplars[1].mean(dim=0)
    torch.testing.assert_close(found.codes[4], result)
    noise = found.codes - result
    assert (noise.abs() <= NOISE * deviation + 1e-6).all() and (noise[:, 2].abs() < 1e-6).all()
    assert (noise[[0, 1, 2, 3, 5, 6, 7, 8]].abs().amax(dim=1) > 0.1).all()


def test_noise_is_that_of_the_paper_for_its_prior():
    assert pytest.approx(0.25) == NOISE * (2**2 / 12) ** 0.5  # the deviation of the uniform law on [-1, 1]


def drawn_titles(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    titles: list[str] = []

    def framed(grid: Any, title: str, **more: Any) -> Any:
        titles.append(title)
        return grid

    monkeypatch.setattr("genlab.callbacks.latent_arithmetic.framed", framed)
    return titles


def test_the_picture_says_what_the_result_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    titles = drawn_titles(monkeypatch)
    state = torch.get_rng_state()
    running = after_test(tmp_path, quality(judge()), classes=CLASSES)
    LatentArithmetic([(0, 1, 1), (0, 3, 2), (0, 9, 1)]).on_test_end(running, Generator(3, colours))  # type: ignore[arg-type]
    assert torch.equal(torch.get_rng_state(), state)
    assert len(titles) == 2  # there is no class 9
    assert titles[0].startswith("red - green + green: the classifier reads red, as in ")
    assert titles[1].startswith("red - black + blue: the classifier reads ")
    drawn = picture(tmp_path, "arithmetic.png")
    assert drawn.shape[:2] == (2 * 2 * (4 * 6 + 2), 2 * (7 * 6 + 2))
    first = drawn[6, 6].astype(int)
    assert first[0] > 200 and first[0] > first[1:].max()  # the first of the red samples


def test_the_pixels_are_those_of_the_codes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    sums: list[Any] = []
    monkeypatch.setattr("genlab.callbacks.latent_arithmetic.add", lambda *given: sums.append(add(*given)) or sums[-1])
    model = Generator(3, colours, Uniform())
    LatentArithmetic([(0, 1, 2)]).on_test_end(after_test(tmp_path, quality(judge()), classes=CLASSES), model)  # type: ignore[arg-type]
    white = torch.ones(1, 3, 4, 4)
    rows = []
    for row in range(3):
        rows += [model.decode(sums[0].exemplars[:, row]), white, model.decode(sums[0].codes[3 * row : 3 * row + 3])]
    rows += [model.decode(sums[0].exemplars.mean(dim=1)), white.expand(4, -1, -1, -1)]
    assert contains(picture(tmp_path, "arithmetic.png"), np.asarray(image_grid(torch.cat(rows), 7)))


def test_other_classes_are_added_where_those_of_digits_are_not_there(tmp_path: Path, monkeypatch):
    titles = drawn_titles(monkeypatch)
    running = after_test(tmp_path, quality(judge()), classes=CLASSES)
    LatentArithmetic().on_test_end(running, Generator(3, colours))  # type: ignore[arg-type]
    assert len(titles) == 1 and titles[0].startswith("red - green + blue:")


@pytest.mark.parametrize(
    ("model", "found"),
    [
        (Generator(3, colours), None),  # no classifier
        (Generator(3, colours), judge(per_channel=True)),
        (Generator(3, lambda codes: codes[:, :3].sigmoid() * torch.nan), judge()),
        (Generator(3, lambda codes: torch.zeros(len(codes), 3)), judge()),  # of one class
        (ClassGenerator(3, 3, colours), judge()),
        (Painter(Generator(3, None).latent_blocks(), colours), judge()),  # which encodes
    ],
)
def test_no_sums(model: Any, found: Any, tmp_path: Path):
    LatentArithmetic().on_test_end(after_test(tmp_path, quality(found), classes=CLASSES), model)
    LatentArithmetic().on_test_end(after_test(tmp_path, classes=CLASSES), model)
    assert not (tmp_path / "media").exists()
