"""Tables and charts against known numbers."""

import itertools
import os
import socket
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy

import sweep
from genlab.report.charts import grouped_figure, importance_figure, means_table, save_figure, side_by_side
from genlab.report.importance import correlations
from genlab.report.records import load_runs, moved_together, parameter_blocks, parameter_scales, varied
from genlab.report.writer import write_report
from genlab.runs.errors import UsageError
from genlab.runs.folder import write_summary

UNFINISHED: dict[str, dict[str, Any]] = {
    "bad": {"state": "failed", "metrics": {}},
    "early": {"state": "finished", "ended_early": True},
    "vanished": {"state": "running", "host": socket.gethostname(), "pid": 2**30},
    "away": {"state": "running", "host": "elsewhere", "pid": 2**30},
    "silent": {"state": "running", "host": "elsewhere", "pid": 2**30},
}


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    """test/mse = 1 / d + 0.01 n + 0.001 seed over d in 5, 10, n in 1, 2 and two seeds; and `UNFINISHED`."""
    for d, n, seed in itertools.product((5, 10), (1, 2), (0, 1)):
        run = tmp_path / f"{d}-{n}-{seed}"
        run.mkdir()
        config = {"model.latent_dim": d, "model.depth": n, "seed_everything": seed, "encoder.latent_dim": d}
        config |= {"model.channels": [d, n], "data.batch_size": 128}
        metrics = {"test/mse": 1 / d + 0.01 * n + 0.001 * seed, "val/mse": 1.0}
        write_summary(run, {"state": "finished", "config": config, "metrics": metrics, "seconds": 1.0})
    for name, state in UNFINISHED.items():
        (tmp_path / name).mkdir()
        config = {"model.latent_dim": 7, "seed_everything": 0}
        write_summary(tmp_path / name, {"config": config, "metrics": {"test/mse": 9.0}, **state})
    hour_ago = time.time() - 3600
    os.utime(tmp_path / "silent" / "summary.json", (hour_ago, hour_ago))
    return tmp_path


def finished(folder: Path) -> pd.DataFrame:
    runs = load_runs(folder)
    return runs[runs["state"] == "finished"]


def test_each_run_is_a_row_including_failed_ones(experiment: Path):
    runs = load_runs(experiment).set_index("run")
    states = {"bad": "failed", "early": "ended early", "vanished": "lost", "away": "running", "silent": "lost"}
    assert len(runs) == 13 and {name: runs["state"][name] for name in states} == states
    assert runs["error"]["vanished"] == "its process no longer exists"
    assert runs["error"]["silent"] == "its process on elsewhere gave its last sign of life 60 minutes ago"


def test_varying_keys_are_found_once(experiment: Path):
    """encoder.latent_dim repeats model.latent_dim, the batch size is constant, and the seed is not a hyperparameter."""
    runs = finished(experiment)
    assert varied(runs) == ["model.latent_dim", "model.depth", "model.channels"]
    places = {"data": list("AB" * (len(runs) // 2)), "data.root": range(len(runs))}  # which depends on the machine
    assert varied(runs.assign(**places))[-1] == "data"
    assert moved_together(runs) == {"encoder.latent_dim": "model.latent_dim"}
    write_report(experiment)
    table = pd.read_csv(experiment / "report" / "importances.csv", index_col="hyperparameter")
    assert table["note"].dropna().to_dict() == {"encoder.latent_dim": "moved with model.latent_dim"}


def test_means_and_their_spread_over_seeds(experiment: Path):
    table = means_table(finished(experiment), ["test/mse"], ["model.latent_dim", "model.depth"])
    by = {(row["hyperparameter"], row["value"]): row for row in table.to_dict("records")}
    assert by["model.latent_dim", "5"]["test/mse"] == pytest.approx(0.2 + 0.015 + 0.0005)
    assert by["model.depth", "2"]["test/mse"] == pytest.approx(0.15 + 0.02 + 0.0005)
    assert by["model.depth", "2"]["test/mse sd over seeds"] == pytest.approx(np.std([0, 0.001], ddof=1))
    one_seed = means_table(finished(experiment).query("seed_everything == 0"), ["test/mse"], ["model.depth"])
    assert one_seed["test/mse sd over seeds"].isna().all()


def test_correlations_are_pearsons(experiment: Path):
    runs = finished(experiment)
    table = correlations(runs, ["test/mse"], ["model.latent_dim", "model.depth", "model.channels"])
    expected = np.corrcoef(runs["model.latent_dim"].astype(float), runs["test/mse"])[0, 1]
    assert table.loc["model.latent_dim", "test/mse"] == pytest.approx(expected) and expected < -0.9
    assert list(table.index) == ["model.latent_dim", "model.depth"]  # texts have no correlation
    ranks = correlations(runs, ["test/mse"], ["model.latent_dim"], ranks=True)
    spearman = scipy.stats.spearmanr(runs["model.latent_dim"], runs["test/mse"]).statistic
    assert ranks.loc["model.latent_dim", "test/mse"] == pytest.approx(spearman)


def test_the_chart_shows_the_means(experiment: Path):
    figure = grouped_figure(finished(experiment), "test/mse", ["model.latent_dim", "model.depth"])
    legend = figure.axes[0].get_legend_handles_labels()
    lines = {label: [y for y in bars[0].get_ydata() if np.isfinite(y)] for bars, label in zip(*legend, strict=True)}
    assert lines["mean"] == pytest.approx([0.2155, 0.1155])
    assert lines["depth 2"] == pytest.approx([0.2205, 0.1205]) and len(lines) == 3


def test_numbers_have_a_continuous_axis_and_categories_have_bars():
    """The distances of 1, 2 and 10 are theirs; None has a place of its own, to which no line leads."""
    draw = np.random.default_rng(0)
    runs = pd.DataFrame({"n": [1, 2, 10, None] * 4, "word": ["VAE", "GAN"] * 8, "flag": [True, False] * 8})
    runs["lr"], runs["m"] = draw.uniform(1, 5, 16), draw.uniform(1, 2, 16)
    figure = grouped_figure(runs, "m", ["n", "word", "flag", "lr"], {"lr": "log"})
    numbers, words, flags, rate = figure.axes
    x = numbers.containers[-1][0].get_xdata()
    assert x.tolist()[:3] == [1, 2, 10] and np.isnan(x[3]) and x[4] > 10
    assert "none" in [label.get_text() for label in numbers.get_xticklabels()]
    assert (numbers.get_xscale(), rate.get_xscale()) == ("linear", "log")
    for panel, names in ((words, ["GAN", "VAE"]), (flags, ["False", "True"])):
        assert len(panel.patches) == 2 and panel.get_ylim()[0] == 0
        assert [label.get_text() for label in panel.get_xticklabels()] == names
        assert all(line.get_linestyle() == "None" for line in panel.lines if len(line.get_xdata()) > 1)


def test_the_figure_of_importances_tells_why_they_are_empty():
    table = pd.DataFrame({"test/mse": [np.nan]}, index=["model.depth"])
    figure = importance_figure(table, table, table, {"test/mse": "too few runs"}, "lr moved with depth")
    assert figure.axes[0].texts[0].get_text() == "too few runs" and figure.get_supxlabel() == "lr moved with depth"


def test_the_files_of_a_report(experiment: Path):
    names = [path.name for path in write_report(experiment)]
    tables = ["runs.csv", "means.csv", "correlations.csv", "correlations_spearman.csv", "importances.csv"]
    assert names == ["index.html", *tables, "test_mse.png", "correlations.png"]
    assert len(pd.read_csv(experiment / "report" / "runs.csv")) == 13


def test_runs_that_were_ended_early_count_only_if_asked(experiment: Path):
    def means(*options: str) -> dict[int, float]:
        assert sweep.main(["report", str(experiment), *options]) == 0
        table = pd.read_csv(experiment / "report" / "means.csv").query("hyperparameter == 'model.latent_dim'")
        return dict(zip(table["value"].astype(int), table["test/mse"], strict=True))

    without = means()
    assert set(without) == {5, 10} and means("--include-early") == {**without, 7: 9.0}


def test_a_report_without_finished_runs_is_an_error(tmp_path: Path):
    with pytest.raises(UsageError, match="contains no runs"):
        write_report(tmp_path)
    (tmp_path / "r").mkdir()
    write_summary(tmp_path / "r", {"state": "running"})
    with pytest.raises(UsageError, match="no run in .* has finished"):
        write_report(tmp_path)
    with pytest.raises(UsageError, match=f"is one run; give the folder of its experiment, {tmp_path}$"):
        write_report(tmp_path / "r")


def test_parameters_have_the_short_keys_of_the_recorded_config():
    block = {"class_path": {"value": "SGD"}, "init_args": {"parameters": {"lr": {"values": [1, 2]}}}}
    parameters = {"model.init_args.latent_dim": {"values": [2, 4]}, "model.optimizer": {"parameters": block}}
    assert list(parameter_blocks(parameters)) == ["model.latent_dim", "model.optimizer", "model.optimizer.lr"]
    kinds = {"a": "log_uniform_values", "b": "int_uniform", "c": "categorical", "d": "q_log_normal"}
    blocks = {key: {"distribution": kind} for key, kind in kinds.items()} | {"e": {"values": [1]}, "f": 3}
    assert parameter_scales(blocks) == {"a": "log", "b": "linear", "d": "log"}


def test_pictures_side_by_side(tmp_path: Path):
    from PIL import Image

    for name, grey in (("a", 0), ("b", 255)):
        Image.new("L", (40, 20), grey).save(tmp_path / f"{name}.png")
    path = save_figure(side_by_side([tmp_path / "a.png", tmp_path / "b.png"], ["d = 10", "d = 20"]), tmp_path / "c.png")
    assert Image.open(path).width > Image.open(path).height
