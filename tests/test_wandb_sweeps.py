"""Plain W&B: `wandb sweep` takes every file of sweeps/ as it is, and `wandb agent` runs one."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.wandb_client import Client, finished, small_sweep, start_wandb
from tests.wandb_server import Run, Sweep, WandbServer

SWEEPS = sorted((Path(__file__).parents[1] / "sweeps").glob("*.yaml"))


def make_sweep(client: Client, server: WandbServer, file: Path) -> tuple[Sweep, str]:
    """Types `wandb sweep FILE`; returns what the server has of it, and the path that the client names for the agent."""
    said = finished(start_wandb(client, "sweep", str(file)))
    (path,) = re.findall(r"wandb agent (\S+)", re.sub(r"\x1b\[\d*m", "", said))
    return server.sweeps[path.rsplit("/", 1)[-1]], path


@pytest.mark.parametrize("file", SWEEPS, ids=lambda file: file.stem)
def test_wandb_takes_the_definition_as_it_is(file: Path, online: Client, server: WandbServer) -> None:
    sweep, path = make_sweep(online, server, file)
    definition = yaml.safe_load(file.read_text(encoding="utf-8"))
    assert sweep.config == definition
    assert path == f"tester/genlab/{sweep.id}"
    command = definition["command"]
    assert command[:4] == ["${env}", "${interpreter}", "${program}", "fit"]
    assert command.index("--config") < command.index("${args}")
    assert f"--run.experiment={file.stem}" in command
    assert f"--run.tags=[{file.stem}]" in command
    assert all("." in key or key == "seed_everything" for key in definition["parameters"])
    assert all("values" in law or "value" in law for law in definition["parameters"].values())


def assert_recorded(run: Run, summary: dict[str, Any], sweep: Sweep) -> None:
    """What W&B has of a run is what its folder says, ready for grouped charts."""
    assert (run.state, run.exit_code, run.times_ended, run.sweep) == ("finished", 0, 1, sweep.id)
    assert (run.group, run.tags, run.project) == ("quickstart", ["quickstart"], "genlab")
    keys = set(sweep.config["parameters"])
    assert keys <= set(run.config)
    assert {key: run.config[key] for key in keys} == {key: summary["config"][key] for key in keys}
    metric = sweep.config["metric"]["name"]
    assert run.column(metric)[-1] == pytest.approx(summary["metrics"][metric])
    assert run.summary[metric] == pytest.approx(summary["metrics"][metric])
    assert len(run.column("val/mse")) == 2
    assert run.summary["val/mse"] == pytest.approx(min(run.column("val/mse")))
    assert all("trainer/global_step" in row for row in run.history if "val/mse" in row)


def test_two_agents_of_wandbs_own(online: Client, server: WandbServer, tmp_path: Path) -> None:
    sweep, path = make_sweep(online, server, small_sweep(tmp_path, epochs=2))
    for said in [finished(process) for process in [start_wandb(online, "agent", path) for _ in range(2)]]:
        assert "Traceback" not in said
    runs = server.runs_of(sweep.id)
    assert [run.config["model.depth"] for run in runs] == [1, 2]
    assert len({run.agent for run in runs}) == 2
    for run in runs:
        name = f"depth={run.config['model.depth']},latent_dim=3"
        summary = json.loads((tmp_path / "runs" / "quickstart" / name / "summary.json").read_text())
        assert summary["wandb_id"] == run.id
        assert run.name == f"quickstart/{name}"
        assert_recorded(run, summary, sweep)


def test_a_run_that_raises_under_wandbs_own_agent(online: Client, server: WandbServer, tmp_path: Path) -> None:
    broken = ["--trainer.callbacks+=tests.helpers.StopAt", "--trainer.callbacks.batch=1"]
    sweep, path = make_sweep(online, server, small_sweep(tmp_path, depths=[1], more=broken))
    said = finished(start_wandb(online, "agent", path))
    (run,) = server.runs_of(sweep.id)
    assert (run.state, run.exit_code) == ("failed", 1)
    assert "\n".join(run.output).count("RuntimeError: stopped by the test") == 1
    assert said.count("RuntimeError: stopped by the test") == 1
