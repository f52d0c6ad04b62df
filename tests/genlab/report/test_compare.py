"""Comparisons of run folders that are written here: what is folded, what compares, differences, files, filters."""

import csv
import io
import itertools
import math
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
from scipy.stats import ttest_ind

import sweep
from genlab.report.compare.comparability import LIKELIHOOD, METRICS, SCOPES, metric_of, scope_key
from genlab.report.compare.comparison import Question, compare
from genlab.report.compare.interval import welch
from genlab.report.compare.page_media import pictures_of, read_logged
from genlab.report.compare.rendering import as_csv, as_latex, as_markdown, as_text, html_table
from genlab.report.compare.runs import read_folders
from genlab.report.compare.table import Cell, Table
from genlab.report.compare.wandb_runs import wandb_runs
from genlab.runs.errors import UsageError
from genlab.runs.folder import write_summary

SCATTER = ["--metric", "test/mse", "--output", "missing/a.png"]
DOCS = Path(__file__).parents[3] / "docs" / "metrics.md"


def write(folder: Path, model: str, seed: int | None, metrics: dict[str, float], **more: Any) -> None:
    folder.mkdir(parents=True)
    config = {"model": f"lit_models.{model}", "data": "datamodules.MNISTDataModule", "data.root": str(folder)}
    config |= {"seed_everything": seed} if seed is not None else {}
    summary = {"state": "finished", "config": config | more.pop("config", {}), "metrics": metrics, "seconds": 10.0}
    summary |= {"images_seen": 500, "parameters": 1000, "hardware": "CPU, 2 threads", "classifier": "a" * 16}
    write_summary(folder, summary | more)


@pytest.fixture
def experiments(tmp_path: Path) -> list[Path]:
    """A VAE of two sizes and a DDPM, of up to three seeds, with the states that a sweep leaves."""
    for size, seed in itertools.product((2, 8), range(3)):
        metrics = {"test/mse": 0.1 / size + 0.001 * seed, "test/loss": 90.0 - size + seed}
        metrics |= {"test/frechet_classifier": 5.0 + seed, "val/mse": 1.0, "test/own": 1.0}
        write(tmp_path / "vae" / f"{size},{seed}", "VAE", seed, metrics, config={"model.latent_dim": size})
    ddpm = {"test/loss": 0.02, "test/frechet_classifier": 2.0, "test/bits_per_dim": 1.5}
    write(tmp_path / "ddpm" / "default", "DDPM", 0, ddpm)
    write(tmp_path / "ddpm" / "failed", "DDPM", 1, {}, state="failed")
    write(tmp_path / "ddpm" / "early", "DDPM", 1, {**ddpm, "test/frechet_classifier": 4.0}, ended_early=True)
    write(tmp_path / "ddpm" / "other", "DDPM", 0, ddpm, classifier="b" * 16)
    (tmp_path / "ddpm" / "damaged").mkdir()
    (tmp_path / "ddpm" / "damaged" / "summary.json").write_text("{")
    return [tmp_path / "vae", tmp_path / "ddpm"]


def one(folders: list[Path], **question: Any) -> Table:
    [table] = compare(read_folders(folders), Question(**question))
    return table


def cells(table: Table, title: str) -> list[Cell | None]:
    at = [column.title for column in table.columns].index(title)
    return [row.cells[at] for row in table.rows]


def test_seeds_are_folded_and_only_metrics_that_mean_the_same_are_ranked(experiments: list[Path]):
    table = one(experiments)
    assert table.keys == ["model", "model.latent_dim", "classifier"]
    assert [row.values[0].split(".")[1] for row in table.rows] == ["DDPM", "DDPM", "VAE", "VAE"]
    assert [row.seeds for row in table.rows] == [1, 1, 3, 3]
    assert [column.title for column in table.columns] == [
        "test/bits_per_dim",
        "test/frechet_classifier",
        "test/loss",
        "test/mse",
        "test/own",
    ]
    _, _, small, large = cells(table, "test/mse")
    assert small and large and small.fold.mean == pytest.approx(0.051) and large.best and not small.best
    assert small.fold.deviation == pytest.approx(np.std([0, 0.001, 0.002], ddof=1))
    by_a, by_b, *vaes = cells(table, "test/frechet_classifier")
    assert by_a and by_b and by_a.best and not by_b.best and not any(cell and cell.best for cell in vaes)
    assert [bool(cell and cell.best) for cell in cells(table, "test/loss")] == [
        False,
        False,
        False,
        True,
    ]  # equal values have no best
    assert not any(cell and cell.best for cell in cells(table, "test/own"))
    notes = "\n".join(table.notes)
    assert "test/frechet_classifier: only runs with the same test data, evaluation classifier" in notes
    assert "(rows 1, 3-4; no others)" in notes and "test/own" in notes
    assert "1 unreadable (ddpm/damaged), 1 ended early (ddpm/early), 1 failed (ddpm/failed)" in notes
    assert table.facts == ["parameters", "seconds", "images/s", "hardware"] and table.rows[0].fact("images/s") == 50
    early = cells(one(experiments, include_early=True), "test/frechet_classifier")[0]
    assert early and early.fold.values == (2.0, 4.0)
    alone = one(experiments, where=["model=VAE", "latent_dim>2"])
    assert len(alone.rows) == 1 and len(alone.columns) == 4


def test_a_metric_by_which_nothing_compares_is_left_out_and_said(experiments: list[Path]):
    table = one(experiments, where=["classifier!=" + "b" * 16, "model.latent_dim!=2"])
    assert [column.title for column in table.columns] == ["test/frechet_classifier"]
    assert any("left out" in note and "test/loss" in note and "objective" in note for note in table.notes)


def test_nats_compare_where_they_are_of_the_same_values():
    """Black and white pixels of a VAE and of an autoregressive model do; other levels, tokens and classes do not."""
    configs: list[dict[str, Any]] = [
        {"model": "VAE", "model.likelihood": "bernoulli", "model.likelihood_scale": 0.1},
        {"model": "AutoregressiveModel", "model.values": 2, "model.conditional": False},
        {"model": "VAE", "model.likelihood": "laplace", "model.likelihood_scale": 0.1},
        {"model": "AutoregressiveModel", "model.values": 2, "model.conditional": True},
        {"model": "AutoregressiveModel", "model.values": 16, "model.conditional": False},
        {"model": "AutoregressiveModel", "model.tokenizer": "a.ckpt", "model.conditional": False},
        {"model": "AutoregressiveModel", "model.tokenizer": "b.ckpt", "model.conditional": False},
    ]
    first, second, *others = (scope_key(LIKELIHOOD, "test", config, {}) for config in configs)
    assert first == second and len({first, *others}) == 6


def test_repeated_seeds_and_missing_values_are_counted_once(tmp_path: Path):
    for name, seed, value in (("a", 0, 1.0), ("b", 0, 3.0), ("c", 1, math.inf), ("d", 2, 5.0)):
        write(tmp_path / "e" / name, "VAE", seed, {"test/mse": value})
    table = one([tmp_path / "e"])
    [cell] = cells(table, "test/mse")
    assert cell and cell.fold.values == (2.0, 5.0) and cell.fold.seeds == 3
    assert "(2 of 3)" in as_text([table]) and any("same seed" in note for note in table.notes)
    assert "no finite value: test/mse (1 configuration)" in one([tmp_path / "e" / "c"]).notes
    write(tmp_path / "e" / "f", "VAE", 3, {"test/mse": 2.0}, config={"trainer.limit": 7, "model.none": None})
    for name in ("a", "f"):  # a default that is given on the command line is as one that is left out
        (tmp_path / "e" / name / "config.yaml").write_text("trainer: {limit: 7}\nmodel: VAE\n")
    assert [row.seeds for row in one([tmp_path / "e"]).rows] == [4]
    single = one([tmp_path / "e" / "a"])
    assert "one seed" in as_text([single]) and "1 " in as_text([single])


def test_differences_to_the_baseline(experiments: list[Path]):
    table = one(experiments, baseline="vae/2,1", metrics=["test/mse", "test/frechet_classifier", "test/loss"])
    ddpm, other, baseline, large = table.rows
    assert baseline.cells[0] and baseline.cells[0].baseline and baseline.cells[0].difference is None
    assert large.cells[0] and large.cells[0].difference is not None and large.cells[0].difference.low is not None
    assert large.cells[0].difference.value == pytest.approx(0.1 / 8 - 0.1 / 2)
    assert ddpm.cells[1] and ddpm.cells[1].difference and ddpm.cells[1].difference.low is None
    assert other.cells[1] and other.cells[1].difference is None  # another classifier
    assert ddpm.cells[2] and ddpm.cells[2].difference is None  # another objective
    assert "-4 (one seed)" in as_text([table]) and "baseline" in as_text([table])


def test_the_interval_is_welchs():
    values, baseline = [1.0, 2.0, 4.0], [1.5, 1.75]
    expected = ttest_ind(values, baseline, equal_var=False).confidence_interval(0.95)
    found = welch(values, baseline)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert welch([2.0, 2.0], [1.0, 1.0]).low == 1.0 and welch([2.0], [1.0, 3.0]).low is None


def test_a_pivot_by_two_keys(experiments: list[Path]):
    table = one(experiments, rows="latent_dim", columns="model", metrics=["test/frechet_classifier"])
    assert table.keys == ["model.latent_dim"] and [column.title for column in table.columns] == ["DDPM", "VAE"]
    assert [row.values for row in table.rows] == [[2], [8], [None]]
    assert cells(table, "DDPM") == [None, None, None]  # of two classifiers
    assert any("empty" in note for note in table.notes)
    merged = one(experiments, rows="model", metrics=["test/mse"])
    cell = cells(merged, "test/mse")[1]
    assert cell and cell.configurations == 2 and cell.fold.mean == pytest.approx((0.051 + 0.0135) / 2)


def test_files_are_escaped_and_have_all_digits(experiments: list[Path], tmp_path: Path):
    write(tmp_path / "x" / "<b>|_&", "VAE", 0, {"test/mse": -0.5}, config={"model.latent_dim": "<b>|_&\n[x](y)"})
    tables = [one([*experiments, tmp_path / "x"], metrics=["test/mse"])]
    tables[0].notes.append("of <b>")
    assert "&lt;b&gt;|_&amp; [x](y)" in html_table(tables[0]) and "<b>" not in html_table(tables[0])
    assert r"$<$b$>$\textbar{}\_\& [x](y)" in as_latex(tables) and r"\textbf{$-$0.5}" in as_latex(tables)
    assert (
        r"| &lt;b>\|_& [x](y) |" in as_markdown(tables)
        and "- of &lt;b>" in as_markdown(tables)
        and "**-0.5**" in as_markdown(tables)
    )
    rows = list(csv.DictReader(io.StringIO(as_csv(tables))))
    assert [float(row["test/mse"] or 0) for row in rows] == pytest.approx([0, 0, 0.051, 0.0135, -0.5])
    assert rows[2]["test/mse n"] == "3" and float(rows[2]["test/mse deviation"]) == pytest.approx(0.001)
    assert as_text(tables, 40).count("#  ") > 1  # blocks of columns


def test_the_command_writes_its_files(experiments: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    names = ["a.html", "a.csv", "a.md", "a.tex", "a.png", "a.svg"]
    outputs = [f"--output={tmp_path / 'new' / name}" for name in names]
    assert sweep.main(["compare", *map(str, experiments), "--metric", "test/mse", *outputs]) == 0
    assert "0.0510 ± 0.0010" in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == sorted(names)
    assert (tmp_path / "new" / "a.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--metric", "test/msee"], "did you mean test/mse"),
        (["--where", "latent_dim"], "not of the form KEY=VALUE"),
        (["--where", "latent_dim>x"], "'x' is not a number"),
        (["--where", "latent_dim=9"], "leaves no run; the values of model.latent_dim are 2, 8, none"),
        (["--rows", "modle"], "did you mean model?"),
        (["--columns", "model"], "name it with --metric"),
        (["--baseline", "none"], "there is no such run; give the folder of a run, or EXPERIMENT/RUN of a compared one"),
        (["--baseline", "ddpm/failed"], "its state is failed"),
        (["--baseline", "vae/2,0", "--where", "latent_dim=8"], "is not compared: --where leaves it out"),
        (["--output", "/proc/missing/a.md"], "--output /proc/missing/a.md cannot be written"),
        (["--output", "a.pdf"], "must be one of .html"),
        (["--output", "a.png"], "draws one metric"),
        (["--facet", "model"], "--facet is for a scatter chart: name what is on its x-axis"),
        (["--x", "seconds"], "draws a chart: add --output"),
        ([*SCATTER, "--x", "secods"], "--x secods: no run has this key; did you mean seconds?"),
        ([*SCATTER, "--x", "seconds", "--color", "modle"], "did you mean model?"),
        ([*SCATTER, "--x", "seed"], "seeds are folded"),
        ([*SCATTER, "--x", "data"], "all configurations have the same data"),
        ([*SCATTER, "--x", "model", "--pareto"], "--pareto needs numbers, and model has texts"),
        ([*SCATTER, "--x", "latent_dim", "--pareto"], "add --better model.latent_dim=lower"),
        ([*SCATTER, "--x", "latent_dim", "--pareto", "--better", "latent_dim"], "give NAME=lower or NAME=higher"),
        (["--where", "state=failed"], "no run to compare has finished (1 failed)"),
        (["--wandb", "project"], "neither ENTITY/PROJECT nor"),
    ],
)
def test_bad_input_is_told_in_one_line(
    experiments: list[Path], options: list[str], message: str, capsys: pytest.CaptureFixture[str]
):
    assert sweep.main(["compare", *map(str, experiments), *options]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and not Path("missing").exists()


def test_folders_without_runs_and_names_that_are_equal(experiments: list[Path], tmp_path: Path):
    with pytest.raises(UsageError, match=f"contains no runs; .*, such as {experiments[1]} {experiments[0]}"):
        read_folders([experiments[0].parent])
    write(tmp_path / "copy" / "vae" / "r", "VAE", 0, {})
    runs = read_folders([experiments[0], experiments[0] / "2,0", tmp_path / "copy" / "vae"])
    assert len(runs) == 7 and {run.experiment for run in runs} == {str(experiments[0]), str(tmp_path / "copy" / "vae")}


def test_runs_of_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    gif, outside = ({"_type": "video-file", "path": path} for path in ("media/a.gif", "media/../../../b.gif"))
    summary = {"test/mse": 0.5, "_runtime": 7.0, "val/mse": {"min": 0.25}, "media/grid": gif, "media/outside": outside}
    run = SimpleNamespace(name="vae/seed=0", id="x", group="vae", state="finished", config={}, summary_metrics=summary)
    run.entity, run.project, run.files = (
        "e",
        "p",
        lambda names: [SimpleNamespace(name=name, download=MagicMock()) for name in names],
    )
    run.history = lambda samples, pandas: [{"_step": i, "_runtime": 0.5 + i, "val/mse": 1.0} for i in range(2)]
    run.config = {"model": {"class_path": "lit_models.VAE", "init_args": {"latent_dim": 2}}}
    [found] = wandb_runs([run])
    assert str(found) == "vae/seed=0" and found.value("seconds") == 7.0
    assert found.config == {"model": "lit_models.VAE", "model.latent_dim": 2}
    assert found.metrics == {"test/mse": 0.5, "val/mse": 0.25}
    write(tmp_path / "runs" / "vae" / "seed=0", "VAE", 0, {"test/mse": 0.5}, wandb_id="x")
    write(tmp_path / "runs" / "vae" / "seed=1", "VAE", 1, {"test/mse": 0.7}, wandb_id="y")
    [table] = compare([found, *read_folders([tmp_path / "runs" / "vae"]), found], Question())
    assert [row.seeds for row in table.rows] == [2]  # the run on W&B is that of a folder
    assert "counted once, though folders and --wandb name them more than once: 1 run (vae/seed=0)" in table.notes
    logged = read_logged([found], False, Path("runs"))
    assert logged.histories[found]["seconds"].tolist() == [0.5, 1.5]
    assert pictures_of([found], logged, Path("out")) == {"grid.gif": {0: "../runs/wandb/e_p/x/media/a.gif"}}


def test_the_page_of_metrics_agrees_with_the_table():
    documented = set()
    for line in DOCS.read_text(encoding="utf-8").splitlines():
        names, *rest = line.strip("| ").split(" | ")
        if not (line.startswith("| `") and rest[0] in ("lower", "higher", "-")):
            continue
        for name in re.findall(r"`([^`]+)`", names):
            term = name.rpartition("/")[2].replace("KIND", "*")
            found = metric_of(f"test/{term}")
            assert [found.better or "-", found.scope.name] == rest[:2], name
            documented |= {known for known in METRICS if METRICS[known] is found}
    assert METRICS.keys() - documented == {"color_agreement_*", "digit_agreement_*"}  # each direction, told in words
    assert all(f"| {scope.name} | {scope.text}" in DOCS.read_text(encoding="utf-8") for scope in SCOPES)
