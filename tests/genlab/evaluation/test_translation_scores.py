from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torchmetrics import Metric

from datamodules import (
    LowResolutionMNISTDataModule,
    NoisyMNISTDataModule,
    RecoloredMNISTDataModule,
)
from genlab.evaluation.classifier import EvaluationClassifier
from genlab.evaluation.translation_scores import DirectionScores, TranslationScores, combine_scores, slice_pairs
from tests.genlab.callbacks.toy_translators import Identity, OneWay
from tests.genlab.evaluation.test_classifier import small_classifier


def test_small_images_have_no_ssim_and_large_ones_smaller_batches(data_root: Path):
    data = LowResolutionMNISTDataModule(str(data_root), val_size=40, seed=0, factor=4)
    scores = TranslationScores(OneWay(), data, data.pairs("val", 4), None, 500)
    assert set(scores.directions["ab"].pixels.means) == {"l1", "psnr", "ssim"} and scores.batch_size == 500
    back = DirectionScores(data, "ba", None, True, False, torch.device("cpu"))
    assert set(back.pixels.means) == {"l1", "psnr"}
    data.image_shape = (3, 256, 128)
    assert TranslationScores(OneWay(), data, data.pairs("val", 0), None, 500).batch_size == 15


def each_metric(scores: TranslationScores) -> Iterator[Metric]:
    yield from scores.cycles.values()
    for one in scores.directions.values():
        for pixels in (one.pixels, one.baseline):
            if pixels is not None:
                yield from (*pixels.means.values(), pixels.spectrum)
        yield from (metric for metric in (one.color, one.classes, one.frechet) if metric is not None)


@pytest.mark.parametrize("kind", [RecoloredMNISTDataModule, NoisyMNISTDataModule])
def test_scores_of_two_processes_combine(kind: Any, data_root: Path):
    data = kind(str(data_root), val_size=40, seed=0)
    model, pairs = Identity(), data.pairs("val", 31)
    classifier = EvaluationClassifier(small_classifier(), per_channel=data.classified_as is not None)
    found = []
    for share in (slice(None), slice(0, None, 2), slice(1, None, 2)):
        mine = slice_pairs(pairs, share)
        found.append(TranslationScores(model, data, mine, classifier, 7))
        found[-1].add_translations(model, mine)
    whole, first, second = found
    for ours, theirs in zip(each_metric(first), each_metric(second), strict=True):
        ours.merge_state(theirs)
    assert first.compute() == pytest.approx(whole.compute(), rel=1e-4, abs=1e-5)
    before = whole.compute()
    whole.reset_translations()
    whole.add_translations(model, pairs)
    assert whole.compute() == before


def test_scores_of_directions_are_combined():
    assert combine_scores({"ab": {"x": 1.0}}) == {"x": 1.0} and combine_scores({}) == {}
    found = combine_scores({"ab": {"x": 1.0, "y": 2.0}, "ba": {"x": 3.0}})
    assert found == {"x": 2.0, "x_ab": 1.0, "y_ab": 2.0, "x_ba": 3.0}
