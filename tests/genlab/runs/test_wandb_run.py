"""RunLogger and the real wandb client against a mock server: keys, unreachable servers, resuming, `wandb sync`.

Tests that need the client's process-global state run it in a separate process with a private home and no network.
"""

import csv
import json
import os
import pty
import re
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import wandb
import yaml
from lightning.pytorch.loggers import WandbLogger
from wandb.sdk.launch.sweeps.utils import create_sweep_command_args

import genlab.runs.wandb_run
from genlab.runs.errors import UsageError
from genlab.runs.folder import RunOptions, WandbMode
from genlab.runs.wandb_access import require_wandb
from genlab.runs.wandb_run import FINISH_SECONDS, RunLogger, own_arguments, resolve_mode
from genlab.runs.wandb_variables import (
    check_variables,
    heeded_variables,
    init_arguments,
    keys_swept_by_agent,
    wandb_folder,
    with_values_of_agent,
)
from genlab.sweep.definition import command_arguments
from tests import HANG_SECONDS, wait_for
from tests.helpers import fit
from tests.wandb_artifacts import Artifacts
from tests.wandb_client import KEY, Client, finished
from tests.wandb_server import Refused, Run, WandbServer

CONFIG = {"model.latent_dim": 2, "model.optimizer.lr": 1e-3, "data.batch_size": 64, "trainer.max_epochs": 3}


def logger_in(folder: str, mode: str) -> RunLogger:
    monitor = ("val/mse", "min")
    init: dict[str, Any] = {"id": "abc", "name": "exp/default", "project": "lab", "group": "exp", "tags": ["small"]}
    return RunLogger(Path(folder), mode, CONFIG, monitor, **init)


def log_run(folder: str, wanted: WandbMode = "auto") -> None:
    """Logs like a short training: a score that improves and gets worse again, a tag, a picture, and test metrics."""
    before = dict(os.environ)
    logger = logger_in(folder, resolve_mode(wanted))
    for epoch, score in enumerate((3.0, 1.0, 2.0)):
        logger.log_metrics({"val/mse": score}, step=10 * epoch)
        logger.tag("collapsed")
    logger.log_image("samples", [wandb.Image(np.full((4, 6, 3), 200, np.uint8))], step=20)
    logger.close(0, {"test/mse": 1.5})
    os.environ.pop("WANDB_SERVICE", None)  # set by the client for processes that it starts
    assert os.environ == before


def log_run_patiently(folder: str) -> None:
    """Does the same with very long timeouts for the start and end of the W&B run."""
    genlab.runs.wandb_run.START_SECONDS = genlab.runs.wandb_run.FINISH_SECONDS = 10 * HANG_SECONDS
    log_run(folder)


def log_run_without_stdin(folder: str) -> None:
    os.close(0)
    log_run(folder)


def log_twice(folder: str, mode: str) -> None:
    """Logs a run that fails and is resumed in the same process."""
    for start, exit_code in ((0, 1), (2, 0)):
        time.sleep(1)  # W&B puts the time in seconds into the folder's name
        logger = logger_in(folder, mode)
        for epoch in range(start, start + 2):
            logger.log_metrics({"val/mse": 4.0 - epoch}, step=10 * epoch)
        logger.close(exit_code, {"val/mse": 3.0 - start})


def log_through_a_failure(folder: str, finish_seconds: float) -> None:
    """Logs two epochs, waits for a line on stdin, logs three more, and prints how long closing took."""
    genlab.runs.wandb_run.FINISH_SECONDS = finish_seconds
    logger = logger_in(folder, "online")
    for epoch in range(5):
        if epoch == 2:
            print("ready", flush=True)
            sys.stdin.readline()
        logger.log_metrics({"val/mse": 5.0 - epoch}, step=10 * epoch)
    begun = time.monotonic()
    logger.close(0, {"test/mse": 1.5})
    print(f"closed in {time.monotonic() - begun:.1f} s", flush=True)


def log_named_by_variables(folder: str) -> None:
    """Logs a run without options of its own, online and then offline."""
    home = Path(folder)
    init = init_arguments(RunOptions(), home, "ours", named=False)
    for mode in ("online", "offline"):
        logger = RunLogger(wandb_folder(home), mode, CONFIG, None, **init | {"id": mode})
        logger.log_metrics({"val/mse": 3.0}, step=0)
        logger.close(0)
    print(heeded_variables(init, wandb_folder(home)))


OWN_LOGGER = """
from lightning.pytorch.loggers import WandbLogger

class Shouting(WandbLogger):
    def log_metrics(self, metrics, step=None):
        super().log_metrics({name.upper(): value for name, value in metrics.items()}, step)
"""


def train_with_own_logger(folder: str) -> None:
    """Trains for two epochs, and resumes the run for a third one."""
    sys.path.insert(0, folder)
    args = ["--trainer.logger=mine.Shouting", "--trainer.logger.project=p", "--run.notes=why", "--run.save_code=true"]
    args += ['--trainer.logger.settings={"x_disable_stats": true}']
    args += ["--training_gif.every_n_epochs=9", "--run.name=r"]
    fit(Path(folder), *args, "--run.pictures=true")
    time.sleep(1)
    fit(Path(folder), *args, "--ckpt_path=last", "--trainer.max_epochs=3")


def sync_command(output: str) -> str:
    """Returns the one `wandb sync` command in the output of a client."""
    commands = re.findall(r"`(wandb sync .*?)`", output)
    assert len(commands) == 1, output
    return commands[0]


def assert_arrived(run: Run) -> None:
    """Checks that everything that `log_run` logs has arrived exactly once."""
    assert (run.project, run.name, run.group, run.tags) == ("lab", "exp/default", "exp", ["small", "collapsed"])
    assert run.config == CONFIG
    assert run.column("_step") == [0, 1, 2, 3]
    assert run.column("val/mse") == [3.0, 1.0, 2.0]
    assert run.column("trainer/global_step") == [0, 10, 20, 20]
    assert run.summary["val/mse"] == {"min": 1.0}
    assert run.summary["test/mse"] == 1.5
    assert (run.state, run.exit_code) == ("finished", 0)
    (picture,) = (content for name, content in run.files.items() if name.startswith("media/images/samples"))
    assert picture.startswith(b"\x89PNG")


def assert_resumed(run: Run) -> None:
    """Checks that everything that `log_twice` logs has arrived exactly once."""
    assert run.summary["val/mse"] == 1.0
    assert run.column("val/mse") == [4.0, 3.0, 2.0, 1.0]
    assert run.column("_step") == [0, 1, 2, 3]
    assert run.config == CONFIG
    assert (run.state, run.exit_code) == ("finished", 0)


@pytest.mark.parametrize(
    ("wanted", "variable", "mode"),
    [
        ("auto", "online", "online"),
        ("auto", "offline", "offline"),
        ("auto", "dryrun", "offline"),
        ("auto", "disabled", "disabled"),
        ("offline", "online", "offline"),
        ("disabled", "online", "disabled"),
        ("online", "offline", "online"),
        ("shared", "offline", "online"),
    ],
)
def test_the_option_takes_precedence_over_the_variable(
    wanted: WandbMode, variable: str, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", variable)
    assert resolve_mode(wanted) == mode


FROM_VARIABLES = {
    "PROJECT": ("project", "p"),
    "ENTITY": ("entity", "e"),
    "RUN_GROUP": ("group", "g"),
    "TAGS": ("tags", ["t", "u"]),
    "NAME": ("name", "n"),
    "NOTES": ("notes", "why"),
    "JOB_TYPE": ("job_type", "j"),
}
"""Variables, the arguments of wandb.init that they give, and values."""


@pytest.mark.parametrize("given", ["nothing", "empty variables", "variables", "options"])
def test_an_option_wins_over_a_variable_and_a_variable_over_our_default(
    given: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected: dict[str, Any] = {"project": "genlab", "group": "exp", "name": "exp/r", "resume": "allow", "id": "ours"}
    expected["save_code"] = False
    values: dict[str, Any] = dict(FROM_VARIABLES.values()) | {"save_code": True}
    if given != "nothing":
        for name, (_, value) in [*FROM_VARIABLES.items(), ("SAVE_CODE", ("save_code", "true"))]:
            text = ",".join(value) if isinstance(value, list) else value
            monkeypatch.setenv(f"WANDB_{name}", "" if given == "empty variables" else text)
    options = {"project": "P", "entity": "E", "group": "G", "tags": [], "notes": "N", "job_type": "J"}
    options |= {"save_code": False}
    if given == "variables":
        monkeypatch.setenv("WANDB_RUN_ID", "i")
        monkeypatch.setenv("WANDB_RESUME", "must")
        expected |= values | {"id": "i", "resume": "must"}
    elif given == "options":
        expected |= options
    chosen = RunOptions(**options if given == "options" else {}, name="r")
    init = init_arguments(chosen, Path("runs/exp/r"), "ours", named=given == "options")
    assert init == expected
    said = heeded_variables(init, Path("runs/exp/r"))
    assert said.count("WANDB_") == (10 if given == "variables" else 0)
    monkeypatch.setenv("WANDB_SWEEP_ID", "s")
    assert given != "variables" or "group g (WANDB_RUN_GROUP), tags t,u (WANDB_TAGS), name n" in said
    assert not {"project", "entity", "id"} & set(heeded_variables(init, Path("runs/exp/r")).split())


@pytest.mark.parametrize(
    ("name", "value"),
    [("MODE", "foo"), ("INIT_TIMEOUT", "soon"), ("PROJECT", "a/b"), ("RUN_ID", "a:b"), ("DIR", "/dev/null/x")],
)
def test_a_variable_that_wandb_refuses_is_named(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_MODE")
    check_variables()
    monkeypatch.setenv(f"WANDB_{name}", value)
    for check in (check_variables, require_wandb):
        with pytest.raises(UsageError, match=f"the environment variable WANDB_{name}={value} is refused"):
            check()


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"console": "none", "silentt": True}, r"console: .*'auto'.*; silentt: Extra"),
        ({"api_key": KEY}, "settings.api_key of the logger would be recorded"),
    ],
)
def test_settings_of_a_users_own_logger_are_checked(settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(UsageError, match=reason) as refused:
        own_arguments(WandbLogger(settings=settings))
    assert KEY not in str(refused.value)


@pytest.mark.parametrize("macro", ["${args}", "${args_no_equals}"])
def test_the_values_of_wandb_agent_are_read(macro: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"a": None, "b": {"c": None, "d": 1}, "e": [1, 2], "f": "None"}
    (tmp_path / "run.yaml").write_text(
        yaml.safe_dump({"wandb_version": 1} | {key: {"value": value} for key, value in values.items()})
    )
    agents = create_sweep_command_args({"args": {key: {"value": value} for key, value in values.items()}})
    args = ["fit", "--x=None", *agents[macro[2:-1]]]
    assert with_values_of_agent(args) == args
    monkeypatch.setenv("WANDB_SWEEP_PARAM_PATH", str(tmp_path / "run.yaml"))
    assert with_values_of_agent(args) == command_arguments(["fit", "--x=None", macro], values)


def test_an_agents_run_is_named_by_what_its_sweep_varies(monkeypatch: pytest.MonkeyPatch) -> None:
    """W&B is asked once in a process."""
    swept = {"data.root": {"values": ["/a", "/b"]}, "model": {"parameters": {"init_args.depth": {"min": 1, "max": 3}}}}
    swept |= {"data.size": {"value": 8}, "data.seed": {"values": [1]}}
    asked: list[str] = []

    class Api:
        def sweep(self, path: str) -> Any:
            asked.append(path)
            return SimpleNamespace(config={"parameters": swept})

    monkeypatch.setattr(wandb, "Api", Api)
    assert keys_swept_by_agent() == [] == asked
    for name, value in {"ENTITY": "e", "PROJECT": "p", "SWEEP_ID": "s"}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    assert keys_swept_by_agent() == keys_swept_by_agent() == ["data.root", "model.depth"] and asked == ["e/p/s"]


def test_an_operation_that_the_mock_server_does_not_know_is_an_error() -> None:
    with WandbServer() as server:
        body = json.dumps({"query": "query Sweeps { sweeps }"}).encode()
        with pytest.raises(urllib.error.HTTPError, match="400"):
            urllib.request.urlopen(f"{server.url}/graphql", body, timeout=10)
    with pytest.raises(AssertionError, match="unknown operation Sweeps"):
        server.check()


def test_a_hanging_teardown_is_abandoned(monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()
    monkeypatch.setattr(wandb, "teardown", released.wait)
    monkeypatch.setattr(genlab.runs.wandb_run, "TEARDOWN_SECONDS", 0.1)
    begun = time.monotonic()
    genlab.runs.wandb_run._tear_down()
    assert time.monotonic() - begun < 5
    released.set()


def test_without_a_key_a_run_is_offline_and_sync_sends_it_once(client: Client, server: WandbServer) -> None:
    output = client.run(log_run_without_stdin, "run")
    (folder,) = client.home.glob("run/wandb/offline-run-*")
    assert server.requests == []
    assert output == ""

    client.environment["WANDB_API_KEY"] = KEY
    client.sync(f"wandb sync {folder}")
    assert_arrived(server.runs["abc"])
    requests = len(server.requests)
    client.sync(f"wandb sync {folder}")
    assert len(server.requests) == requests
    client.sync(f"wandb sync --include-synced {folder}")
    assert_arrived(server.runs["abc"])


def test_online_without_a_key_does_not_prompt_at_a_terminal(client: Client, server: WandbServer) -> None:
    terminal, end = pty.openpty()
    process = client.start(log_run, "run", "online", stdin=end, stdout=end, stderr=end)
    os.close(end)
    finished(process)
    output = os.read(terminal, 10_000).decode()
    os.close(terminal)
    assert "no API key" in output
    assert "choice" not in output
    assert server.requests == []


def test_a_malformed_key_leaves_the_run_offline(client: Client, server: WandbServer) -> None:
    client.environment["WANDB_API_KEY"] = KEY[:39]
    output = client.run(log_run, "run")
    assert len(output.splitlines()) == 1
    assert "40+ characters" in output
    assert "logging offline" in output
    assert list(client.home.glob("run/wandb/offline-run-*"))
    assert server.requests == []


def test_a_run_arrives(online: Client, server: WandbServer) -> None:
    online.run(log_run, "run")
    assert_arrived(server.runs["abc"])


def test_variables_say_where_a_run_arrives(online: Client, server: WandbServer) -> None:
    """They reach the server, the client's files are in WANDB_DIR, and a home that cannot be written prints nothing."""
    words = {name: ",".join(value) for name, (_, value) in FROM_VARIABLES.items() if isinstance(value, list)}
    words = {name: str(value) for name, (_, value) in FROM_VARIABLES.items()} | words
    words |= {"SAVE_CODE": "true", "DIR": str(online.home / "elsewhere"), "SILENT": "true"}
    cache = online.environment.pop("WANDB_CACHE_DIR")
    online.environment |= {f"WANDB_{name}": value for name, value in words.items()} | {"HOME": "/proc"}
    output = online.run(log_named_by_variables, "runs/exp/r")
    assert not (online.home / "runs").exists() and list(server.runs) == ["online"]
    [said] = [line for line in output.splitlines() if "atplotlib" not in line]
    assert all(f"(WANDB_{name})" in said for name in words if name != "SILENT")
    online.environment["WANDB_CACHE_DIR"] = cache
    online.sync(f"wandb sync {next(online.home.glob('elsewhere/wandb/offline-run-*-offline'))}")
    for run in (server.runs["online"], server.runs["offline"]):
        assert {name: getattr(run, name) for name, _ in FROM_VARIABLES.values()} == dict(FROM_VARIABLES.values())
        assert run.state == "finished"


def test_a_users_own_logger_logs_to_our_run(online: Client, server: WandbServer) -> None:
    """It logs each metric once, in its own way, and sets its project; all else is as without it."""
    online.environment |= {"WANDB_JOB_TYPE": "j", "WANDB_PROJECT": "not-this"}
    artifacts = Artifacts(server)
    (online.home / "mine.py").write_text(OWN_LOGGER)
    output = online.run(train_with_own_logger, str(online.home))
    folder = online.home / "autoencoder_digits" / "r"
    summary = json.loads((folder / "summary.json").read_text())
    assert output.count("W&B: job_type j (WANDB_JOB_TYPE)\n") == 2
    [run] = server.runs.values()
    assert (run.project, run.name, run.notes, run.job_type) == ("p", "autoencoder_digits/r", "why", "j")
    assert (run.state, run.config["trainer.max_epochs"], summary["wandb_id"]) == ("finished", 3, run.id)
    assert run.summary["test/mse"] == pytest.approx(summary["metrics"]["test/mse"])
    assert [key for key in run.config if ".settings." in key] == ["trainer.logger.settings.x_disable_stats"]
    rows = list(csv.DictReader((folder / "metrics.csv").open()))
    for name in ("val/mse", "train/mse"):
        logged = [pytest.approx(float(row[name])) for row in rows if row[name]]
        assert (run.column(name.upper()), run.column(name)) == (logged, [])
    assert {1, 2, 3} <= set(run.column("EPOCH")) and 0 not in run.column("EPOCH")
    assert any(name.startswith("media/images/MEDIA/CURVES") for name in run.files)
    [code] = artifacts.of_type("code")
    assert artifacts.names(code) == ["mine.py"]


def test_a_resumed_offline_run_keeps_its_history(online: Client, server: WandbServer) -> None:
    online.run(log_twice, "run", "offline")
    assert server.requests == []
    first, second = sorted(online.home.glob("run/wandb/offline-run-*"))
    online.sync(f"wandb sync {first}")
    assert server.runs["abc"].column("val/mse") == [4.0, 3.0]
    assert server.runs["abc"].state == "failed"
    online.sync(f"wandb sync {second}")
    assert_resumed(server.runs["abc"])


def test_an_unreachable_server_costs_seconds(online: Client, server: WandbServer) -> None:
    server.stop()
    begun = time.monotonic()
    output = online.run(log_run_patiently, "run")
    assert time.monotonic() - begun < FINISH_SECONDS
    command = sync_command(output)

    server.start()
    online.sync(command)
    assert_arrived(server.runs["abc"])


def test_a_server_that_refuses_the_run_leaves_it_offline(online: Client, server: WandbServer) -> None:
    def refuse(variables: dict[str, Any]) -> dict[str, Any]:
        raise Refused("no such team")

    upsert, server.operations["UpsertBucket"] = server.operations["UpsertBucket"], refuse
    output = online.run(log_run, "run")
    assert "no such team" in output

    server.operations["UpsertBucket"] = upsert
    online.sync(sync_command(output))
    assert_arrived(server.runs["abc"])


def test_a_server_that_stops_during_a_run_loses_nothing(online: Client, server: WandbServer) -> None:
    with online.start(log_through_a_failure, "run", 3.0, stdin=subprocess.PIPE) as process:
        assert process.stdin and process.stdout
        while process.stdout.readline() != "ready\n":
            assert process.poll() is None
        wait_for(lambda: len(server.runs["abc"].history) == 2)
        server.stop()
        process.stdin.write("\n")
        output = finished(process)
    closed = re.search(r"closed in ([\d.]+) s", output)
    assert closed and float(closed[1]) < 10
    assert server.runs["abc"].column("val/mse") == [5.0, 4.0]
    assert server.runs["abc"].state == "running"

    server.start()
    online.sync(sync_command(output))
    run = server.runs["abc"]
    assert run.column("val/mse") == [5.0, 4.0, 3.0, 2.0, 1.0]
    assert run.column("_step") == [0, 1, 2, 3, 4]
    assert run.summary["val/mse"] == {"min": 1.0}
    assert run.state == "finished"
