"""The board that the real wandb-workspaces saves on the mock server and reads back."""

import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import wandb_workspaces.reports.v2 as wr
import wandb_workspaces.workspaces as ws

from genlab.report.board import KNOWN_KEYS, contents, save_board, sections
from genlab.runs.errors import UsageError
from tests.wandb_client import Client
from tests.wandb_public_api import PublicApi
from tests.wandb_server import Run, WandbServer


def save(*paths: str) -> None:
    """Saves boards, and writes their URLs and the workspaces read back from there to a file."""
    found: list[object] = []
    for path in paths:
        try:
            url = save_board(path)
            found.append((url, ws.Workspace.from_url(url)))
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
    varied = ["model.latent_dim", "model.mlp_width", "model.freeze_encoder"]
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


def test_dotted_keys_are_written_as_the_website_does(
    reader: Client, server: WandbServer, public_api: PublicApi
) -> None:
    two_studies(server)
    saved(reader, "tester/lab")
    (view,) = public_api.views.values()
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


def test_a_saved_board_is_replaced(reader: Client, server: WandbServer, public_api: PublicApi) -> None:
    public_api.projects.add("empty")
    [(url, first)] = saved(reader, "empty")
    reader.run(change_filter, url)
    two_studies(server)
    [(same, second), (other, _)] = saved(reader, "empty", "lab")
    assert same == url != other
    assert len(public_api.views) == 2
    assert "finished" in second.runset_settings.filters
    assert [section.name for section in second.sections] == [section.name for section in first.sections]


def test_an_empty_project_gets_the_default_names_of_genlab(
    reader: Client, server: WandbServer, public_api: PublicApi
) -> None:
    public_api.projects.add("empty")
    [(_, board)] = saved(reader, "tester/empty")
    accuracy, error, curves, pictures, _ = board.sections
    for section, metric in ((accuracy, "test/accuracy"), (error, "test/mse")):
        assert section.panels[0].with_respect_to == metric
        assert [keys_of(panel) for panel in section.panels[2:]] == KNOWN_KEYS
    assert {panel.y[0].name for panel in curves.panels} >= {"val/mse", "val/accuracy"}
    assert ["media/reconstructions"] in [panel.media_keys for panel in pictures.panels]


def test_a_board_that_cannot_be_saved_is_reported_in_one_line(
    reader: Client, server: WandbServer, public_api: PublicApi
) -> None:
    public_api.projects.add("empty")
    server.operations["UpsertView2"] = lambda _: None
    nowhere, no_path, null = saved(reader, "tester/nowhere", "a/b/c", "tester/empty")
    assert "the project tester/nowhere" in str(nowhere)
    assert "ENTITY/PROJECT" in str(no_path)
    assert isinstance(null, UsageError) and "the workspaces of tester/empty" in str(null)
    del reader.environment["WANDB_API_KEY"]
    assert "wandb login" in str(saved(reader, "tester/lab")[0])
    assert public_api.views == {}
