"""A sweep that the real client logged, or that is on the mock server, read back by the real public API."""

import math
import os
import pickle
import pty
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import wandb

from genlab.report.compare.wandb_runs import read_wandb
from genlab.report.records import SweepData
from genlab.report.wandb_records import load_wandb_sweep
from genlab.runs.errors import UsageError
from tests.wandb_client import Client, finished
from tests.wandb_public_api import PublicApi
from tests.wandb_server import Run, WandbServer

DEFINITION: dict[str, Any] = {
    "name": "capacity",
    "method": "grid",
    "metric": {"name": "test/mse", "goal": "minimize"},
    "parameters": {
        "model.latent_dim": {"values": [2, 8]},
        "model": {"parameters": {"depth": {"values": [1, 2]}}},
        "seed_everything": {"value": 0},
    },
}
CONFIG = {"model": "lit_models.Autoencoder", "model.latent_dim": 2, "model.betas": [0.9, 0.99], "data.root": "data"}


def log(folder: str) -> None:
    """Logs like a short training."""
    from genlab.runs.wandb_run import RunLogger  # its import takes seconds, which the other processes need not spend

    logger = RunLogger(Path(folder), "online", CONFIG, ("val/mse", "min"), name="capacity/one")
    for epoch, score in enumerate((3.0, 1.0, 2.0)):
        logger.log_metrics({"val/mse": score, "train/mse": math.nan, "epoch": epoch}, step=10 * epoch)
    logger.log_image("media/reconstructions", [wandb.Image(np.full((4, 6, 3), 200, np.uint8))], step=20)
    recorded = {"parameters": 70, "seconds": 12.5, "hardware": "CPU", "ended_early": True}
    logger.close(0, {"test/mse": 1.5, "test/worst": math.inf, **recorded})


def load(*paths: str) -> None:
    """Reads sweeps, and runs to compare, and writes the data or the error of each to a file."""
    found: list[object] = []
    for path in paths:
        what = path.removeprefix("compare:")
        try:
            runs = [replace(run, remote=None) for run in read_wandb(what)] if what != path else None
            found.append(runs or load_wandb_sweep(path, Path("cache")))
        except UsageError as error:
            found.append(error)
    Path("found").write_bytes(pickle.dumps(found))


def loaded(reader: Client, path: str) -> SweepData:
    output = reader.run(load, path)
    (data,) = pickle.loads((reader.home / "found").read_bytes())
    assert isinstance(data, SweepData), (data, output)
    return data


def error_messages(reader: Client) -> list[str]:
    """Returns the error of each path of a finished `load`."""
    errors = pickle.loads((reader.home / "found").read_bytes())
    assert all(isinstance(error, UsageError) and "\n" not in str(error) for error in errors)
    return [str(error) for error in errors]


def many_runs(server: WandbServer, sweep: str, count: int) -> list[Run]:
    """Adds runs as the file stream stores them: finished ones, and every tenth crashed before its test."""
    runs = []
    for i in range(count):
        run = Run(f"id{i}", "genlab", f"capacity/{i}", config={"model.latent_dim": i % 4}, sweep=sweep)
        run.rows = {step: {"_step": step, "epoch": step, "val/mse": 1 / (step + i + 1)} for step in range(5)}
        run.summary = {"_step": 4, "_runtime": 7.5, "epoch": 4, "val/mse": {"min": 1 / (i + 5)}}
        run.state = "crashed" if i % 10 == 9 else "finished"
        if run.state == "finished":
            run.summary["test/mse"] = float(i)
        runs.append(run)
    server.runs |= {run.id: run for run in runs}
    return runs


def test_a_run_is_read_as_it_was_logged(reader: Client, server: WandbServer, public_api: PublicApi) -> None:
    sweep = server.add_sweep(DEFINITION | {"parameters": {"model.latent_dim": {"values": [2, 8]}}})
    sweep.config = DEFINITION
    reader.environment |= {"WANDB_SWEEP_ID": sweep.id, "WANDB_RUN_ID": "abc", "WANDB_PROJECT": "genlab"}
    reader.run(log, "run")
    assert server.runs["abc"].sweep == sweep.id
    same_name = Run("xyz", "genlab", "capacity/one", sweep=sweep.id, state="failed", summary={"val/mse": {"min": 0.5}})
    server.runs |= {"xyz": same_name, "other": Run("other", "genlab", "elsewhere")}

    data = loaded(reader, f"tester/genlab/{sweep.id}")
    assert (data.name, data.metric, data.goal) == ("capacity", "test/mse", "minimize")
    assert data.parameters == ["model.depth", "model.latent_dim", "seed_everything"]
    first, second = data.runs.to_dict("records")
    assert second["run"] == "capacity/one xyz"
    assert (second["state"], second["val/mse"]) == ("failed", 0.5)
    worst = first.pop("train/mse")
    assert math.isnan(worst)
    assert first == {
        "run": "capacity/one abc",
        "diverged": "test/worst train/mse",
        "state": "ended early",
        "seconds": 12.5,
        "model": "lit_models.Autoencoder",
        "model.latent_dim": 2,
        "model.betas": "[0.9, 0.99]",
        "data.root": "data",
        "val/mse": 1.0,
        "test/mse": 1.5,
        "test/worst": math.inf,
    }

    history = data.histories["capacity/one abc"]
    assert list(history.columns[:3]) == ["step", "epoch", "seconds"] and history["seconds"].is_monotonic_increasing
    assert set(history.columns[3:]) == {"val/mse", "train/mse"}
    assert history["step"].tolist() == [0, 10, 20, 20]
    assert history["val/mse"].tolist()[:3] == [3.0, 1.0, 2.0]
    assert history["train/mse"].isna().all()
    assert data.histories["capacity/one xyz"].empty

    (picture,) = data.pictures["capacity/one abc"]
    assert picture.startswith("../cache/abc/media/images/media/reconstructions")
    assert (reader.home / "report" / picture).resolve().read_bytes().startswith(b"\x89PNG")
    assert data.links["capacity/one abc"] == {"W&B": f"{server.url}/tester/genlab/runs/abc"}


def test_many_runs_need_one_request_each_and_can_be_reported(
    reader: Client, server: WandbServer, public_api: PublicApi, tmp_path: Path
) -> None:
    sweep = server.add_sweep({**DEFINITION, "parameters": {"model.latent_dim": {"values": [0, 1, 2, 3]}}})
    runs = many_runs(server, sweep.id, 250)
    server.runs["other"] = Run("other", "genlab", "elsewhere")  # without a config
    paths = (f"tester/genlab/{sweep.id}", f"compare:tester/genlab/{sweep.id}", "compare:tester/genlab")
    reader.run(load, *paths)
    data, of_sweep, of_project = pickle.loads((reader.home / "found").read_bytes())
    assert len(of_sweep) == len(of_project) == 250 and str(of_sweep[7]) == "capacity/7"
    assert data.runs["run"].tolist() == [run.name for run in runs]
    assert data.runs["state"].value_counts().to_dict() == {"finished": 225, "lost": 25}
    assert data.runs["val/mse"].tolist() == [1 / (i + 5) for i in range(250)]
    assert data.runs["seconds"].eq(7.5).all()
    assert data.histories["capacity/7"]["val/mse"].tolist() == [1 / (step + 8) for step in range(5)]
    asked = [request.split()[-1] for request in server.requests]
    assert asked.count("Runs") == 9
    assert asked.count("RunFullHistory") == 250
    assert asked.count("RunFiles") == 0

    from genlab.report.writer import write_report_files

    names = [path.name for path in write_report_files(data, tmp_path / "report")]
    assert {"index.html", "runs.csv", "test_mse.png"} <= set(names)


def test_a_picture_that_fails_to_download_is_linked(reader: Client, server: WandbServer, public_api: PublicApi) -> None:
    sweep = server.add_sweep({**DEFINITION, "parameters": {}})
    names = [f"media/images/{name}.png" for name in ("here", "gone")]
    summary = {"media/all": {"_type": "images/separated", "filenames": names}, "text": {"_type": "table-file"}}
    files = {name: b"picture" for name in names}
    server.runs["abc"] = Run("abc", "genlab", "one", summary=summary, files=files, sweep=sweep.id, state="finished")
    public_api.broken.add(names[1])
    here, gone = loaded(reader, f"tester/genlab/{sweep.id}").pictures["one"]
    assert here == "../cache/abc/media/images/here.png"
    assert gone.startswith("http://127.0.0.1")
    assert not (reader.home / "cache" / "abc" / names[1]).exists()


def test_a_missing_sweep_is_reported_in_one_line(reader: Client, server: WandbServer, public_api: PublicApi) -> None:
    empty = server.add_sweep({**DEFINITION, "parameters": {}}).id
    reader.run(load, f"genlab/{empty}", "tester/genlab/missing", "tester/nowhere/x", empty)
    no_runs, no_sweep, no_project, no_place = error_messages(reader)
    assert "has no runs yet" in no_runs
    assert "the sweep tester/genlab/missing" in no_sweep
    assert "the sweep tester/nowhere/x" in no_project
    assert "missing project" in no_place


def test_an_unreachable_server_is_reported_in_one_line(reader: Client, server: WandbServer) -> None:
    server.stop()
    reader.run(load, "tester/genlab/x")
    assert "W&B cannot be used" in error_messages(reader)[0]


def test_without_a_key_there_is_no_prompt_at_a_terminal(reader: Client, server: WandbServer) -> None:
    del reader.environment["WANDB_API_KEY"]
    terminal, end = pty.openpty()
    process = reader.start(load, "tester/genlab/x", stdin=end, stdout=end, stderr=end)
    os.close(end)
    finished(process)
    os.close(terminal)
    assert "wandb login" in error_messages(reader)[0]
    assert server.requests == []
