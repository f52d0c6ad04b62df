from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from genlab.callbacks.learning_curves import curves_figure, read_curves
from tests.genlab.callbacks.toy_models import picture
from tests.helpers import fit

HISTORY = """step,epoch,train/loss,val/loss,train/kl,lr-Adam,test/loss
4,0,3.0,,nan,0.1,
9,0,2.0,,0.5,0.1,
9,0,,2.5,,,
14,1,1.0,,0.7,0.1,
19,1,,1.5,,,
20,2,,,,,9.0
"""


def test_curves_by_metric_and_stage(tmp_path: Path):
    (tmp_path / "metrics.csv").write_text(HISTORY)
    curves = read_curves(tmp_path / "metrics.csv", 10)
    assert (
        list(curves) == ["loss", "kl"] and list(curves["loss"]) == ["train", "val"] and list(curves["kl"]) == ["train"]
    )
    x, y = curves["loss"]["train"]
    assert x.tolist() == [0.5, 1.0, 1.5] and y.tolist() == [3, 2, 1]
    x, y = curves["loss"]["val"]
    assert x.tolist() == [1, 2] and y.tolist() == [2.5, 1.5]


def test_steps_of_a_run_stopped_within_an_epoch(tmp_path: Path, monkeypatch):
    drawn = {}
    monkeypatch.setattr("genlab.callbacks.learning_curves.curves_figure", lambda terms: drawn.update(terms) or Figure())
    stopped = ["--trainer.max_steps=8", "--trainer.max_epochs=5", "--trainer.log_every_n_steps=2"]
    fit(tmp_path, "--run.pictures=true", "--training_gif.every_n_epochs=0", *stopped)
    x, _ = drawn["mse"]["train"]
    assert x.tolist() == pytest.approx([2 / 6, 4 / 6, 1, 8 / 6])  # six steps an epoch


def test_epochs_with_gradient_accumulation(tmp_path: Path, monkeypatch):
    drawn = {}
    monkeypatch.setattr("genlab.callbacks.learning_curves.curves_figure", lambda terms: drawn.update(terms) or Figure())
    summed = ["--trainer.accumulate_grad_batches=4", "--trainer.max_epochs=2"]
    fit(tmp_path, "--run.pictures=true", "--training_gif.every_n_epochs=0", *summed)
    assert drawn["mse"]["val"][0].tolist() == [1, 2]


def test_each_metric_has_a_chart():
    x = np.array([1.0, 2.0])
    figure = curves_figure(
        {
            "loss": {"train": (x, x), "val": (x, x + 1)},
            "reconstruction": {"val": (x, np.array([1e-3, 10.0]))},
            "kl": {"val": (x, np.array([np.nan, np.inf]))},
            "mse": {"val": (x, -x)},
        }
    )
    charts = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title() for axes in charts] == ["loss", "reconstruction", "kl", "mse"]
    assert [line.get_label() for line in charts[0].lines] == ["train", "val"]
    np.testing.assert_array_equal(charts[0].lines[1].get_xydata(), [[1, 2], [2, 3]])
    assert [axes.get_yscale() for axes in charts] == ["linear", "log", "linear", "linear"]


def test_no_curves_without_history(tmp_path: Path):
    assert read_curves(tmp_path / "metrics.csv", 10) == {}
    (tmp_path / "metrics.csv").write_text("step,epoch\n")
    assert read_curves(tmp_path / "metrics.csv", 10) == {}


def test_a_run_saves_its_curves(tmp_path: Path):
    folder = fit(
        tmp_path, "--run.pictures=true", "--training_gif.every_n_epochs=0", "--trainer.log_every_n_steps=2"
    ).folder
    assert picture(folder, "curves.png").shape[0] > 200
    (term,) = read_curves(folder / "metrics.csv", 6).values()
    assert term["val"][0].tolist() == [1, 2] and term["train"][0][-1] == 2
