"""The boards that the real wandb-workspaces saves on the mock server and reads back."""

import json
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import wandb_workspaces.reports.v2 as wr
import wandb_workspaces.workspaces as ws

from genlab.report.board import KNOWN_KEYS, contents, save_board, sections
from genlab.report.comparison_board import save_comparison
from genlab.runs.errors import UsageError
from tests.wandb_client import Client
from tests.wandb_public_api import PublicApi
from tests.wandb_server import Refused, Run, WandbServer


def save(*paths: str) -> None:
    """Saves boards, and writes their URLs, the workspaces read back from there and what was said to a file.

    Args:
        paths: `PROJECT` for a board, `compare PROJECT EXPERIMENT ...` for a comparison.
    """
    found: list[object] = []
    for path in paths:
        try:
            first, *more = path.split()
            url, *said = save_comparison(more[0], more[1:]) if more else (save_board(first),)
            found.append((url, ws.Workspace.from_url(url), *said))
        except UsageError as error:
            found.append(error)
    Path("found").write_bytes(pickle.dumps(found))


def saved(reader: Client, *paths: str) -> list[Any]:
    reader.run(save, *paths)
    return pickle.loads((reader.home / "found").read_bytes())


def change_filter(url: str) -> None:
    """Changes a workspace as a user does on the website."""
    board = ws.Workspace.from_url(url)
    board.runset_settings.filters = "Metric('State') == 'finished'"
    board.sections = board.sections[:1]
    board.save()


def two_studies(server: WandbServer) -> None:
    """Adds autoencoders that vary size and depth, classifiers that vary size, width and freezing, and one other run."""
    pictures = ["reconstructions", "latent"]
    media = {f"media/{n}": {"_type": "images/separated", "filenames": [f"{n}.png"]} for n in pictures}
    for size in (5, 20):
        for depth in (1, 2):
            config = {"model": "Autoencoder", "model.latent_dim": size, "model.depth": depth, "data.batch_size": 100}
            summary = {"epoch": 9, "val/mse": {"min": 0.1}, "test/mse": 0.1 / depth, **media}
            add(server, "ae_capacity", config, summary)
        for width in (200, 1000):
            for freeze in (True, False):
                config = {"model.latent_dim": size, "model.mlp_width": width, "model.freeze_encoder": freeze}
                summary = {"train/loss": 0.1, "test/accuracy": 0.9}
                add(server, "transfer", {"model": "Probe", "data.batch_size": 50, **config}, summary)
    add(server, "alone", {"model": "Classifier", "data.batch_size": 10}, {"test/accuracy": 0.99})


def add(server: WandbServer, group: str, config: dict[str, Any], summary: dict[str, Any]) -> None:
    name = f"id{len(server.runs)}"
    server.runs[name] = Run(name, "lab", name, group, config=config, summary=summary, state="finished")


def keys_of(panel: Any) -> str | list[str]:
    """Returns the config keys that a panel shows."""
    if isinstance(panel, wr.ParallelCoordinatesPlot):
        return [column.metric.name for column in panel.columns]
    return panel.groupby.name


def test_the_board_draws_each_metric_by_the_keys_that_vary(
    reader: Client, server: WandbServer, public_api: PublicApi
) -> None:
    two_studies(server)
    [(url, board)] = saved(reader, "tester/lab")
    assert url.startswith(f"{server.url}/tester/lab?nw=")
    assert (board.entity, board.project, board.name) == ("tester", "lab", "genlab")
    varied = ["model.latent_dim", "model.mlp_width", "model.freeze_encoder"]
    keys = [f"config:{key}.value" for key in (*varied, "model.depth")]
    assert board.runset_settings.pinned_columns == [
        "run:displayName",
        *keys,
        "summary:test/accuracy",
        "summary:test/mse",
    ]
    accuracy, error, curves, pictures, differences = board.sections
    assert [section.name for section in board.sections] == [
        "test/accuracy",
        "test/mse",
        "Learning curves",
        "Pictures",
        "Differences",
    ]

    importance, coordinates, *bars = accuracy.panels
    assert importance.with_respect_to == "test/accuracy"
    assert keys_of(coordinates) == [*varied, "test/accuracy"]
    assert [keys_of(panel) for panel in bars] == varied
    assert {(panel.metrics[0].name, panel.groupby_aggfunc, panel.groupby_rangefunc) for panel in bars} == {
        ("test/accuracy", "mean", "stddev")
    }
    assert [keys_of(panel) for panel in error.panels[2:]] == ["model.latent_dim", "model.depth"]

    drawn = [(panel.x.name, panel.y[0].name, keys_of(panel)) for panel in curves.panels]
    assert drawn == [
        *(("epoch", "train/loss", key) for key in varied),
        *(("epoch", "val/mse", key) for key in ("model.latent_dim", "model.depth")),
    ]
    assert [panel.media_keys for panel in pictures.panels] == [["media/latent"], ["media/reconstructions"]]
    assert isinstance(differences.panels[0], wr.RunComparer)

    (view,) = public_api.views.values()  # dotted keys are written as the website does
    assert '"accessor":"config:model.latent_dim.value"' in view["spec"]
    assert '"groupBy":"model.latent_dim.value"' in view["spec"]
    assert "model.value" not in view["spec"]


def test_a_key_with_many_values_does_not_group_runs() -> None:
    runs = [
        SimpleNamespace(
            id=str(i),
            name=str(i),
            state="finished",
            group="random",
            config={"model.lr": i / 100, "model.depth": i % 2},
            summary_metrics={"test/mse": 0.1},
        )
        for i in range(20)
    ]
    error, _, _, _ = sections(contents(runs))
    assert keys_of(error.panels[1]) == ["model.lr", "model.depth", "test/mse"]
    assert [panel.groupby for panel in error.panels[2:]] == ["model.depth.value"]


def test_the_board_of_an_empty_project_is_replaced_and_keeps_what_a_user_changed(
    reader: Client, server: WandbServer, public_api: PublicApi
) -> None:
    public_api.projects.add("empty")
    [(url, first)] = saved(reader, "empty")
    accuracy, error, curves, pictures, _ = first.sections
    for section, metric in ((accuracy, "test/accuracy"), (error, "test/mse")):
        assert section.panels[0].with_respect_to == metric
        assert [keys_of(panel) for panel in section.panels[2:]] == KNOWN_KEYS
    assert {panel.y[0].name for panel in curves.panels} >= {"val/mse", "val/accuracy"}
    assert ["media/reconstructions"] in [panel.media_keys for panel in pictures.panels]
    reader.run(change_filter, url)
    [view] = public_api.views.values()
    spec = json.loads(view["spec"])
    spec["section"]["workspaceSettings"] = {"shouldAutoGeneratePanels": False, "smoothingWeight": 0.5}
    feed = spec["section"]["runSets"][0]["runFeed"]
    feed["columnWidths"], feed["columnPinned"]["config:model.depth.value"] = {"run:displayName": 300}, False
    view |= {"displayName": "Mine", "spec": json.dumps(spec)}
    two_studies(server)
    [(same, second), (other, _)] = saved(reader, "empty", "lab")
    assert same == url != other
    assert len(public_api.views) == 2
    kept = json.loads(public_api.views["empty", view["name"]]["spec"])["section"]
    assert kept["workspaceSettings"] == spec["section"]["workspaceSettings"]
    assert kept["runSets"] == spec["section"]["runSets"]
    assert second.name == "Mine" and "finished" in second.runset_settings.filters
    assert [section.name for section in second.sections] == [section.name for section in first.sections]


def test_a_comparison_draws_what_compares(reader: Client, server: WandbServer, public_api: PublicApi) -> None:
    two_studies(server)
    for run in server.runs.values():
        run.summary |= {"parameters": 100, "seconds": 3.5}
    config, summary = {"model": "Classifier", "data": "Other"}, {"test/accuracy": 0.5, "val/mse": 1.0, "parameters": 9}
    add(server, "other", config, summary)
    (url, board, said), (named_url, named, nothing), (same, _, _) = saved(
        reader, "compare tester/lab", "compare tester/lab transfer alone", "compare tester/lab transfer alone"
    )
    assert url != named_url == same
    assert (board.name, named.name) == ("genlab comparison", "genlab comparison transfer, alone")
    assert said == [
        "left out: test/accuracy, as they compare runs of the same test data only; "
        "--compare alone transfer compares by them"
    ]
    assert nothing == [] and board.runset_settings.filters == ""
    assert named.runset_settings.filters == "Metric(\"Group\") in ['transfer', 'alone']"
    assert [order.item.name for order in named.runset_settings.order] == ["Group", "CreatedTimestamp"]
    recorded = ["summary:parameters", "summary:seconds"]
    first = ["run:displayName", "run:group", "config:model.value", "config:data.value"]
    assert named.runset_settings.pinned_columns == [*first, "summary:test/accuracy", *recorded]
    assert [section.name for section in board.sections][:2] == ["test/mse", "Learning curves"]
    accuracy, curves, pictures, _ = named.sections
    by_group, by_model, parameters, seconds = accuracy.panels
    assert (by_group.groupby, by_model.groupby.name) == ("Group", "model")
    assert [(panel.x.name, panel.y.name, panel.log_x) for panel in (parameters, seconds)] == [
        ("parameters", "test/accuracy", True),
        ("seconds", "test/accuracy", True),
    ]
    assert curves.panels == pictures.panels == []


def test_a_board_that_cannot_be_saved_is_reported_in_one_line(
    reader: Client, server: WandbServer, public_api: PublicApi
) -> None:
    def view(variables: dict[str, Any]) -> dict[str, Any]:
        if variables["name"] == "old":
            raise Refused('Cannot query field "allViews" on type "Project"')
        broken = {"id": "1", "displayName": "", "spec": '{"section": {"panelBankConfig": {}, "runSets": []}}'}
        return {"project": {"allViews": {"edges": [{"node": broken}] * (variables["name"] == "broken")}}}

    public_api.projects |= {"empty", "old", "broken"}
    server.operations |= {"UpsertView2": lambda _: None, "View": view}
    paths = ("tester/nowhere", "a/b/c", "tester/empty", "tester/old", "tester/broken", "compare tester/empty")
    nowhere, no_path, *refused, nothing = saved(reader, *paths)
    assert "the project tester/nowhere" in str(nowhere)
    assert "ENTITY/PROJECT" in str(no_path)
    for error, project in zip(refused, ("empty", "old", "broken"), strict=True):
        assert isinstance(error, UsageError) and "\n" not in str(error)
        assert f"the workspace 'genlab' of tester/{project}" in str(error) and "--name" in str(error)
    assert "no run with a group" in str(nothing)
    del reader.environment["WANDB_API_KEY"]
    assert "wandb login" in str(saved(reader, "tester/lab")[0])
    assert public_api.views == {}
