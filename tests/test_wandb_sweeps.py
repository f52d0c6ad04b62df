"""W&B itself: `wandb sweep` accepts all files of sweeps/ unchanged, and `wandb agent` runs one of them."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from genlab.runs.config import short_key
from tests.wandb_client import Client, finished, run_names, small_sweep, start_wandb
from tests.wandb_server import Run, Sweep, WandbServer

SWEEPS = sorted((Path(__file__).parents[1] / "sweeps").glob("*.yaml"))


def make_sweep(client: Client, server: WandbServer, file: Path) -> tuple[Sweep, str]:
    """Runs `wandb sweep FILE`; returns the sweep on the server, and the path that the client prints for the agent."""
    output = finished(start_wandb(client, "sweep", str(file)))
    (path,) = re.findall(r"wandb agent (\S+)", re.sub(r"\x1b\[\d*m", "", output))
    return server.sweeps[path.rsplit("/", 1)[-1]], path


@pytest.mark.parametrize("file", SWEEPS, ids=lambda file: file.stem)
def test_wandb_accepts_the_definition_unchanged(file: Path, online: Client, server: WandbServer) -> None:
    sweep, path = make_sweep(online, server, file)
    definition = yaml.safe_load(file.read_text(encoding="utf-8"))
    assert sweep.config == definition
    assert path == f"tester/genlab/{sweep.id}"
    command = definition["command"]
    assert command[:4] == ["${env}", "${interpreter}", "${program}", "fit"]
    assert command.index("--config") < command.index("${args}")
    assert f"--run.experiment={file.stem}" in command
    assert f"--run.tags=[{file.stem}]" in command
    assert all("." in key or key in ("seed_everything", "model") for key in definition["parameters"])
    assert all("values" in spec or "value" in spec for spec in definition["parameters"].values())


def assert_recorded(run: Run, summary: dict[str, Any], sweep: Sweep) -> None:
    """Checks that W&B has the data of a run's folder, with the keys that grouped charts need."""
    assert (run.state, run.exit_code, run.times_ended, run.sweep) == ("finished", 0, 1, sweep.id)
    assert (run.group, run.tags, run.project) == ("quickstart", ["quickstart"], "genlab")
    keys = set(map(short_key, sweep.config["parameters"]))
    assert keys <= set(run.config)
    assert {key: run.config[key] for key in keys} == {key: summary["config"][key] for key in keys}
    metric = sweep.config["metric"]["name"]
    assert run.column(metric)[-1] == pytest.approx(summary["metrics"][metric])
    assert run.summary[metric] == pytest.approx(summary["metrics"][metric])
    recorded = ("parameters", "seconds", "images_seen", "hardware", "data_fingerprint")
    assert {name: run.summary[name] for name in recorded} == {name: summary[name] for name in recorded}
    assert len(run.column("val/mse")) == 2
    assert run.summary["val/mse"] == pytest.approx(min(run.column("val/mse")))
    assert all("trainer/global_step" in row for row in run.history if "val/mse" in row)


def test_two_wandb_agents(online: Client, server: WandbServer, tmp_path: Path) -> None:
    sweep, path = make_sweep(online, server, small_sweep(tmp_path, epochs=2))
    for output in [finished(process) for process in [start_wandb(online, "agent", path) for _ in range(2)]]:
        assert "Traceback" not in output
    runs = server.runs_of(sweep.id)
    assert [run.config["model.depth"] for run in runs] == [1, 2]
    assert len({run.agent for run in runs}) == 2
    for run in runs:
        (name,) = run_names(run.config["model.depth"])
        summary = json.loads((tmp_path / "runs" / "quickstart" / name / "summary.json").read_text())
        assert summary["wandb_id"] == run.id
        assert run.name == f"quickstart/{name}"
        assert_recorded(run, summary, sweep)


def test_a_run_that_raises_under_wandb_agent(online: Client, server: WandbServer, tmp_path: Path) -> None:
    broken = ["--trainer.callbacks+=tests.helpers.StopAt", "--trainer.callbacks.batch=1"]
    sweep, path = make_sweep(online, server, small_sweep(tmp_path, depths=[1], more=broken))
    output = finished(start_wandb(online, "agent", path))
    (run,) = server.runs_of(sweep.id)
    assert (run.state, run.exit_code) == ("failed", 1)
    assert "\n".join(run.output).count("RuntimeError: stopped by the test") == 1
    assert output.count("RuntimeError: stopped by the test") == 1
