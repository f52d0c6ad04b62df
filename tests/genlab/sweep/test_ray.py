"""`sweep.py run --ray` on a cluster of several nodes, which are processes of this machine."""

import os
import random
import signal
import subprocess
import tarfile
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest

import sweep
from genlab.runs.folder import write_summary
from genlab.sweep import run_folders
from genlab.sweep.parcels import pack, unpack_whole
from genlab.sweep.run_folders import settled_summary
from genlab.sweep.worker import WorkerDiedError
from tests.genlab.sweep.test_engine import PROGRAM, calls, finished, run, start, wait_for_call, write_sweep

ray = pytest.importorskip("ray")
from ray.cluster_utils import Cluster  # noqa: E402

from genlab.sweep.ray_actor import Home  # noqa: E402
from genlab.sweep.ray_fleet import RayFleet  # noqa: E402
from genlab.sweep.ray_worker import RayWorker, Sender  # noqa: E402

HEAD = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": 80_000_000}
NODE = {"num_cpus": 3, "object_store_memory": 80_000_000}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A head without room for runs, and one node for three."""
    made = Cluster(initialize_head=True, head_node_args=HEAD)
    made.add_node(**NODE)
    yield made
    made.shutdown()


def actors() -> list[int]:
    """Returns the process ids of the actors."""
    listed = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True).stdout
    return [int(line.split()[0]) for line in listed.splitlines() if "ray::RayActor" in line]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_kills_and_nodes_that_come_and_go(tmp_path: Path):
    """200 runs on six workers: every tenth worker is killed, and one node is removed and another one added."""
    cluster = Cluster(initialize_head=True, head_node_args=HEAD)
    nodes = [cluster.add_node(**NODE), cluster.add_node(**NODE)]
    parameters = "model.x: {distribution: int_uniform, min: 0, max: 19}, "
    parameters += "model.y: {values: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]}, seconds: {value: 0.3}"
    path = write_sweep(tmp_path, parameters)
    output: list[str] = []
    process = start(path, f"--ray={cluster.address}", "--tries=20", "--no-report")
    threading.Thread(target=output.extend, args=(process.stdout,), daemon=True).start()
    random.seed(0)
    wait_for_call(path, "begin", 10)
    killed, added = 0, True
    while process.poll() is None:
        time.sleep(0.2)
        ended = calls_of(path, "end")
        if killed < ended // 10 and (victims := actors()):
            os.kill(random.choice(victims), signal.SIGKILL)
            killed += 1
        if ended > 60 and len(nodes) == 2:
            cluster.remove_node(nodes.pop(), allow_graceful=False)
            added = False
        if ended > 100 and not added:
            added = bool(cluster.add_node(**NODE))
    print("".join(output))
    cluster.shutdown()
    assert process.returncode == 0
    assert killed >= 18 and len(nodes) == 1 and added
    assert finished(path) == sorted(f"x={x},y={y}" for x in range(20) for y in range(10))
    assert not [name for what, name in calls(path) if what == "again"]


def calls_of(path: Path, what: str) -> int:
    return sum(count for (kind, _), count in calls(path).items() if kind == what)


def test_runs_on_nodes_that_share_the_file_system(cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """One run kills its process each time, and one kills the actor, so that it continues from its checkpoint."""
    path = write_sweep(tmp_path, "model.x: {values: [0, 1, 2, 3, 4]}, die: {value: 2}, orphan: {value: 3}")
    assert run(path, f"--ray={cluster.address}", "--tries=2", "--no-report") == 1
    output = capsys.readouterr().out
    assert "4 runs finished, 1 failed" in output, output
    assert "x=2  failed: its process was killed by SIGKILL, 2 times" in output, output
    assert "x=3: its worker was killed; the run is back in the queue" in output
    assert finished(path) == ["x=0", "x=1", "x=3", "x=4"] and calls(path)["resume-in-x=3", "x=3"] == 1
    assert not list(tmp_path.rglob(".ray-*"))


def test_runs_on_nodes_with_other_files(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Code and files travel to the node, and runs, what they link to and logs come home; a crashed run takes its
    checkpoint along.
    """
    mark = RayFleet._mark
    monkeypatch.setattr(RayFleet, "_mark", lambda fleet: replace(mark(fleet), text="what no node reads"))
    monkeypatch.chdir(tmp_path)
    link = f"os.symlink({str(tmp_path / 'data/weights.npz')!r}, folder / 'link')"
    Path("own.py").write_text(PROGRAM.read_text().replace('note(planned, "end")', link))
    Path("data").mkdir()
    Path("data", "weights.npz").write_text("numbers")
    Path("large").mkdir()
    Path("large", "set.npz").symlink_to(tmp_path / "data" / "weights.npz")
    parameters = "model.x: {values: [0, 1, 2, 3]}, crash: {value: 1}, weights: {value: large/set.npz}"
    path = write_sweep(tmp_path, parameters, program="own.py")
    assert sweep.main(["run", str(path), f"--ray={cluster.address}", "--workers=2", "--no-report"]) == 0
    output = capsys.readouterr().out
    assert "4 runs finished" in output and output.count("back in the queue") == 1
    assert finished(path) == [f"x={x}" for x in range(4)]
    assert Path("runs/trivial/x=1/checkpoints/last.ckpt").is_file()
    assert Path("runs/trivial/logs/x=0.txt").read_text() == "epoch 1\n"
    copied = Path("runs/trivial/x=0/link")
    assert copied.read_text() == "numbers" and not copied.is_symlink()
    assert {file.name for file in tmp_path.iterdir()} == {"own.py", "data", "large", "runs", "trivial.yaml"}


def test_parcels_are_whole_and_replace_nothing_unasked(tmp_path: Path):
    run, home = tmp_path / "node" / "s" / "x=1", tmp_path / "home"
    (run / "media").mkdir(parents=True)
    (run / "media" / "1.png").write_bytes(b"picture" * 3000)
    (run / "inside").symlink_to("media")
    (run / "outside").symlink_to(tmp_path)
    pieces = pack(tmp_path / "node", Path("s/x=1"), bytes)
    for again, name in ((False, "x=1"), (False, "x=1-2"), (True, "x=1")):
        assert unpack_whole(pieces, home, Path("s/x=1"), again) == home / "s" / name
        assert (home / "s" / name / "inside" / "1.png").read_bytes() == b"picture" * 3000
    with pytest.raises((OSError, tarfile.TarError)):
        unpack_whole([pieces[0][:8000]], home, Path("s/x=1"), True)
    assert sorted(entry.name for entry in (home / "s").iterdir()) == ["x=1", "x=1-2"]
    assert sorted(entry.name for entry in (home / "s" / "x=1").iterdir()) == ["inside", "media"]


def test_a_process_that_dies_before_its_run_counts_as_a_crash(monkeypatch: pytest.MonkeyPatch):
    worker = RayWorker(lambda: None, Home(".", "own.py", "runs", "", "", ""), Sender(), print)
    worker._actor = Mock()
    monkeypatch.setattr(ray, "get", lambda _: {"died": "own.py cannot be loaded"})
    with pytest.raises(WorkerDiedError, match="cannot be loaded"):
        worker.check([])


@pytest.mark.parametrize(
    ("host", "age", "waits"), [("elsewhere", 0, True), ("elsewhere", 1000, False), (None, 0, False)]
)
def test_a_process_of_another_machine_gets_time_to_end(
    host: str | None, age: float, waits: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(run_folders, "ORPHAN_SECONDS", 0.1)
    write_summary(tmp_path, {"state": "running", "pid": 1} | ({"host": host} if host else {}))
    os.utime(tmp_path / "summary.json", (time.time() - age,) * 2)
    began = time.monotonic()
    assert settled_summary(tmp_path)["state"] == "running"
    assert (time.monotonic() - began > 0.1) == waits


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--ray=http://127.0.0.1:8265"], "--ray http://127.0.0.1:8265: write HOST:PORT, ray://HOST:PORT or auto"),
        (["--ray=127.0.0.1:1"], "--ray 127.0.0.1:1: no cluster can be used there ([Errno 111] Connection refused)"),
        (["--ray=auto", "--send=/etc/passwd"], "give a file or folder in the current folder"),
        (["--ray=auto", "--devices=0"], "--devices is for this machine"),
        (["--cpus-per-run=2"], "--cpus-per-run is for runs on a Ray cluster"),
    ],
)
def test_what_cannot_be_is_one_line(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    path = write_sweep(tmp_path, "model.x: {values: [0]}")
    assert run(path, *options) == 2
    assert message in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["trivial.yaml"]
