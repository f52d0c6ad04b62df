"""The page in a real browser: it opens from a file, loads nothing else, and its controls work."""

import itertools
import math
import os
import re
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pandas as pd
import pytest
from PIL import Image

from genlab.report.records import SweepData
from genlab.report.writer import write_report, write_report_files
from genlab.runs.folder import write_summary
from tests.genlab.report.browser import HOSTILE, NEEDS_CHROMIUM

pytestmark = NEEDS_CHROMIUM


def write_sweep(folder: Path) -> Path:
    """test/mse = 1 / d + 0.01 n + 0.001 seed over d in 2, 10, 100, n in 1, 2 and two seeds.

    One run more has failed, one is running, and one has diverged and was ended early.
    """
    for d, n, seed in itertools.product((2, 10, 100), (1, 2), (0, 1)):
        run = folder / f"depth={n},latent_dim={d},seed={seed}"
        (run / "media").mkdir(parents=True)
        Image.new("L", (30, 30), 2 * d).save(run / "media" / "latent.png")
        config = {"model.latent_dim": d, "model.depth": n, "seed_everything": seed, "model.relu": n == 1 and d > 2}
        mse = 1 / d + 0.01 * n + 0.001 * seed
        write_summary(
            run,
            {
                "state": "finished",
                "config": config,
                "metrics": {"test/mse": mse, "test/accuracy": 1 - mse},
                "seconds": d,
            },
        )
        lines = [f"{100 * e + i},{e},{mse * (1 + 1 / (e + 1))},{mse if i else ''}" for e in range(4) for i in (0, 99)]
        (run / "metrics.csv").write_text("step,epoch,train/mse,val/mse\n" + "\n".join(lines) + "\n")
    for name, state in (("bad", "failed"), ("slow", "running")):
        (folder / name).mkdir()
        write_summary(folder / name, {"state": state, "config": {"model.latent_dim": 10}, "error": "no memory"})
    (folder / "early").mkdir()
    early = {"config": {"model.latent_dim": 10}, "metrics": {"test/mse": math.nan}, "ended_early": True}
    write_summary(folder / "early", {"state": "finished", **early})
    (folder / "logs").mkdir()
    (folder / "logs" / "bad.txt").write_text("Traceback")
    (folder / "sweep.yaml").write_text("metric: {name: test/mse, goal: minimize}")
    return folder


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(write_sweep(tmp_path_factory.mktemp("sweeps") / "a sweep #1"))[0]


def shown(tab: Any, column: int) -> list[str]:
    return tab.eval_on_selector_all(
        "#runs tbody tr:not([hidden])", f"rows => rows.map(row => row.cells[{column}].textContent)"
    )


def column(tab: Any, name: str) -> int:
    return tab.eval_on_selector_all("#runs th", "heads => heads.map(head => head.textContent)").index(name)


def head(tab: Any, name: str) -> Any:
    return tab.locator("#runs th button", has_text=re.compile(f"^{re.escape(name)}$"))


def test_the_header_summarizes_the_sweep(index: Path, tab: Any):
    tab.goto(index.as_uri())
    facts = tab.inner_text("#facts")
    assert "12 finished" in facts and "1 failed" in facts and "1 running" in facts
    assert "left out of charts and importance" in facts.lower() and "1 ended early" in facts
    assert "0.02" in facts and "depth=1,latent_dim=100,seed=0" in facts
    assert tab.inner_text("h1") == "a sweep #1" and tab.title() == "a sweep #1"
    rows = tab.locator("#importance-table tbody tr").all_inner_texts()
    assert [row.split()[0] for row in rows][:1] == ["latent_dim"] and any("noise floor" in row for row in rows)
    failed = tab.inner_text("#failed-runs")
    assert "bad" in failed and "no memory" in failed and "slow" not in failed


def test_no_button_uploads_a_chart(index: Path, tab: Any):
    """plotly.js has such a button, which is shown by default."""
    tab.goto(index.as_uri())
    titles = tab.eval_on_selector_all(".modebar-btn", "all => all.map(one => one.dataset.title)")
    assert "Download plot as a PNG" in titles and not [t for t in titles if re.search("share|cloud|edit", t, re.I)]


def test_a_click_on_a_column_sorts_numbers_as_numbers(index: Path, tab: Any):
    tab.goto(index.as_uri())
    at = column(tab, "latent_dim")
    assert shown(tab, 0)[0] == "depth=1,latent_dim=100,seed=0"  # the best first
    head(tab, "latent_dim").click()
    assert [int(text) for text in shown(tab, at)] == [2] * 4 + [10] * 7 + [100] * 4
    head(tab, "latent_dim").click()
    assert [int(text) for text in shown(tab, at)] == [100] * 4 + [10] * 7 + [2] * 4
    assert tab.locator("#runs th").nth(at).get_attribute("aria-sort") == "descending"
    assert shown(tab, column(tab, "test/mse")).count("not finite") == 1
    for _ in range(2):  # runs without a value are last in both directions
        head(tab, "test/mse").click()
        assert set(shown(tab, 0)[-3:]) == {"bad", "slow", "early"}


def test_words_and_states_filter_the_table(index: Path, tab: Any):
    tab.goto(index.as_uri())
    tab.fill("#table-filter", "LATENT_DIM=10, depth=2")
    assert sorted(shown(tab, 0)) == ["depth=2,latent_dim=10,seed=0", "depth=2,latent_dim=10,seed=1"]
    assert tab.inner_text("#table-count") == "2 of 15 runs"
    tab.fill("#table-filter", "im=10")  # a part of a name and of a number
    assert shown(tab, 0) == []
    tab.fill("#table-filter", "memory")
    assert set(shown(tab, 0)) == {"bad", "slow"}
    tab.select_option("#table-state", "failed")
    assert shown(tab, 0) == ["bad"]
    tab.fill("#table-filter", "nothing at all")
    assert shown(tab, 0) == []


def test_charts_show_runs_and_groups_on_hover(index: Path, tab: Any):
    tab.goto(index.as_uri())
    for chart in ("#grouped-charts > div:first-child", "#parallel-chart", "#curves-chart"):
        line = tab.locator(f"{chart} .scatterlayer .js-line").last
        line.scroll_into_view_if_needed()
        x, y = line.evaluate(
            """path => {
                const at = path.getPointAtLength(1).matrixTransform(path.getScreenCTM());
                return [at.x, at.y];
            }"""
        )
        tab.mouse.move(x + 2, y)
        tab.mouse.move(x + 1, y)
        tab.wait_for_selector(f"{chart} .hoverlayer .hovertext")
        text = tab.text_content(f"{chart} .hoverlayer")
        assert "latent_dim" in text and re.search(r"\d\.\d", text)


def test_another_metric_changes_every_chart(index: Path, tab: Any):
    tab.goto(index.as_uri())
    title, legend = (tab.locator(f"#grouped {part}").first.bounding_box() for part in (".g-xtitle", ".legend"))
    assert title["y"] + title["height"] <= legend["y"] + 1
    before = tab.eval_on_selector("#grouped-charts > div", "node => node.data.at(-1).y[0]")
    tab.select_option("#metric", "test/accuracy")
    after = tab.eval_on_selector("#grouped-charts > div", "node => node.data.at(-1).y[0]")
    assert before == pytest.approx(0.5155, abs=1e-4) and after == pytest.approx(1 - before, abs=1e-4)
    assert "test/accuracy" in tab.inner_text("#importance h2")
    assert "highest" in tab.inner_text("#facts")  # the sweep has a goal only for test/mse
    assert "test/accuracy" in tab.locator("#parallel-chart .annotation").last.text_content()


def test_curves_are_grouped_by_the_selected_key(index: Path, tab: Any):
    tab.goto(index.as_uri())

    def means() -> dict[str, list[float]]:
        return tab.eval_on_selector(
            "#curves-chart", "node => Object.fromEntries(node.data.filter(t => t.name).map(t => [t.name, t.y]))"
        )

    assert tab.input_value("#curves-metric") == "val/mse"
    assert means()["latent_dim 2 (4)"] == pytest.approx([0.5155] * 4, abs=1e-4)
    tab.select_option("#curves-group", label="depth")
    assert set(means()) == {"depth 1 (6)", "depth 2 (6)"}
    tab.select_option("#curves-metric", "train/mse")
    tab.select_option("#curves-axis", "step")
    tab.check("#curves-log")
    average = (1 / 2 + 1 / 10 + 1 / 100) / 3 + 0.01 + 0.0005
    assert means()["depth 1 (6)"][:3] == pytest.approx([2 * average, 2 * average, 1.5 * average], rel=1e-3)
    assert tab.eval_on_selector("#curves-chart", "node => node.layout.yaxis.type") == "log"


def test_the_parallel_coordinates_filter_the_table(index: Path, tab: Any):
    tab.goto(index.as_uri())
    tab.locator("#parallel-chart").scroll_into_view_if_needed()
    box = tab.locator("#parallel-chart .nsewdrag").first.bounding_box()
    low, high = tab.eval_on_selector("#parallel-chart", "node => node.layout.xaxis.range")
    x = box["x"] + box["width"] * (0 - low) / (high - low)
    tab.mouse.move(x - 8, box["y"] + 2)
    tab.mouse.down()
    tab.mouse.move(x, box["y"] + 30, steps=4)
    tab.mouse.move(x + 8, box["y"] + 60, steps=4)
    tab.mouse.up()
    tab.wait_for_selector("#parallel-clear:not([hidden])")
    assert set(shown(tab, column(tab, "latent_dim"))) == {"100"}
    assert tab.inner_text("#table-count") == "4 of 15 runs"
    tab.click("#parallel-clear")
    assert tab.inner_text("#table-count") == "15 of 15 runs"


def test_links_lead_to_files_and_pictures_are_shown_on_hover(index: Path, tab: Any):
    tab.goto(index.as_uri())
    links = set(tab.eval_on_selector_all("a", "all => all.map(one => one.href)"))
    assert len(links) > 25 and all(Path(unquote(link.removeprefix("file://"))).exists() for link in links)
    tab.locator("#runs .files a", has_text="latent").first.hover()
    tab.wait_for_function("document.getElementById('thumbnail').naturalWidth === 30")
    assert tab.is_visible("#thumbnail")


def test_names_and_values_are_never_executed(tmp_path: Path, tab: Any):
    """All texts of the runs, from the name of the sweep to that of a file, contain a script."""
    rows = []
    for i in range(8):
        config = {f"model.{HOSTILE}": [HOSTILE, "plain"][i % 2], "model.n": i // 2, "seed_everything": i % 2}
        rows.append(
            {"run": f"{i}{HOSTILE}", "state": "finished", "seconds": 1.0, **config, f"test/{HOSTILE}": float(i)}
        )
    rows.append({"run": f"bad{HOSTILE}", "state": HOSTILE, "seconds": None, "error": HOSTILE})
    history = pd.DataFrame({"step": [1, 2], "epoch": [0, 1], f"val/{HOSTILE}": [1.0, 0.5]})
    runs = pd.DataFrame(rows)
    data = SweepData(
        name=HOSTILE,
        metric=f"test/{HOSTILE}",
        goal="minimize",
        runs=runs,
        histories=dict.fromkeys(runs["run"], history),
        pictures={f"0{HOSTILE}": [f"../{HOSTILE}.png", f"javascript:alert('{HOSTILE}')"]},
        links={f"0{HOSTILE}": {"folder": f'"onclick="alert(1){HOSTILE}', HOSTILE: "https://a.example/?" + HOSTILE}},
    )
    page = write_report_files(data, tmp_path / "report")[0]
    tab.goto(page.as_uri())
    assert tab.inner_text("h1") == HOSTILE and tab.title() == HOSTILE
    assert tab.locator("script").count() == 3 and tab.locator("img").count() == 1
    assert HOSTILE in tab.inner_text("#failed-runs") and f"0{HOSTILE}" in shown(tab, 0)
    assert HOSTILE in tab.inner_text("#facts")
    assert f"val/{HOSTILE}" in tab.text_content("#curves-chart .ytitle")
    assert tab.locator("[onerror], [onclick]").count() == 0


def test_a_sweep_without_a_finished_run_still_has_a_page(tmp_path: Path, tab: Any):
    (tmp_path / "r").mkdir()
    write_summary(tmp_path / "r", {"state": "failed", "error": "no memory", "config": {"model.depth": 1}})
    with pytest.raises(Exception, match="no run in .* has finished"):
        write_report(tmp_path)
    tab.goto((tmp_path / "report" / "index.html").as_uri())
    assert "no memory" in tab.inner_text("#failed-runs") and "no run has finished" in tab.inner_text("#facts")
    assert not any(tab.is_visible(f"#{part}") for part in ("importance", "parallel", "grouped", "curves"))
    assert shown(tab, 0) == ["r"]


def test_runs_without_varying_keys_have_curves_and_a_table(tmp_path: Path, tab: Any):
    folder = write_sweep(tmp_path / "s")
    for run in folder.glob("*latent_dim*"):
        if run.name != "depth=1,latent_dim=2,seed=0":
            shutil.rmtree(run)
    tab.goto(write_report(folder)[0].as_uri())
    assert tab.is_visible("#curves-chart") and not tab.is_visible("#grouped")
    assert tab.locator("#curves-chart .scatterlayer .js-line").count() and len(shown(tab, 0)) == 4


@pytest.mark.slow
def test_what_the_user_chooses_is_in_the_address(index: Path, tab: Any):
    tab.goto(index.as_uri())
    tab.select_option("#correlation", "spearman")
    signed = tab.locator("#importance-table tbody tr").first.locator(".number").last.inner_text()
    tab.click("#columns summary")
    tab.get_by_role("checkbox", name="depth", exact=True).uncheck()
    tab.select_option("#metric", "test/accuracy")
    tab.fill("#table-filter", "latent_dim > 2 mse <= 0.111")
    tab.check("#curves-log")
    toolbar, legend = (tab.locator(f"#curves-chart {part}").bounding_box() for part in (".modebar", ".legend"))
    assert toolbar["y"] + toolbar["height"] <= legend["y"] + 1
    head(tab, "time").click()
    wanted = shown(tab, 0)
    assert len(wanted) == 6 and wanted[0].startswith("depth=1,latent_dim=10")
    tab.goto("about:blank")
    tab.go_back()
    assert tab.input_value("#correlation") == "spearman" and signed == "-0.95"
    assert tab.input_value("#metric") == "test/accuracy" and tab.is_checked("#curves-log")
    assert not head(tab, "depth").is_visible() and head(tab, "relu").is_visible()
    assert shown(tab, 0) == wanted


@pytest.mark.slow
def test_numbers_categories_and_none_have_their_axes(tmp_path: Path, tab: Any):
    for i in range(16):
        (tmp_path / f"{i}").mkdir()
        config = {"model.n": [1, 2, 50, None][i % 4], "model": ["a.VAE", "b.GAN"][i // 8], "model.flag": i % 3 == 0}
        summary = {"state": "finished", "config": config, "metrics": {"test/mse": 1.0 + i}}
        write_summary(tmp_path / f"{i}", summary | ({"state": "running", "host": "away"} if i == 15 else {}))
    os.utime(tmp_path / "15" / "summary.json", (0, 0))
    tab.goto(write_report(tmp_path)[0].as_uri())
    panels = tab.eval_on_selector_all(
        "#grouped-charts > div", "all => all.map(n => [n.layout.xaxis.title.text, n.layout.xaxis.type, n.data])"
    )
    by_name = {name: (kind, data) for name, kind, data in panels}
    kind, (*_, mean) = by_name["n"]
    assert kind == "log" and mean["x"][:4] == [1, 2, 50, None] and mean["x"][4] > 50
    assert mean["error_y"]["array"] == [None] * 5  # one seed
    for name in ("model", "flag"):
        bars, *points = by_name[name][1]
        assert bars["type"] == "bar" and all(one["mode"] == "markers" for one in points)
    ticks = tab.eval_on_selector("#parallel-chart", "node => node.layout.annotations.map(one => one.text)")
    assert {"none", "VAE", "GAN"} <= set(ticks)
    assert "1 lost" in tab.inner_text("#facts") and "sign of life" in tab.inner_text("#failed-runs")


@pytest.mark.slow
def test_a_page_of_a_thousand_runs_is_below_ten_megabytes(tmp_path: Path, tab: Any):
    from studies.benchmarks.report import write_runs

    write_runs(tmp_path, 1000)
    page = write_report(tmp_path)[0]
    assert page.stat().st_size < 10e6
    tab.goto(page.as_uri())
    assert tab.inner_text("#table-count") == "1000 of 1000 runs"
    head(tab, "lr").click()
    values = [float(text) for text in shown(tab, column(tab, "lr"))]
    assert values == sorted(values) and len(values) == 1000
