"""Checkpoints as artifacts of W&B: the real client sends them to a mock server and takes them back."""

import contextlib
import io
import json
import os
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import wandb
import yaml
from PIL import Image

import sample
import train
from genlab.cli.train import command
from genlab.runs import wandb_access
from genlab.runs.errors import UsageError
from genlab.runs.folder import read_summary
from genlab.runs.wandb_checkpoints import Reference, artifact_name, recorded_version
from genlab.runs.wandb_run import RunLogger
from genlab.sweep.sync import sync
from tests.wandb_artifacts import Artifacts
from tests.wandb_client import Client
from tests.wandb_server import Refused, WandbServer

QUICK = ["--data=DigitsDataModule", "--data.batch_size=500", "--trainer.accelerator=cpu", "--run.pictures=false"]
MODEL = ["--model=VAE", "--model.latent_dim=2", "--model.networks=MLPNetworks", "--model.networks.hidden_dims=[16]"]
HOME = "wandb:tester/genlab/"


def fit(*args: str, epochs: int = 1) -> Path:
    return train.main(["fit", *args, *QUICK, f"--trainer.max_epochs={epochs}"]).folder


def result(program: Callable[[list[str]], int], *args: str) -> tuple[int, str]:
    """The exit status of a program, and the last line that it prints to stderr."""
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors):
        status = program(list(args))
    return status, (errors.getvalue().splitlines() or [""])[-1]


def lose_checkpoint() -> None:
    """Logs an alert, a table, and a checkpoint that the server refuses."""
    logger = RunLogger(Path("refused"), "online", {}, id="abc", project="lab")
    logger.alert("wrong", "it diverges")
    logger.log_images_table("samples", {"image": [Image.new("L", (2, 2))], "confidence": [0.5]}, step=0)
    Path("best.ckpt").write_bytes(b"1")
    logger.log_checkpoint(Path("best.ckpt"), "refused", ["best"], {})
    logger.close(0)


def send_and_take_back() -> None:
    """Trains offline, sends the run, and begins from its checkpoints; the last line of output tells what happened."""
    fit(*MODEL, "--run.experiment=v", "--run.name=a,b", "--run.wandb=offline", "--run.log_checkpoints=both")
    wandb.teardown()  # as at the end of a process; until then the file of the run may lack its last part
    sync(Path("runs/v"))
    best = f"{HOME}v-a-b:best"
    told: dict[str, Any] = {"sampled": result(sample.main, best, "--count=2")}
    told["tested"] = result(
        command, "validate", f"--ckpt_path={best}", "--trainer.accelerator=cpu", "--run.pictures=false"
    )
    told["resumed"] = str(fit(*MODEL, f"--ckpt_path={HOME}v-a-b:last", "--run.wandb=disabled", epochs=2))
    probe = ["--model=Probe", f"--model.encoder_checkpoint={best}", "--run.experiment=p", "--run.name=p"]
    told["probe"] = str(fit(*probe, "--run.log_checkpoints=best"))
    for name in ("none:v1", "a/b", "two", "none-in-it", "link", "outside", "damaged", "code"):
        told[name] = result(sample.main, f"{HOME}{name}")
    told["in a config"] = result(command, "fit", *QUICK, "--model=Probe", f"--model.encoder_checkpoint={HOME}none:v1")
    told["weights"] = result(command, "fit", *QUICK, *MODEL, f"--ckpt_path={best}")
    told["known"] = result(sample.main, f"{HOME}v-a-b:v1", "--count=2")
    with contextlib.redirect_stderr(errors := io.StringIO()):
        lose_checkpoint()
    told["refused"] = errors.getvalue()
    print(json.dumps(told))


def test_checkpoints_go_to_wandb_and_come_back(online: Client, server: WandbServer) -> None:
    artifacts = Artifacts(server)
    file, code = b"12345", io.BytesIO()
    with zipfile.ZipFile(code, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(os.system))
        archive.writestr("archive/version", "3")
    artifacts.add("two", {"a.ckpt": file, "b.ckpt": file})
    artifacts.add("none-in-it", {"a.txt": file, "b.txt": file})
    artifacts.add("link", {"a.ckpt": {"digest": "x", "ref": "file:///etc/passwd", "size": 1}})
    artifacts.add("outside", {"../../../a.ckpt": file})
    artifacts.add("damaged", {"a.ckpt": b"67890"})
    server.stored = {key: file if value == b"67890" else value for key, value in server.stored.items()}
    artifacts.add("code", {"a.ckpt": code.getvalue()})
    (online.home / "a.ckpt").touch()

    def refuse(variables: dict[str, Any]) -> dict[str, Any]:
        if artifacts.all[variables["artifactID"]].name == "refused":
            raise Refused("no room")
        return commit(variables)

    commit, server.operations["CommitArtifact"] = server.operations["CommitArtifact"], refuse
    told = json.loads(online.run(send_and_take_back).splitlines()[-1])
    last, best, probe = [found for found in artifacts.of_type("model") if found.run]
    assert (last.name, last.type, last.version, last.aliases) == ("v-a-b", "model", 0, {"last"})
    assert (best.name, best.type, best.version, best.aliases) == ("v-a-b", "model", 1, {"best", "epoch-1", "latest"})
    assert artifacts.names(best) == ["best.ckpt"]
    about = {"model": "VAE", "data": "DigitsDataModule", "metric": "val/loss", "experiment": "v", "run": "a,b"}
    assert about.items() <= best.metadata.items() and best.metadata["value"] > 0 and "metric" not in last.metadata

    assert [told[name][0] for name in ("sampled", "tested", "known")] == [0, 0, 0], told
    assert read_summary(online.home / told["resumed"])["images_seen"] == 2 * 1_000  # type: ignore[index]
    config = yaml.safe_load((online.home / told["probe"] / "config.yaml").read_text(encoding="utf-8"))
    assert config["model"]["init_args"]["encoder_checkpoint"] == f"{HOME}v-a-b:v1"
    assert server.runs[probe.run].config["model.encoder_checkpoint"] == f"{HOME}v-a-b:v1"
    assert best.used_by == [probe.run] and probe.aliases == {"best", "epoch-1", "latest"}

    reasons = {
        "none:v1": "wandb:tester/genlab/none:v1 cannot be downloaded",
        "in a config": "wandb:tester/genlab/none:v1 cannot be downloaded",
        "a/b": "write wandb:ENTITY/PROJECT/NAME:ALIAS",
        "two": "two:v0 has 2 checkpoints (a.ckpt, b.ckpt)",
        "none-in-it": "has no checkpoint",
        "link": "a link to file:///etc/passwd",
        "outside": "cannot be downloaded",
        "damaged": "did not arrive whole",
        "code": "contains code",
        "weights": "v-a-b.ckpt holds weights only; start a new run from these weights with --init_from",
    }
    for name, reason in reasons.items():
        status, line = told[name]
        assert status == 2 and line.startswith("error: ") and reason in line, (name, line)
    assert [path.name for path in online.home.rglob("a.ckpt")] == ["a.ckpt"]
    assert server.requests.count("POST /graphql ArtifactMembershipByName") == 14  # none for what is known

    assert (
        "no room" in told["refused"] and "`wandb artifact put --type model --name tester/lab/refused" in told["refused"]
    )
    (alert,), (table,) = server.alerts, artifacts.of_type("run_table")
    assert (alert["runName"], alert["title"], alert["severity"]) == ("abc", "wrong", "WARN")
    assert "samples.table.json" in artifacts.names(table) and server.runs["abc"].state == "finished"


def test_without_a_key_or_a_server_one_line_tells_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for has_key, reason in ((False, "no W&B API key is configured"), (True, "W&B cannot be asked .*refused")):
        monkeypatch.setattr(wandb_access, "has_key", lambda has_key=has_key: has_key)
        monkeypatch.setattr(wandb_access.socket, "create_connection", _refuse)
        assert re.search(f"error: {reason}.*wandb:e/p/n:best", result(sample.main, "wandb:e/p/n:best")[1])


def _refuse(*args: object, **kwargs: object) -> None:
    raise ConnectionRefusedError("refused")


@pytest.mark.parametrize(
    ("value", "recorded", "expected"),
    [
        ("wandb:e/p/n:best", ["wandb:e/p/n:v3"], "wandb:e/p/n:v3"),
        ("wandb:e/p/n", ["wandb:e/p/m:v2", 3, "x.ckpt", "wandb:e/p/n:v3"], "wandb:e/p/n:v3"),
        ("wandb:e/p/n:v4", ["wandb:e/p/n:v3"], "wandb:e/p/n:v4"),
        ("wandb:e/p/n:best", ["wandb:e/p/m:v3"], "wandb:e/p/n:best"),
    ],
)
def test_a_run_goes_on_with_the_version_that_it_began_with(value: str, recorded: list[Any], expected: str) -> None:
    assert recorded_version(value, recorded) == expected


def test_names() -> None:
    assert artifact_name("vae", "depth=3,lr=1e-3") == "vae-depth-3-lr-1e-3"
    assert len({artifact_name("vae", "x" * 125 + middle + "y" * 20) for middle in "ab"}) == 2
    assert all(len(artifact_name("vae", "x" * length)) <= 128 for length in (120, 140, 300))
    with pytest.raises(UsageError, match="write wandb:ENTITY/PROJECT/NAME:ALIAS"):
        Reference.parse("wandb:best.ckpt")
