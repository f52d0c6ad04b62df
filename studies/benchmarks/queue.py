"""The cost of a sweep's queue in one process that serves many workers; threads take their place, and nothing trains.

python -m studies.benchmarks.queue                                            # SQLite: 100, 500 and 2,000 runs
python -m studies.benchmarks.queue --storage journal --runs 2000 --workers 100 1000
python -m studies.benchmarks.queue --storage postgresql://USER:PASSWORD@HOST/NAME
python -m studies.benchmarks.queue --engine --workers 1000 --runs 2000        # the whole engine of `sweep.py run`

Each worker claims a run. Then it finishes its run, asks for the status of the sweep and claims its next run, until none
is left. Without `--seconds`, this is as fast as the queue serves them, so that the wall time divided by the number of
runs is what a run costs. A round of heartbeats is that of all runs which the workers have. `--engine` adds all else
that the head of a sweep does for a run: names, folders, messages. Its workers sleep in place of those on a cluster.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from genlab.sweep.definition import Definition
from genlab.sweep.engine import Engine, Options
from genlab.sweep.fleet import LocalFleet
from genlab.sweep.parser import load_definition
from genlab.sweep.queue import Job, Queue
from genlab.sweep.storage import open_storage
from genlab.sweep.worker import Json, OnProgress, Outcome, Worker
from studies.benchmarks import machine

T = TypeVar("T")


def simulate(definition: Definition, url: str, workers: int, pause: float) -> None:
    """Prints the cost of a run and of a round of heartbeats in a sweep that has this many workers."""
    queue = Queue(definition, open_storage(url, definition.name, 600), lambda point: f"x={point['model.x']}")
    runs = queue.total or 0

    def work(job: Job | None) -> int:
        done = 0
        while job is not None:
            time.sleep(pause)
            assert queue.finish(job, 1.0)
            queue.status()
            job = queue.claim()
            done += 1
        return done

    with ThreadPoolExecutor(min(workers, runs)) as pool:
        claims, first = _timed(lambda: list(pool.map(lambda _: queue.claim(), range(min(workers, runs)))))
        heartbeats, _ = _timed(queue.heartbeat)
        checks, _ = _timed(lambda: queue.storage.silent(queue._study, []))
        others, done = _timed(lambda: list(pool.map(work, first)))
    assert sum(done) == runs == queue.status().finished, "runs were lost, or executed twice"
    queue.storage.close()
    print(
        f"{queue.storage.url.get_backend_name():10} {runs:5} runs {len(first):5} workers "
        f"{1000 * (claims + others) / runs:7.1f} ms per run; heartbeats {heartbeats:6.3f} s a round, "
        f"search for silent runs {checks:6.3f} s",
        flush=True,
    )


class SleepingWorker(Worker):
    """A worker whose runs sleep.

    Args:
        seconds: How long.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(Path("train.py"))
        self._seconds = seconds

    def run(
        self,
        args: Sequence[str],
        log: Path,
        environment: Mapping[str, str] | None = None,
        on_progress: OnProgress | None = None,
    ) -> Outcome:
        time.sleep(self._seconds)
        return Outcome("finished", {"test/loss": 1.0}, seconds=self._seconds)

    def _question(self, request: Json) -> Any:
        return {"check": [None] * len(request.get("commands", [])), "compare": []}.get(request["do"])


def simulate_engine(definition: Definition, url: str, workers: int, pause: float, root: Path) -> None:
    """Prints the cost of a run in an engine that has this many workers."""
    engine = Engine(definition, Options(root=str(root), workers=1, storage=url))
    fleet = LocalFleet(Path("train.py"), workers, (), len(definition), print)
    fleet.workers = [SleepingWorker(pause) for _ in range(workers)]
    fleet._new = list(fleet.workers)
    engine.fleet = fleet
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        engine.display.console.file = nowhere
        seconds, result = _timed(engine.run)
    assert result.finished == len(definition), "runs were lost"
    print(
        f"engine {len(definition):5} runs {workers:5} workers {seconds:7.1f} s, "
        f"{1000 * seconds / len(definition):7.1f} ms per run, {len(definition) / seconds:6.1f} runs/s",
        flush=True,
    )


def _timed(action: Callable[[], T]) -> tuple[float, T]:
    began = time.perf_counter()
    result = action()
    return time.perf_counter() - began, result


def _definition(folder: Path, runs: int) -> Definition:
    path = folder / "sweep.yaml"
    path.write_text(
        f"name: queue{runs}-{os.getpid()}-{time.time_ns()}\n"
        "program: train.py\n"
        "method: grid\n"
        "metric: {name: test/loss}\n"
        f"parameters: {{model.x: {{distribution: int_uniform, min: 1, max: {runs}}}}}\n"
        'command: ["${program}", "${args}"]\n'
    )
    return load_definition(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--storage", default="sqlite", help="sqlite, journal, or the address of a PostgreSQL database.")
    parser.add_argument("--runs", type=int, nargs="+", default=[100, 500, 2000], help="Numbers of runs.")
    parser.add_argument("--workers", type=int, nargs="+", default=[100, 1000], help="Numbers of workers.")
    parser.add_argument("--seconds", type=float, default=0.0, help="How long each run sleeps.")
    parser.add_argument("--engine", action="store_true", help="Measure the whole engine.")
    options = parser.parse_args()
    print(machine())
    for workers in options.workers:
        for runs in options.runs:
            with tempfile.TemporaryDirectory() as folder:
                address = options.storage
                url = f"{address}:///{folder}/queue" if address in ("sqlite", "journal") else address
                definition = _definition(Path(folder), runs)
                if options.engine:
                    simulate_engine(definition, url, workers, options.seconds, Path(folder))
                else:
                    simulate(definition, url, workers, options.seconds)


if __name__ == "__main__":
    main()
