"""`sweep.py run --ray` on a cluster of several nodes, which are processes of this machine."""

import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.genlab.sweep.test_engine import calls, finished, start, wait_for_call, write_sweep

ray = pytest.importorskip("ray")
from ray.cluster_utils import Cluster  # noqa: E402

HEAD = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": 80_000_000}
NODE = {"num_cpus": 3, "object_store_memory": 80_000_000}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A head without room for runs, and one node for three."""
    made = Cluster(initialize_head=True, head_node_args=HEAD)
    made.add_node(**NODE)
    yield made
    made.shutdown()


def actors(head: int) -> list[int]:
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
        if killed < ended // 10 and (victims := actors(process.pid)):
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
