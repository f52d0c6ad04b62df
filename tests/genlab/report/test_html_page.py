"""The data of the page: importance, correlation, axes, curves, and runs that did not finish."""

import itertools
import json
import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from genlab.report.axes import short_classes
from genlab.report.curves import MAX_NUMBERS, learning_curves
from genlab.report.importance import as_numbers, correlations, relations, why_no_importance
from genlab.report.records import load_sweep, read_history, varied
from genlab.report.self_contained import axis
from genlab.report.writer import default_metrics, write_report
from genlab.runs.errors import UsageError
from genlab.runs.folder import read_summary, write_summary
from genlab.runs.short_names import short_labels


def page_data(page: Path) -> dict:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page.read_text(encoding="utf-8"))
    return json.loads(found[1])


@pytest.fixture
def planted() -> pd.DataFrame:
    """Returns runs whose metric depends on x and slightly on the word, but not on y, the constant or the seed."""
    draw = np.random.default_rng(0)
    x, y, word = draw.uniform(size=200), draw.uniform(size=200), draw.choice(["a", "b", "c"], size=200)
    metric = 3 * (x - 0.3) ** 2 + 0.3 * (word == "b") + 0.01 * draw.normal(size=200)
    return pd.DataFrame({"x": x, "y": y, "word": word, "constant": 1, "seed": draw.integers(0, 3, 200), "m": metric})


def test_importance_finds_the_planted_hyperparameters(planted: pd.DataFrame):
    table = relations(planted, "m", ["y", "constant", "word", "seed", "x"])
    weights = table["importance"].xs("", level="value")
    first = relations(planted, "m", ["y", "constant", "word", "seed", "x"], ["y", "word"])
    assert list(first.xs("", level="value").index[:3]) == ["word", "y", "x"]  # the sweep's own, by importance
    assert list(weights.index[:2]) == ["x", "word"] and weights["x"] > 0.8
    assert weights["constant"] == 0 and weights["y"] < 0.02 and weights["seed"] < 0.02
    assert weights.sum() == pytest.approx(1)
    assert table.loc["word", "importance"].iloc[1:].sum() == pytest.approx(weights["word"])
    pd.testing.assert_frame_equal(table, relations(planted, "m", ["y", "constant", "word", "seed", "x"]))


def test_correlation_is_that_of_numpy(planted: pd.DataFrame):
    table = relations(planted, "m", ["x", "word", "constant"])["correlation"]
    assert table["x", ""] == pytest.approx(np.corrcoef(planted["x"], planted["m"])[0, 1])
    assert table["word", "b"] == pytest.approx(np.corrcoef(planted["word"] == "b", planted["m"])[0, 1])
    assert np.isnan(table["constant", ""]) and np.isnan(table["word", ""])


def test_missing_values_are_left_out_of_the_correlation(planted: pd.DataFrame):
    planted.loc[:20, "x"] = np.nan
    planted.loc[30:40, "m"] = np.nan
    planted.loc[41, "m"] = np.inf
    there = planted.drop(index=[*range(21), *range(30, 42)])
    expected = np.corrcoef(there["x"], there["m"])[0, 1]
    assert relations(planted, "m", ["x", "y"]).loc[("x", ""), "correlation"] == pytest.approx(expected)
    assert correlations(planted, ["m"], ["x"]).loc["x", "m"] == pytest.approx(expected)


def test_a_diverged_run_does_not_prevent_charts(folder: Path):
    for name, value in (("depth=1,seed=0", math.inf), ("depth=2,seed=1", math.nan)):
        summary = read_summary(folder / name)
        summary["metrics"]["test/mse"] = value
        write_summary(folder / name, summary)
    page = page_data(write_report(folder)[0])
    assert sorted(map(str, page["values"]["test/mse"])) == ["1.1", "2.0", "None", "None", "None", "None"]
    diverged = {name for name, metrics in zip(page["runs"], page["diverged"], strict=True) if metrics == ["test/mse"]}
    assert diverged == {"depth=1,seed=0", "depth=2,seed=1"}
    assert (folder / "report" / "test_mse.png").is_file()


@pytest.mark.parametrize("runs", [2, 3])
def test_few_runs_have_no_importance(planted: pd.DataFrame, runs: int):
    assert relations(planted[:runs], "m", ["x", "y"])["importance"].isna().all()
    reason = f"importance needs 4 finished runs with a finite m; there are {runs}"
    assert why_no_importance(planted[:runs], "m") == reason


def test_a_constant_metric_has_no_importances(planted: pd.DataFrame):
    constant = planted.assign(m=1.0)
    assert relations(constant, "m", ["x", "word"]).isna().all(axis=None)
    assert why_no_importance(constant, "m") == "m is 1 in all runs, so that nothing can be important for it"
    assert why_no_importance(planted, "m") is None


def test_numbers_and_texts_are_distinguished():
    assert as_numbers(pd.Series([True, False, None], dtype=object)).tolist()[:2] == [1, 0]
    assert as_numbers(pd.Series(["a", 1], dtype=object)) is None
    assert as_numbers(pd.Series([None, None], dtype=object)) is None
    assert axis(pd.Series([20, 5, 10]))["levels"] == ["5", "10", "20"]
    assert axis(pd.Series([True, None, False], dtype=object)) == {
        "levels": ["False", "True", "none"],
        "at": [1, 2, 0],
        "numbers": None,
        "log": False,
    }
    assert axis(pd.Series([1e-5, 1e-2]))["log"] and not axis(pd.Series([0.0, 1e-2]))["log"]
    assert axis(pd.Series([1e-5, 1e-2]), "linear")["log"] is False and axis(pd.Series([1.0, 2.0]), "log")["log"]
    classes = pd.Series(["lit_models.VAE", "a.Same", "b.Same", "a path/x.ckpt", None], dtype=object)
    assert short_classes(classes).tolist() == ["VAE", "a.Same", "b.Same", "a path/x.ckpt", None]
    assert short_labels(["a.lr", "b.lr", "a.depth"]) == {"a.lr": "a.lr", "b.lr": "b.lr", "a.depth": "depth"}


def test_random_numbers_are_all_kept():
    """They differ in each run, so that they group the runs alike, but they are different hyperparameters."""
    draw = np.random.default_rng(0)
    runs = pd.DataFrame({"model.lr": draw.uniform(size=9), "model.dropout": draw.uniform(size=9)})
    runs["model.twice"] = 2 * runs["model.lr"]
    runs["checkpoint.every"] = [1, 2, 3] * 3
    assert varied(runs) == ["model.lr", "model.dropout"]
    assert varied(runs, ["checkpoint.every", "model.twice", "away"]) == [
        "checkpoint.every",
        "model.twice",
        "model.dropout",
    ]


def test_the_history_of_a_killed_run_is_read(tmp_path: Path):
    path = tmp_path / "metrics.csv"
    path.write_text("step,epoch,val/mse\n1,0,0.5\n2,0\n3,1,\n4,1,word\n5,2,0.123")
    assert read_history(path)["step"].tolist() == [1, 3, 4]
    assert read_history(path)["epoch"].tolist() == [1, 2, 2]  # an earlier version counts from 0
    assert read_history(path)["val/mse"].tolist()[0] == 0.5 and read_history(path)["val/mse"].isna().sum() == 2
    path.write_bytes(b"\xff\0\xfe")
    assert read_history(path).empty and read_history(tmp_path / "none.csv").empty


def test_curves_share_their_axes_and_have_a_limited_number_of_points():
    table = pd.DataFrame({"step": range(1000), "epoch": 0, "val/mse": np.linspace(1, 0, 1000), "test/mse": np.nan})
    table.loc[999, "test/mse"] = 1.0
    names = [f"r{i}" for i in range(500)]
    curves = learning_curves(dict.fromkeys(names, table), [*names, "away"])
    assert len(curves["axes"]) == 1 and list(curves["metrics"]) == ["val/mse"]
    points = [len(values) for _, values in curves["metrics"]["val/mse"].values()]
    assert len(points) == 500 and set(points) == {curves["thinned_to"]} == {MAX_NUMBERS // (500 * (1 + 3 * 2))}
    assert learning_curves({"r0": table[-300:]}, ["r0"])["thinned_to"] is None
    assert curves["metrics"]["val/mse"]["r0"][1][-1] == pytest.approx(table["val/mse"][-10:].mean(), abs=2e-3)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for depth, seed in itertools.product((1, 2), (0, 1)):
        run = tmp_path / f"depth={depth},seed={seed}"
        (run / "media").mkdir(parents=True)
        (run / "media" / "latent 1.png").touch()
        metrics = {"test/mse": depth + 0.1 * seed, "test/accuracy": 0.5, "val/mse": 1.0}
        config = {"model.depth": depth, "seed_everything": seed}
        write_summary(run, {"state": "finished", "config": config, "metrics": metrics, "seconds": 1.5})
    (tmp_path / "bad").mkdir()
    write_summary(tmp_path / "bad", {"state": "failed", "config": {"model.depth": 7}, "metrics": {}})
    (tmp_path / "bad" / "error.txt").write_text("Traceback\n\nValueError: no such depth\n")
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "bad.txt").touch()
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "summary.json").write_text('{"state": "fin')
    return tmp_path


def test_the_metric_is_read_from_the_sweep(folder: Path):
    assert (load_sweep(folder).metric, load_sweep(folder).goal) == (None, "minimize")
    assert default_metrics(load_sweep(folder)) == ["test/mse", "test/accuracy"]
    (folder / "sweep.yaml").write_text(
        "metric: {name: val/mse, goal: maximize}\nparameters: {model.depth: {values: [1]}}"
    )
    data = load_sweep(folder)
    assert (data.metric, data.goal, data.parameters) == ("val/mse", "maximize", ["model.depth"])
    assert default_metrics(data) == ["val/mse", "test/mse", "test/accuracy"]


@pytest.mark.parametrize("text", ["metric: [", "just words", "metric: 3\nparameters: 4", "\0", "metric: {name: away}"])
def test_an_invalid_definition_does_not_prevent_the_report(folder: Path, text: str):
    (folder / "sweep.yaml").write_text(text)
    page = page_data(write_report(folder)[0])
    assert page["metric"] is None and page["metrics"] == ["test/mse", "test/accuracy"]


def test_failed_runs_are_listed_with_error_and_log(folder: Path):
    page = page_data(write_report(folder)[0])
    bad, torn = page["runs"].index("bad"), page["runs"].index("torn")
    assert page["states"][bad] == "failed" and page["errors"][bad] == "ValueError: no such depth"
    assert page["links"][bad] == {"folder": "../bad/", "log": "../logs/bad.txt", "error": "../bad/error.txt"}
    assert page["states"][torn] == "unknown" and page["errors"][torn] == "summary.json cannot be read"
    assert page["pictures"][page["runs"].index("depth=1,seed=0")] == ["../depth%3D1%2Cseed%3D0/media/latent%201.png"]


def test_the_seed_is_the_noise_floor(folder: Path):
    page = page_data(write_report(folder)[0])
    assert page["seed"] == "seed_everything"
    assert [row["key"] for row in page["relations"]["test/mse"]] == ["model.depth", "seed_everything"]
    csv = pd.read_csv(folder / "report" / "importances.csv", index_col="hyperparameter")
    assert csv.loc["model.depth", "test/mse"] > csv.loc["seed_everything", "test/mse"] > 0


def test_the_page_is_written_even_if_no_run_has_finished(tmp_path: Path):
    (tmp_path / "r").mkdir()
    write_summary(tmp_path / "r", {"state": "killed", "error": "out of memory"})
    with pytest.raises(UsageError, match=r"index\.html shows"):
        write_report(tmp_path)
    page = page_data(tmp_path / "report" / "index.html")
    assert page["errors"] == ["out of memory"] and page["metrics"] == []


def test_links_are_files_or_web_addresses(folder: Path):
    from genlab.report.writer import write_report_files

    data = load_sweep(folder)
    data.pictures["bad"] = ["javascript:alert(1)", "https://wandb.ai/a.png", "data:text/html,x"]
    page = page_data(write_report_files(data, folder / "elsewhere")[0])
    assert page["pictures"][page["runs"].index("bad")] == ["https://wandb.ai/a.png"]
