"""`sweep.py agent`: many runs in one process, against a mock of the W&B server."""

import itertools
import json
import re
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import yaml

import genlab.sweep.agent
from genlab.runs.errors import UsageError
from genlab.sweep.agent import run_agent
from genlab.sweep.definition import command_arguments
from genlab.sweep.fleet import RayOptions
from tests import HANG_SECONDS, wait_for
from tests.wandb_client import Client, finished, run_names, small_sweep
from tests.wandb_server import Run, Sweep, WandbServer

STUB = Path(__file__).parents[2] / "programs" / "wandb_stub.py"


def agent(path: str, count: int | None = None, ray: str | None = None) -> None:
    """Runs an agent with frequent heartbeats, or two on Ray; the last line of output is its result."""
    genlab.sweep.agent.HEARTBEAT_SECONDS = 1.0
    how = {} if ray is None else {"ray": RayOptions(ray), "workers": 2}
    try:
        print(json.dumps(asdict(run_agent(path, count, **how))))
    except UsageError as error:
        print(f"error: {error}")
        sys.exit(2)


def add_sweep(server: WandbServer, **values: list[Any]) -> Sweep:
    """A grid over the stub program."""
    return server.add_sweep(
        {
            "name": "stub",
            "program": str(STUB),
            "metric": {"name": "score", "goal": "maximize"},
            "parameters": {key: {"values": choices} for key, choices in values.items()},
            "command": ["${env}", "${interpreter}", "${program}", "fit", "--run.experiment=stub", "${args}"],
        }
    )


def start(client: Client, sweep: Sweep, count: int | None = None) -> subprocess.Popen[str]:
    return client.start(agent, f"tester/genlab/{sweep.id}", count)


def result(output: str) -> dict[str, int]:
    return {key: value for key, value in json.loads(output.splitlines()[-1]).items() if value}


def log_of(run: Run) -> str:
    return "\n".join(run.output)


def test_arguments_are_those_of_wandb_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATA", "/data")
    command = ["fit", "--data.root=${envvar:DATA}/x", "${args}", "--last", 3]
    values = {
        "flag": True,
        "off": False,
        "dims": [32, 64],
        "lr": 1e-3,
        "none": None,
        "model": {"depth": 2, "width": None},
    }
    assert command_arguments(command, values) == [
        "fit",
        "--data.root=/data/x",
        "--flag=True",
        "--off=False",
        "--dims=[32, 64]",
        "--lr=0.001",
        "--none=null",
        "--model={depth: 2, width: null}",
        "--last",
        "3",
    ]
    assert command[1] == "--data.root=${envvar:DATA}/x"
    assert command_arguments(["${args_no_boolean_flags}"], {"on": True, "off": False}) == ["--on"]
    assert command_arguments([], values) == []


def test_many_runs_share_one_process(online: Client, server: WandbServer) -> None:
    sweep = add_sweep(server, a=[1, 2, 3], b=["x", "y"])
    output = online.run(agent, f"tester/genlab/{sweep.id}", 5)
    assert result(output) == {"finished": 5}
    assert output.count("finished  score") == 5
    runs = server.runs_of(sweep.id)
    assert [(run.config["a"], run.config["b"]) for run in runs] == [(1, "x"), (1, "y"), (2, "x"), (2, "y"), (3, "x")]
    assert len({run.config["pid"] for run in runs}) == 1
    for run in runs:
        assert run.column("score") == [run.config["a"]]
        assert (run.project, run.state, run.exit_code, run.times_ended) == ("genlab", "finished", 0, 1)
        assert f"run {run.id} begins" in log_of(run)
        assert len(re.findall("run .* begins", log_of(run))) == 1
    times = [time for time, _ in server.agents["agent0"].beats]
    assert min(later - earlier for earlier, later in itertools.pairwise(times)) < 1.5


def test_failures_are_reported_and_the_agent_continues(online: Client, server: WandbServer) -> None:
    sweep = add_sweep(server, a=[1], how=["raise", "refuse", "kill", "finish"])
    output = online.run(agent, f"tester/genlab/{sweep.id}")
    assert result(output) == {"finished": 1, "failed": 3}
    assert "Traceback" not in output
    raised, refused, killed, fine = server.runs_of(sweep.id)
    assert [run.state for run in (raised, refused, killed, fine)] == ["failed", "failed", "failed", "finished"]
    assert [run.exit_code for run in (raised, refused, killed)] == [1, 1, 1]
    assert "RuntimeError: no luck" in log_of(raised)
    assert "Traceback" in log_of(raised)
    assert "error: no such model" in log_of(refused)
    assert refused.config == {"a": 1, "how": "refuse"}
    assert "SIGKILL" in log_of(killed)
    assert killed.column("score") == [1]
    assert fine.config["pid"] != raised.config["pid"] == killed.config["pid"]
    for run in (raised, refused, killed):
        (log,) = re.findall(rf"\(log: (.*/{run.id}\.txt)\)", output)
        assert (online.home / log).is_file()


def test_a_server_that_stops_costs_no_run(online: Client, server: WandbServer) -> None:
    online.environment |= {
        "WANDB__GRAPHQL_RETRY_WAIT_MIN_SECONDS": "0.2",
        "WANDB__FILE_STREAM_RETRY_WAIT_MIN_SECONDS": "0.2",
    }
    sweep = add_sweep(server, a=[1, 2], how=["pause"])
    process = start(online, sweep)
    wait_for(lambda: len(server.runs) == 1 and server.runs["run0"].state == "running")
    server.stop()
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(3)
    server.outages += [429, 503]
    server.start()
    assert result(finished(process)) == {"finished": 2}
    assert [(run.state, run.times_ended) for run in server.runs_of(sweep.id)] == [("finished", 1)] * 2


def test_a_run_that_was_logged_offline_is_sent(online: Client, server: WandbServer) -> None:
    sweep = add_sweep(server, a=[1], how=["offline"])
    assert result(online.run(agent, f"tester/genlab/{sweep.id}")) == {"finished": 1}
    (run,) = server.runs_of(sweep.id)
    assert (run.state, run.project, run.column("score")) == ("finished", "genlab", [1])


def test_an_agent_exits_when_its_sweep_is_deleted(online: Client, server: WandbServer) -> None:
    sweep = add_sweep(server, a=[1, 2], how=["wait"])
    process = start(online, sweep)
    wait_for(lambda: "run0" in server.runs and server.runs["run0"].state == "running")
    server.gone.add("Heartbeat")
    output = finished(process)
    assert result(output) == {"finished": 1}
    assert output.count("W&B does not accept this agent any more") == 1


def test_wandb_stops_a_run_and_then_the_sweep(online: Client, server: WandbServer) -> None:
    sweep = add_sweep(server, a=[1, 2, 3], how=["wait long"])
    process = start(online, sweep)
    wait_for(lambda: "run0" in server.runs and server.runs["run0"].state == "running")
    server.stop_run(server.runs["run0"])
    wait_for(lambda: "run1" in server.runs and server.runs["run1"].state == "running")
    server.agents["agent0"].commands.append({"type": "exit"})
    assert result(finished(process)) == {"stopped": 2}
    first, second = server.runs_of(sweep.id)
    assert (first.state, second.state) == ("finished", "failed")
    assert first.config["pid"] == second.config["pid"]
    assert any(states == {"run0": True} for _, states in server.agents["agent0"].beats)


def test_ctrl_c_finishes_the_current_run(online: Client, server: WandbServer) -> None:
    sweep = add_sweep(server, a=[1, 2], how=["wait"])
    process = start(online, sweep)
    wait_for(lambda: "run0" in server.runs and server.runs["run0"].state == "running")
    process.send_signal(signal.SIGINT)
    assert result(finished(process)) == {"finished": 1, "signal": signal.SIGINT}
    assert [run.state for run in server.runs_of(sweep.id)] == ["finished"]


@pytest.mark.parametrize("numbers", [[signal.SIGINT, signal.SIGINT], [signal.SIGTERM]])
def test_a_run_that_the_user_stopped_is_resumed_later(
    numbers: list[signal.Signals], online: Client, server: WandbServer
) -> None:
    sweep = add_sweep(server, a=[1], how=["wait long"])
    process = start(online, sweep)
    wait_for(lambda: "run0" in server.runs and server.runs["run0"].state == "running")
    for number in numbers:
        time.sleep(0.5)  # signals of one kind that arrive at once are merged
        process.send_signal(number)
    output = finished(process)
    assert result(output) == {"stopped": 1, "signal": numbers[-1]}
    (run,) = server.runs_of(sweep.id)
    assert run.state == "preempted"

    assert result(online.run(agent, f"tester/genlab/{sweep.id}")) == {"finished": 1}
    assert run.state == "finished"


def test_two_agents_share_a_sweep(online: Client, server: WandbServer) -> None:
    sweep = add_sweep(server, a=[1, 2, 3, 4, 5, 6], how=["pause"])
    results = [result(finished(process)) for process in [start(online, sweep), start(online, sweep)]]
    assert sum(one["finished"] for one in results) == 6
    runs = server.runs_of(sweep.id)
    assert sorted(run.config["a"] for run in runs) == [1, 2, 3, 4, 5, 6]
    assert len({run.config["pid"] for run in runs}) == 2
    assert all((run.state, run.times_ended) == ("finished", 1) for run in runs)


@pytest.mark.slow
def test_agents_on_ray_share_a_sweep_and_its_number_of_runs(online: Client, server: WandbServer) -> None:
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    sweep = add_sweep(server, a=[1, 2, 3, 4, 5, 6], how=["wait"])
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    try:
        path = f"tester/genlab/{sweep.id}"
        counted = [result(online.run(agent, path, count, cluster.address)) for count in (3, None)]
    finally:
        cluster.shutdown()
    assert counted == [{"finished": 3}, {"finished": 3}]
    assert sorted(run.config["a"] for run in server.runs_of(sweep.id)) == [1, 2, 3, 4, 5, 6]
    assert len({run.config["pid"] for run in server.runs_of(sweep.id)}) > 2


@pytest.mark.parametrize(
    ("path", "environment", "reason"),
    [
        ("tester/genlab/none", {}, "no sweep none"),
        ("a/b/c/d", {}, "is not the path of a sweep"),
        ("tester/genlab/sweep0", {"WANDB_API_KEY": ""}, "no W&B API key"),
        ("tester/genlab/sweep0", {"WANDB_MODE": "offline"}, "WANDB_MODE is offline"),
        ("tester/genlab/sweep0", {"WANDB_BASE_URL": "http://127.0.0.1:9"}, "cannot be used"),
        ("tester/genlab/sweep0", {}, "there is no program nothing.py of the sweep"),
        ("tester/genlab/sweep1", {}, "leaves out false (a); use ${args} in a new sweep"),
        ("tester/genlab/sweep2", {}, "repeats, which W&B does not know and ignores"),
    ],
)
def test_an_agent_that_cannot_work_prints_one_line(
    path: str, environment: dict[str, str], reason: str, online: Client, server: WandbServer
) -> None:
    server.add_sweep({"program": "nothing.py", "parameters": {"a": {"value": 1}}})
    server.add_sweep({"parameters": {"a": {"value": True}}, "command": ["${program}", "${args_no_boolean_flags}"]})
    server.add_sweep({"parameters": {"a": {"value": 1}}, "repeats": 3})
    online.environment |= environment
    process = online.start(agent, path)
    output, _ = process.communicate(timeout=HANG_SECONDS)
    assert process.returncode == 2
    (line,) = (line for line in output.splitlines() if "Loaded credentials" not in line)
    assert line.startswith("error: ")
    assert reason in line


def test_trainings_share_one_process(online: Client, server: WandbServer, tmp_path: Path) -> None:
    """With train.py, run folders and W&B agree, and a model that cannot be built fails without stopping the others."""
    online.environment |= {"WANDB_NOTES": "why", "WANDB_JOB_TYPE": "j"}
    sweep = server.add_sweep(yaml.safe_load(small_sweep(tmp_path, depths=[1, 2, 9]).read_text()))
    output = online.run(agent, f"tester/genlab/{sweep.id}")
    assert result(output) == {"finished": 2, "failed": 1}
    first, second, deep = server.runs_of(sweep.id)
    folder = tmp_path / "runs" / "quickstart"
    summaries = [json.loads((folder / name / "summary.json").read_text()) for name in run_names(1, 2)]
    assert [summary["wandb_id"] for summary in summaries] == [first.id, second.id]
    assert len({summary["pid"] for summary in summaries}) == 1
    for run, summary, name in zip((first, second), summaries, run_names(1, 2), strict=True):
        assert (run.name, run.group, run.tags) == (f"quickstart/{name}", "quickstart", ["quickstart"])
        assert (run.notes, run.job_type) == ("why", "j")
        assert run.summary["test/mse"] == pytest.approx(summary["metrics"]["test/mse"])
        assert run.summary["val/mse"] == pytest.approx(min(run.column("val/mse")))
        assert f"{run.id} {name}  finished  test/mse" in output
        said = (folder / "logs" / f"{run.id}.txt").read_text().splitlines()
        assert "W&B: notes why (WANDB_NOTES), job_type j (WANDB_JOB_TYPE)" in said
    assert deep.state == "failed"
    assert "depth" in log_of(deep)


@pytest.mark.slow
def test_a_preempted_training_resumes_from_its_checkpoint(online: Client, server: WandbServer, tmp_path: Path) -> None:
    sweep = server.add_sweep(yaml.safe_load(small_sweep(tmp_path, depths=[1], epochs=40).read_text()))
    process = start(online, sweep)
    wait_for(lambda: "run0" in server.runs and len(server.runs["run0"].column("val/mse")) > 5)
    process.terminate()
    assert result(finished(process)) == {"stopped": 1, "signal": signal.SIGTERM}
    (run,) = server.runs_of(sweep.id)
    assert run.state == "preempted"
    assert 5 < len(run.column("val/mse")) < 40

    assert result(online.run(agent, f"tester/genlab/{sweep.id}")) == {"finished": 1}
    assert run.state == "finished"
    assert len(run.column("val/mse")) == 40
    names = [folder.name for folder in (tmp_path / "runs" / "quickstart").glob("depth*")]
    assert names == ["depth=1,gradient_clip_val=null,latent_dim=3"]  # no parameter varies, so that all are in the name
