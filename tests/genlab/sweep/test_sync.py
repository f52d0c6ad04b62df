"""`sweep.py sync`: the runs of an offline sweep are sent to W&B once, even after interruptions."""

import json
import os
import signal
import socket
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import wandb

from genlab.runs.errors import UsageError
from genlab.runs.folder import write_summary
from genlab.sweep.sync import sync
from tests import HANG_SECONDS, preloaded, wait_for
from tests.wandb_client import Client, finished
from tests.wandb_server import Refused, WandbServer


def send(folder: str, **place: str) -> None:
    """Syncs a folder; the last line of output is the result."""
    try:
        print(json.dumps(asdict(sync(Path(folder), **place))))
    except UsageError as error:
        print(f"error: {error}")
        sys.exit(2)


def log_offline(*names: str) -> None:
    """Logs the runs of a sweep offline; the name of a run says how it ends."""
    for name in names:
        log_part(name, [1.0, 2.0], int(name.startswith("failed")))
        if name.startswith("resumed"):
            time.sleep(1.1)  # W&B puts the time in seconds into the folder's name
            log_part(name, [3.0], 0)
    for name in names:
        if name.startswith("killed"):
            (file,) = Path("runs/study", name).glob("wandb/offline-run-*/run-*.wandb")
            file.write_bytes(file.read_bytes()[:7])  # as W&B's client leaves it when it is killed at the start


def log_part(name: str, scores: list[float], exit_code: int) -> None:
    folder = Path("runs/study", name)
    folder.mkdir(parents=True, exist_ok=True)
    init: dict[str, Any] = {"project": "lab", "group": "study", "name": f"study/{name}", "config": {"model.depth": 2}}
    settings = wandb.Settings(silent=True)
    files = folder
    if name.startswith("elsewhere"):  # as with WANDB_DIR
        files = Path("files").resolve()
        files.mkdir(exist_ok=True)
        write_summary(folder, {"wandb_id": name, "wandb_dir": str(files)})
    run = wandb.init(mode="offline", dir=files, id=name, resume="allow", settings=settings, **init)
    for score in scores:
        run.log({"score": score})
    run.finish(exit_code=exit_code)


def result(output: str) -> dict[str, Any]:
    return {key: value for key, value in json.loads(output.splitlines()[-1]).items() if value}


def test_a_sweep_is_sent_once(online: Client, server: WandbServer) -> None:
    online.run(log_offline, "plain", "failed", "resumed", "killed", "running", "elsewhere")
    write_summary(online.home / "runs/study/running", {"state": "running", "host": socket.gethostname(), "pid": 1})
    assert server.requests == []

    assert result(online.run(send, "runs/study")) == {
        "sent": ["elsewhere", "failed", "plain", "resumed"],
        "running": ["running"],
        "empty": ["killed"],
    }
    runs = server.runs
    assert {name: (run.state, run.column("score")) for name, run in runs.items()} == {
        "elsewhere": ("finished", [1, 2]),
        "plain": ("finished", [1, 2]),
        "failed": ("failed", [1, 2]),
        "resumed": ("finished", [1, 2, 3]),
    }
    assert all(run.column("_step") == [*range(len(run.rows))] for run in runs.values())
    assert all((run.project, run.group, run.config) == ("lab", "study", {"model.depth": 2}) for run in runs.values())
    assert runs["plain"].name == "study/plain"

    requests = len(server.requests)
    write_summary(online.home / "runs/study/running", {"state": "finished"})
    output = online.run(send, "runs/study")
    assert result(output)["sent"] == ["running"]
    assert result(output)["sent_before"] == ["elsewhere", "failed", "plain", "resumed"]
    assert not any(f"/{name}/" in request for request in server.requests[requests:] for name in ("plain", "failed"))


def test_a_run_that_cannot_be_sent_does_not_block_the_others(online: Client, server: WandbServer) -> None:
    online.run(log_offline, "damaged", "other", "refused")
    (file,) = online.home.glob("runs/study/damaged/wandb/offline-run-*/run-*.wandb")
    file.write_bytes(file.read_bytes()[:300])
    upsert = server.operations["UpsertBucket"]

    def refuse(variables: dict[str, Any]) -> dict[str, Any]:
        if variables["name"] == "refused":
            raise Refused("no such team")
        return upsert(variables)

    server.operations["UpsertBucket"] = refuse
    output = online.run(send, "runs/study")
    assert result(output)["sent"] == ["other"]
    assert set(result(output)["failed"]) == {"damaged", "refused"}
    assert "refused was not sent: " in output
    assert "no such team" in output
    server.operations["UpsertBucket"] = upsert
    assert result(online.run(send, "runs/study"))["sent"] == ["refused"]


def test_an_interrupted_sync_can_be_continued(online: Client, server: WandbServer) -> None:
    names = [f"plain{number}" for number in range(5)]
    online.run(log_offline, *names)
    upsert = server.operations["UpsertBucket"]
    interrupted, heard = threading.Event(), []

    def sent() -> list[Path]:
        return list(online.home.glob("runs/study/*/wandb/offline-run-*/*.synced"))

    def slow(variables: dict[str, Any]) -> dict[str, Any]:
        """Answers only the first run before the interruption."""
        heard.append(variables["name"])
        if variables["name"] != heard[0]:
            server._lock.release()
            interrupted.wait(HANG_SECONDS)
            server._lock.acquire()
        return upsert(variables)

    server.operations["UpsertBucket"] = slow
    online.executable = preloaded.PLAIN_PYTHON  # so that the process group that is killed is its own
    process = online.start(send, "runs/study", start_new_session=True)
    wait_for(lambda: bool(sent()))
    again = online.start(send, "runs/study")
    output, _ = again.communicate(timeout=HANG_SECONDS)
    assert again.returncode == 2
    assert "another sync" in output
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    time.sleep(3)  # W&B's service process notices it and ends
    interrupted.set()
    assert len(sent()) == 1

    assert len(result(online.run(send, "runs/study"))["sent"]) <= len(names) - 1
    assert sorted(server.runs) == names
    assert all((run.state, run.column("score")) == ("finished", [1, 2]) for run in server.runs.values())


def test_the_client_of_a_killed_sync_keeps_the_lock(online: Client, server: WandbServer) -> None:
    online.run(log_offline, "plain")
    upsert = server.operations["UpsertBucket"]

    def slow(variables: dict[str, Any]) -> dict[str, Any]:
        server.operations["UpsertBucket"] = upsert
        time.sleep(4)
        return upsert(variables)

    server.operations["UpsertBucket"] = slow
    online.executable = preloaded.PLAIN_PYTHON  # so that the process group that is killed is its own
    process = online.start(send, "runs/study")
    wait_for(lambda: any("RunResumeStatus" in request or "UpsertBucket" in request for request in server.requests))
    process.kill()
    process.wait()
    again = online.start(send, "runs/study")
    assert "another sync" in again.communicate(timeout=HANG_SECONDS)[0]
    wait_for(lambda: "plain" in server.runs and server.runs["plain"].state == "finished")


def test_project_and_entity_are_options(online: Client, server: WandbServer) -> None:
    online.run(log_offline, "plain")
    process = online.python(
        "-c",
        "import tests.genlab.sweep.test_sync as t; t.send('runs/study', project='other', entity='tester')",
    )
    assert result(finished(process))["sent"] == ["plain"]
    assert server.runs["plain"].project == "other"


@pytest.mark.parametrize(
    ("environment", "folder", "reason"),
    [
        ({}, "runs/none", "contains no offline runs"),
        ({"WANDB_API_KEY": ""}, "runs/study", "no W&B API key"),
        ({"WANDB_BASE_URL": "http://127.0.0.1:9"}, "runs/study", "cannot be reached"),
    ],
)
def test_a_sync_that_cannot_work_prints_one_line(
    environment: dict[str, str], folder: str, reason: str, online: Client, server: WandbServer
) -> None:
    part = online.home / "runs/study/plain/wandb/offline-run-1-plain"
    part.mkdir(parents=True)
    (part / "run-plain.wandb").write_bytes(b"12345678")
    online.environment |= environment
    process = online.start(send, folder)
    output, _ = process.communicate(timeout=HANG_SECONDS)
    assert process.returncode == 2
    (line,) = (line for line in output.splitlines() if "Loaded credentials" not in line)
    assert line.startswith("error: ")
    assert reason in line
    assert server.requests == []
