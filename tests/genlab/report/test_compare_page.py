"""The page of a comparison in a real browser, and the same charts as pictures."""

import itertools
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import sweep
from genlab.report.compare.comparison import Question, compare, of_all_metrics
from genlab.report.compare.pareto import pareto_front
from genlab.report.compare.quantities import Chart
from genlab.report.compare.runs import read_folders
from genlab.report.compare.scatter import scatter
from tests.genlab.report.browser import HOSTILE, NEEDS_CHROMIUM
from tests.genlab.report.test_compare import write

BETTER = ("lower", "higher")
POINTS = np.random.default_rng(0).integers(0, 6, (40, 2)).tolist()  # many of them are equal


def write_experiments(root: Path) -> list[str]:
    """VAEs of four sizes with two seeds, a GAN that another classifier measured, and a run that was ended early."""
    for size, seed in itertools.product((2, 8, 32, None), range(2)):
        metrics = {"test/mse": (size or 4) ** -1 + 0.01 * seed, "test/frechet_classifier": 5.0 + seed, "test/own": 2.0}
        config = {"model.latent_dim": size, "model.optimizer.lr": 1e-3 * (size or 1), "model.relu": size == 2}
        seconds = {2: 10, 8: 30, 32: 20, None: 40}[size]
        run = root / "vae" / f"{size},{seed}"
        write(run, "VAE", seed, metrics, config=config, seconds=seconds, parameters=size)
        (run / "metrics.csv").write_text(
            f"step,epoch,val/mse,val/own\n10,1,{seed},1\n20,2,{seed + 1},1\n30,3,{seed + 4},1\n"
        )
        (run / "seconds.csv").write_text("1.5\n3\n4.5\n" if size else "")
        (run / "media").mkdir()
        Image.new("L", (2, 2), seed).save(run / "media" / f"{'samples' if size else 'other #'}.png")
    gan = {"test/frechet_classifier": 2.0, "test/mse": math.inf}
    write(root / "gan" / "default", "GAN", 0, gan, classifier="b" * 16)
    (root / "gan" / "default" / "metrics.csv").write_text("step,epoch,val/own\n10,1,1\n20,2,2\n")
    write(root / "gan" / "early", "GAN", 0, gan, classifier="b" * 16, ended_early=True, config={"model.latent_dim": 64})
    return [str(root / "vae"), str(root / "gan")]


def write_comparison(root: Path, *options: str) -> Path:
    page = root / "out" / "page.html"
    assert sweep.main(["compare", *write_experiments(root), *options, f"--output={page}"]) == 0
    return page


def shown(tab: Any, name: str) -> list[str]:
    heads = tab.eval_on_selector_all("#configurations th", "heads => heads.map(head => head.textContent)")
    at = next(i for i, head in enumerate(heads) if head.startswith(name))
    rows = f"rows => rows.map(row => row.cells[{at}].textContent)"
    return tab.eval_on_selector_all("#configurations tbody tr:not([hidden])", rows)


def chart(tab: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The traces with points or bars, and the layout of the scatter chart."""
    data, layout = tab.eval_on_selector("#scatter-chart", "node => [node.data, node.layout]")
    return [trace for trace in data if trace["x"] != [None]], layout


def brute_force(points: list[Any], better: tuple[str, str]) -> set[int]:
    """The points that no other one dominates, by comparing all pairs."""
    signs = [1 if direction == "lower" else -1 for direction in better]
    costs = {i: np.multiply(signs, p) for i, p in enumerate(points) if None not in p}
    return {i for i, a in costs.items() if not any((b <= a).all() and (b < a).any() for b in costs.values())}


@pytest.mark.parametrize("better", [*itertools.product(BETTER, BETTER)])
def test_the_pareto_front_is_that_of_all_pairs(better: Any):
    assert set(pareto_front([(x, y) for x, y in POINTS], better)) == brute_force(POINTS, better)
    assert pareto_front([], better) == []


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_comparison(tmp_path_factory.mktemp("runs"), "--include-early", "--baseline=vae/2,1")


@NEEDS_CHROMIUM
def test_the_table_and_the_scatter_chart_follow_the_user(page: Path, tab: Any):
    tab.goto(page.as_uri() + "#scatter-y=test/mse&scatter-pareto=on")
    assert shown(tab, "latent_dim") == ["64", "none", "2", "8", "32", "none"]
    assert shown(tab, "test/mse")[2:] == [f"{mean} ± 0.0071" for mean in ("0.5050", "0.1300", "0.0362", "0.2550")]
    assert shown(tab, "Δ test/mse")[2] == "baseline" and shown(tab, "state")[:2] == ["ended early", "finished"]
    assert "0.0362 ± 0.0071" in tab.locator("#configurations td.best").all_inner_texts()
    tab.evaluate(f"window.points = {json.dumps(POINTS)}")
    for better in itertools.product(BETTER, BETTER):
        front = "paretoFront(points.map(([x, y], i) => ({ x, y, i })), %s).map(point => point.i)"
        assert set(tab.evaluate(front % json.dumps(better))) == brute_force(POINTS, better)
    assert tab.input_value("#scatter-x") == "seconds"
    listed = tab.locator("#scatter-front li").all_inner_texts()
    assert [text.partition(": ")[0] for text in listed] == [f"VAE, latent_dim {size}" for size in (2, 32)]
    traces, _ = chart(tab)
    assert traces[0]["x"] == [10, 20] and traces[0]["line"]["shape"] == "hv"
    assert sorted(traces[1]["x"]) == [10, 20, 30, 40] and traces[1]["error_y"]["array"][0] == pytest.approx(
        0.00707, 1e-3
    )
    assert shown(tab, "#")[2:] == ["3", "4", "5", "6"] and tab.locator("tr.front").count() == 2
    tab.fill("#table-filter", "latent_dim > 2 model=VAE")
    assert shown(tab, "latent_dim") == ["8", "32"] and sorted(chart(tab)[0][1]["x"]) == [20, 30]
    tab.select_option("#scatter-x", "test/frechet_classifier")
    low, high = chart(tab)[1]["xaxis"]["range"]
    assert low < 5.5 - 0.71 and high > 5.5 + 0.71  # the bars of the points are inside
    tab.select_option("#scatter-x", "seconds")


@NEEDS_CHROMIUM
def test_learning_curves_and_pictures_are_those_of_the_selection(page: Path, tab: Any):
    tab.goto(
        page.as_uri()
        + "#media-metric=test/mse&table-filter=latent_dim<9&curves-group=model.latent_dim&curves-axis=seconds"
    )
    captions = tab.locator("#media-pictures figcaption").all_inner_texts()
    assert captions == [
        f"{n} VAE, latent_dim {size}, seed 0, test/mse {mse}\nvae/{size},0"
        for n, size, mse in ((3, 2, 0.5), (4, 8, 0.125))
    ]
    tab.check("#media-seeds")
    tab.select_option("#media-order", "metric")
    runs = [text.split("\n")[1] for text in tab.locator("#media-pictures figcaption").all_inner_texts()]
    assert runs == ["vae/8,0", "vae/8,1", "vae/2,0", "vae/2,1"] and "Lower test/mse first" in tab.inner_text(
        "#media-caption"
    )
    tab.locator("#media-pictures button").first.click()
    assert "samples of vae/8,0" in tab.inner_text("#media-large")
    tab.locator("#media-large button").click()
    tab.select_option("#media-group", "model.latent_dim")
    assert tab.locator("#media-pictures h3").all_inner_texts() == ["latent_dim 2", "latent_dim 8"]
    tab.wait_for_function("[...document.querySelectorAll('#media img')].every(image => image.naturalWidth === 2)")
    thick = "node => node.data.filter(line => line.line?.width === 3).map(({ name, x, y }) => [name, x, y])"
    means = [["latent_dim 2 (2)", [1.5, 3, 4.5], [0.5, 1.5, 4.5]], ["latent_dim 8 (2)", [1.5, 3, 4.5], [0.5, 1.5, 4.5]]]
    assert tab.eval_on_selector("#curves-chart", thick) == means
    tab.locator("#curves-smoothing").fill("0.5")
    smooth = [0.5, (0.25 * 0.5 + 0.5 * 1.5) / 0.75, (0.125 * 0.5 + 0.25 * 1.5 + 0.5 * 4.5) / 0.875]
    assert tab.eval_on_selector("#curves-chart", thick)[0][2] == pytest.approx(smooth)
    assert tab.inner_text("#curves-scope") == ""
    tab.reload()
    assert tab.input_value("#curves-smoothing") == "0.5" and tab.locator("#media figure").count() == 4
    tab.fill("#table-filter", "model=VAE")
    tab.select_option("#media-name", "other #")
    assert tab.locator("#media figure").count() == 2 and "vae/2,0" in tab.inner_text("#media-caption")
    assert "2 runs have recorded no seconds" in tab.inner_text("#curves-caption")
    tab.fill("#table-filter", "")
    for axis, warning in (
        ("seconds", ""),
        ("step", "only between runs of the same test data, model class and objective"),
    ):
        tab.select_option("#curves-axis", axis)
        tab.select_option("#curves-metric", "val/own")
        assert warning in tab.inner_text("#curves-scope") and bool(warning) == bool(tab.inner_text("#curves-scope"))


@NEEDS_CHROMIUM
@pytest.mark.slow
def test_axes_panels_and_colors(page: Path, tab: Any):
    """None has a place on the axis of a number, categories are bars, and only values that compare share a panel."""
    tab.goto(page.as_uri())
    tab.select_option("#scatter-y", "test/frechet_classifier")
    tab.select_option("#scatter-x", "model.latent_dim")
    tab.select_option("#scatter-colour", "model.optimizer.lr")
    traces, layout = chart(tab)
    titles = [note["text"] for note in layout["annotations"]]
    assert len(titles) == 2 and "model VAE" in titles[0] and "experiment" not in titles[0]
    vae = [trace for trace in traces if trace["xaxis"] == "x"]
    assert layout["xaxis"]["ticktext"][-1] == "none" and max(vae[0]["x"]) < layout["xaxis"]["tickvals"][-1] * 1.001
    assert layout["xaxis"]["type"] == "log" and layout["coloraxis"]["cmin"] == -3
    assert any("x" in trace["marker"]["symbol"] for trace in traces)  # the run that was ended early
    assert any("star" in trace["marker"]["symbol"] for trace in vae) and "baseline" in tab.inner_text(
        "#scatter-caption"
    )
    tab.select_option("#scatter-points", "runs")
    assert sum(len(trace["x"]) for trace in chart(tab)[0]) == 10
    tab.select_option("#scatter-x", "model")
    traces, layout = chart(tab)
    assert [trace["type"] for trace in traces].count("bar") == 2 and "markers" in {
        trace.get("mode") for trace in traces
    }
    assert tab.is_disabled("#scatter-pareto") and not tab.is_visible("#scatter-front")
    tab.select_option("#scatter-facet", "model.latent_dim")
    assert {"latent_dim 2", "latent_dim 32"} <= {note["text"] for note in chart(tab)[1]["annotations"]}
    tab.select_option("#scatter-x", "model.latent_dim")
    tab.check("#scatter-pareto")
    tab.select_option("#scatter-better-x", "higher")
    assert not tab.is_visible("#scatter-better-y") and "higher model.latent_dim" in tab.inner_text("#scatter-front")
    tab.locator("#columns summary").click()
    tab.get_by_role("checkbox", name="lr", exact=True).check()
    tab.get_by_role("checkbox", name="seeds", exact=True).uncheck()
    tab.locator("#configurations th button", has_text="test/mse").first.click()
    tab.reload()
    assert tab.input_value("#scatter-facet") == "model.latent_dim" and tab.input_value("#scatter-better-x") == "higher"
    assert tab.is_checked("#scatter-pareto") and tab.input_value("#scatter-points") == "runs"
    visible = [text.strip() for text in tab.locator("#configurations th:visible").all_inner_texts()]
    assert "lr" in visible and "seeds" not in visible and shown(tab, "latent_dim")[0] == "32"
    point = tab.locator("#scatter-chart .scatterlayer path.point").first
    point.hover(force=True)
    tab.wait_for_selector("#scatter-chart .hoverlayer .hovertext")
    assert "seed 0" in tab.text_content("#scatter-chart .hoverlayer")


@NEEDS_CHROMIUM
@pytest.mark.slow
def test_pivots_hostile_names_and_no_script(tmp_path: Path, browser: Any, tab: Any):
    write(tmp_path / HOSTILE.replace("/", "_") / "r", HOSTILE, 0, {f"test/{HOSTILE}": 1.0}, config={"model.x": HOSTILE})
    write(tmp_path / "other" / "r", "VAE", 0, {f"test/{HOSTILE}": 2.0}, config={"model.x": 1})
    folders = [str(path) for path in tmp_path.iterdir()]
    page = tmp_path / "out" / "page.html"
    options = [f"--output={page}", "--columns=model", "--rows=x", f"--metric=test/{HOSTILE}"]
    assert sweep.main(["compare", *folders, *options]) == 0
    tab.goto(page.as_uri())
    assert HOSTILE in tab.inner_text("#pivots") and any(HOSTILE in text for text in shown(tab, "model"))
    assert tab.locator("script").count() == 3 and tab.locator("[onerror], [onclick]").count() == 0
    plain = browser.new_page(java_script_enabled=False)
    plain.goto(page.as_uri())
    assert HOSTILE in plain.inner_text("noscript table")
    plain.close()


@NEEDS_CHROMIUM
@pytest.mark.slow
def test_a_page_of_a_thousand_runs(tmp_path: Path, tab: Any):
    from studies.benchmarks.compare import write_experiments as write_many

    page = tmp_path / "page.html"
    folders = write_many(tmp_path / "runs", 1000)
    assert sweep.main(["compare", *map(str, folders), f"--output={page}"]) == 0
    assert page.stat().st_size < 10e6
    tab.goto(page.as_uri())
    assert tab.inner_text("#table-count") == "200 of 200 configurations"
    assert tab.locator("#media figure").count() == 48 and "Only the first 10 of 200" in tab.inner_text(
        "#curves-caption"
    )
    tab.select_option("#scatter-points", "runs")
    assert sum(len(trace["x"]) for trace in chart(tab)[0]) == 900
    tab.select_option("#scatter-facet", "model.latent_dim")
    assert tab.locator("#scatter-chart .main-svg").first.bounding_box()["height"] > 1000
    assert len(chart(tab)[1]["annotations"]) == 12 and "28 more panels" in tab.inner_text("#scatter-caption")


def test_the_same_chart_as_a_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folders = write_experiments(tmp_path)
    command = ["compare", *folders, "--metric=test/frechet_classifier", f"--output={tmp_path / 'a.svg'}"]
    assert sweep.main([*command, "--x=seconds", "--color=latent_dim", "--pareto", "--include-early"]) == 0
    drawn = (tmp_path / "a.svg").read_text()
    assert "Pareto front (lower seconds, lower test/frechet_classifier)" in " ".join(
        re.findall("<!-- (.*?) -->", drawn)
    )
    configurations = [
        row.configurations[0] for row in of_all_metrics(compare(read_folders([*map(Path, folders)]), Question())).rows
    ]
    figure = scatter(configurations, Chart("model.latent_dim", "test/mse", "model", better=("lower", "lower")))
    [panel] = figure.axes
    assert panel.get_xscale() == "linear" and "none" in [text.get_text() for text in panel.get_xticklabels()]
    assert panel.lines[-1].get_xdata().tolist() == [2, 8, 32]  # the front has no place for None
    bars = scatter(configurations, Chart("model", "test/frechet_classifier", facet="model.relu"))
    assert [panel.get_title(loc="left") for panel in bars.axes] == ["relu False", "relu True", "relu none"]
    assert all(len(panel.patches) == 1 for panel in bars.axes)


def test_a_page_may_contain_its_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any):
    page = write_comparison(tmp_path, "--embed-pictures")
    media = json.loads(re.findall(r'id="data">(.*?)</script>', page.read_text())[0])["media"]
    assert [len(media[name]) for name in ("other #", "samples")] == [2, 6]
    assert all(link.startswith("data:image/png;base64,") for links in media.values() for link in links.values())
    monkeypatch.setattr("genlab.report.compare.page_media.MAX_EMBEDDED", 10)
    files = [tmp_path / "b.csv", tmp_path / "b.html"]
    command = ["compare", str(tmp_path / "vae"), "--embed-pictures", *(f"--output={file}" for file in files)]
    assert sweep.main(command) == 2 and not any(file.exists() for file in files)
    assert "choose fewer runs with --where" in capsys.readouterr().err
