"""The cost of a sweep: runs per minute, the time that the engine itself takes, and the memory of a worker.

python -m studies.benchmarks.sweep rate --root data --encoders runs/ae_capacity   # 24 runs of sweeps/transfer.yaml
python -m studies.benchmarks.sweep engine                                         # 100, 500 and 2,000 trivial runs
python -m studies.benchmarks.sweep engine --workers 2 --ray auto                  # the same on Ray
python -m studies.benchmarks.sweep start --ray auto                               # seconds until a worker has begun
python -m studies.benchmarks.sweep memory                                         # 200 short runs in one worker
python -m studies.benchmarks.sweep parts                                          # a run's seconds by part

`rate` executes the same runs by `wandb agent`, which starts a process for each run; by `sweep.py agent`; by `sweep.py
run`; and, if asked, by one process per run without the waiting times of `wandb agent`. The methods alternate in rounds.
Where each run has a process of its own, the rounds share the runs, as the rate does not depend on their number. The W&B
server is the mock server of the tests on loopback, so that the network takes no time.

`engine` measures the whole time of `sweep.py run`; the runs themselves take a few milliseconds. Its runs begin when
Ray is connected, which is a part of the time too.

`start` measures the seconds until a new worker, which is a process on this machine or an actor on Ray, has imported its
program and answers.

`parts` executes the same run again and again in one worker, and prints the median seconds of its parts. A run costs all
of them beside the training steps, the steps of its validations and those of its test: pictures, checkpoints and the
codes that callbacks compute too.
"""

import argparse
import contextlib
import functools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path

from genlab.runs.config import option
from genlab.runs.folder import read_summary
from genlab.sweep.definition import Definition
from genlab.sweep.engine import Engine, Options
from genlab.sweep.fleet import RayOptions, ray_fleet
from genlab.sweep.parser import load_definition
from genlab.sweep.worker import Worker
from studies.benchmarks import machine
from studies.benchmarks.run_parts import RESULT, TRAINING_AND_TESTING
from tests.wandb_server import WandbServer

HERE = Path(__file__).parents[2]
TRIVIAL = HERE / "tests" / "programs" / "trivial.py"
RUN_PARTS = Path(__file__).with_name("run_parts.py")
KEY = "0123456789" * 4
LATENT_DIMS = ("5", "10", "15", "20")
ENCODER = "depth=3,latent_dim={latent_dim},seed={seed}/checkpoints/best.ckpt"
SHORT = {
    "quickstart": ["trainer.max_epochs=2"],
    "transfer": [],
    "ae_capacity": ["trainer.max_epochs=1", "trainer.limit_train_batches=20"],
}
"""The sweeps of `parts`, and what makes their runs short."""


def rate(options: argparse.Namespace) -> None:
    """Prints the runs per minute of each method, in each round and their median."""
    print(machine())
    rates: dict[str, list[float]] = {name: [] for name in options.methods}
    for round_ in range(options.rounds):
        for name in options.methods:
            dims = LATENT_DIMS[round_ :: options.rounds] if name in PROCESS_PER_RUN else LATENT_DIMS
            runs, seconds, accuracy = _measure(METHODS[name], dims, options)
            rates[name].append(60 * runs / seconds)
            print(
                f"round {round_ + 1}  {name:36}{runs:3} runs  {seconds:7.1f} s  {rates[name][-1]:6.1f} runs/min"
                f"  accuracy {accuracy:.4f}",
                flush=True,
            )
    medians = {name: statistics.median(of_rounds) for name, of_rounds in rates.items()}
    first = next(iter(medians.values()))
    for name, median in medians.items():
        print(f"median   {name:36}{median:29.1f} runs/min  {median / first:.1f} times the first")


def _measure(
    method: Callable[[Definition, Path], None], dims: Sequence[str], options: argparse.Namespace
) -> tuple[int, float, float]:
    """Executes the runs of sweeps/transfer.yaml; returns their number, the seconds, and their mean accuracy."""
    with tempfile.TemporaryDirectory() as root:
        fixed = [*_data_and_encoders(options), f"run.root={root}", f"model.latent_dim={','.join(dims)}"]
        sweep = load_definition(HERE / "sweeps" / "transfer.yaml", [*fixed, *options.override])
        began = time.perf_counter()
        method(sweep, Path(root))
        seconds = time.perf_counter() - began
        done = [read_summary(path.parent) or {} for path in Path(root).glob("transfer/*/summary.json")]
    finished = [run["metrics"]["test/accuracy"] for run in done if run.get("state") == "finished"]
    assert len(finished) == len(sweep), f"{len(finished)} of {len(sweep)} runs finished"
    return len(finished), seconds, statistics.mean(finished)


def _data_and_encoders(options: argparse.Namespace) -> list[str]:
    encoder = f'model.encoder_checkpoint="{options.encoders.resolve() / ENCODER}"'
    return [f"data.root={options.root.resolve()}", encoder]


def by_processes(sweep: Definition, root: Path) -> None:
    for point in sweep.points():
        _run([sys.executable, "train.py", *sweep.arguments(point)], os.environ | {"WANDB_MODE": "offline"})


def by_engine(sweep: Definition, root: Path, workers: int, *more: str) -> None:
    path = root / "sweep.yaml"
    path.write_text(sweep.to_yaml())
    options = [f"--root={root}", f"--workers={workers}", "--no-report", *more]
    _run([sys.executable, "sweep.py", "run", str(path), *options], os.environ)


def by_wandb_agent(sweep: Definition, root: Path) -> None:
    with _server(sweep, root) as (environment, name):
        _run([sys.executable, "-m", "wandb", "agent", name], environment)


def by_agent(sweep: Definition, root: Path) -> None:
    with _server(sweep, root) as (environment, name):
        _run([sys.executable, "sweep.py", "agent", name], environment)


@contextlib.contextmanager
def _server(sweep: Definition, root: Path) -> Iterator[tuple[dict[str, str], str]]:
    """Starts a W&B server with the sweep; yields the environment variables of its clients and the path of the sweep."""
    path = root / "sweep.yaml"
    path.write_text(sweep.to_yaml())
    with WandbServer() as server:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
        own = {
            "WANDB_BASE_URL": server.url,
            "WANDB_API_KEY": KEY,
            "WANDB_ERROR_REPORTING": "false",
            "WANDB_SILENT": "true",
        }
        own |= {"HOME": str(root), "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
        environment = kept | own | {"WANDB_AGENT_DISABLE_FLAPPING": "true"}
        _run([sys.executable, "-m", "wandb", "sweep", str(path)], environment)
        [name] = server.sweeps
        yield environment, f"tester/{sweep.project}/{name}"


def _run(command: Sequence[str], environment: "dict[str, str] | os._Environ[str]") -> None:
    subprocess.run(command, env=dict(environment), cwd=HERE, check=True, stdout=subprocess.DEVNULL)


METHODS: dict[str, Callable[[Definition, Path], None]] = {
    "wandb agent": by_wandb_agent,
    "process per run": by_processes,
    "sweep.py agent": by_agent,
    "sweep.py run": lambda sweep, root: by_engine(sweep, root, 1),
    "sweep.py run --workers 2": lambda sweep, root: by_engine(sweep, root, 2),
    "sweep.py run --workers 2 --ray auto": lambda sweep, root: by_engine(sweep, root, 2, "--ray=auto"),
}
PROCESS_PER_RUN = ("wandb agent", "process per run")


def engine(options: argparse.Namespace) -> None:
    """Prints the time of the engine for several numbers of trivial runs."""
    for count in options.runs:
        with tempfile.TemporaryDirectory() as root:
            sweep = _trivial(Path(root), count)
            began = time.perf_counter()
            how = Options(root=root, workers=options.workers, storage=options.storage, ray=_ray(options))
            offline = Engine(sweep, how)
            with contextlib.redirect_stdout(None), open(os.devnull, "w", encoding="utf-8") as nowhere:
                offline.display.console.file = nowhere
                result = offline.run()
            seconds = time.perf_counter() - began
        assert result.finished == count
        print(f"{count:5} runs  {seconds:6.1f} s  {1000 * seconds / count:5.1f} ms per run", flush=True)


def _ray(options: argparse.Namespace) -> RayOptions | None:
    return None if options.ray is None else RayOptions(options.ray)


def start(options: argparse.Namespace) -> None:
    """Prints the seconds until a new worker can take its first run, for a trivial program and for train.py."""
    print(machine())
    for program in (TRIVIAL, HERE / "train.py"):
        with tempfile.TemporaryDirectory() as root, contextlib.ExitStack() as stack:
            new: Callable[[], Worker] = functools.partial(Worker, program, {"OMP_NUM_THREADS": "1"})
            if options.ray is not None:
                fleet = ray_fleet(program, root, _ray(options), None, "data", {}, print)
                stack.callback(fleet.close)
                fleet.open()
                fleet.new_worker()
                new = fleet.new_worker
            for _ in range(options.count):
                began = time.perf_counter()
                worker = new()
                assert worker.wait_until_ready(threading.Event())
                worker.check([])
                print(f"{program.name}  {time.perf_counter() - began:.2f} s", flush=True)
                worker.close()


def _trivial(root: Path, count: int) -> Definition:
    path = root / "sweep.yaml"
    path.write_text(
        f"name: trivial{count}-{os.getpid()}\n"
        f"program: {TRIVIAL}\n"
        "method: grid\n"
        "metric: {name: test/loss}\n"
        f"parameters: {{model.x: {{distribution: int_uniform, min: 1, max: {count}}}}}\n"
        'command: ["${program}", "${args}"]\n'
    )
    return load_definition(path)


def memory(options: argparse.Namespace) -> None:
    """Prints the memory of a worker after many runs."""
    with tempfile.TemporaryDirectory() as root:
        sweep = load_definition(HERE / "sweeps" / "quickstart.yaml", ["trainer.max_epochs=1", f"run.root={root}"])
        args = sweep.arguments(next(sweep.points()))
        assert option(args, "run.root") == root
        worker = Worker(HERE / "train.py", {"WANDB_MODE": "offline", "OMP_NUM_THREADS": "1"})
        sizes = []
        for number in range(options.runs):
            outcome = worker.run([*args, f"--seed_everything={number}"], Path(root) / "log.txt")
            assert outcome.state == "finished", outcome.error
            sizes.append(_resident(worker.pid or 0))
            shutil.rmtree(outcome.folder or "")
            if (number + 1) % 20 == 0:
                print(f"after {number + 1:4} runs  {sizes[-1] / 2**20:6.0f} MiB", flush=True)
        worker.close()
    print(f"growth from the 20th run to the last: {100 * (sizes[-1] / sizes[19] - 1):.1f} %")


def _resident(pid: int) -> int:
    """Returns the resident memory of a process in bytes."""
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def parts(options: argparse.Namespace) -> None:
    """Prints the median seconds of a run in a warm worker, by part."""
    print(machine())
    for name in options.sweeps:
        runs = _run_parts(name, options)
        medians = {part: statistics.median(run.get(part, 0.0) for run in runs) for part in dict.fromkeys(chain(*runs))}
        beside = [sum(s for part, s in run.items() if part not in TRAINING_AND_TESTING) for run in runs]
        print(f"\nsweeps/{name}.yaml, median of {len(runs)} runs")
        for part, seconds in sorted(medians.items(), key=lambda item: (item[0] in TRAINING_AND_TESTING, -item[1])):
            print(f"  {part:32}{seconds:7.3f} s")
        print(f"  {'beside ' + ', '.join(TRAINING_AND_TESTING):32}{statistics.median(beside):7.3f} s", flush=True)


def _run_parts(name: str, options: argparse.Namespace) -> list[dict[str, float]]:
    """Executes the first run of a sweep several times in one worker; the first two, which warm it up, do not count."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "parts.jsonl"
        fixed = [*SHORT[name], f"run.root={folder}"]
        if name != "quickstart":
            fixed += _data_and_encoders(options)[: 2 if name == "transfer" else 1]
        sweep = load_definition(HERE / "sweeps" / f"{name}.yaml", fixed)
        worker = Worker(RUN_PARTS, {"WANDB_MODE": options.wandb, RESULT: str(file)})
        for _ in range(options.runs + 2):
            outcome = worker.run(sweep.arguments(next(sweep.points())), Path(folder) / "log.txt")
            assert outcome.state == "finished", outcome.error
            with file.open("a", encoding="utf-8") as seconds:
                seconds.write(json.dumps({"whole": outcome.seconds}) + "\n")
            shutil.rmtree(outcome.folder or "")
        worker.close()
        lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    runs = [
        of_parts | {"worker": whole["whole"] - sum(of_parts.values())}
        for of_parts, whole in zip(lines[::2], lines[1::2], strict=True)
    ]
    return runs[2:]


def _add_mnist(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--root", type=Path, default=Path("data"), help="folder with mnist.npz (default: data)")
    parser.add_argument(
        "--encoders", type=Path, default=Path("runs/ae_capacity"), help="folder of the runs of sweeps/ae_capacity.yaml"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts_of = parser.add_subparsers(required=True)
    one = parts_of.add_parser("rate", help="runs per minute of each method")
    _add_mnist(one)
    one.add_argument(
        "--methods",
        nargs="*",
        choices=METHODS,
        default=["wandb agent", "sweep.py agent", "sweep.py run"],
        help="the methods to measure (default: wandb agent, sweep.py agent, sweep.py run)",
    )
    one.add_argument("--rounds", type=int, choices=(1, 2, 4), default=2, help="rounds of all methods (default: 2)")
    one.add_argument("--override", nargs="*", default=[], help="KEY=VALUE,..., as in sweep.py run, for a short trial")
    one.set_defaults(part=rate)
    two = parts_of.add_parser("engine", help="the time that the engine itself takes")
    two.add_argument("--runs", type=int, nargs="*", default=[100, 500, 2000], help="numbers of runs")
    two.add_argument("--workers", type=int, default=1, help="number of workers (default: 1)")
    two.add_argument("--storage", help="address of the queue, as in sweep.py run")
    two.add_argument("--ray", metavar="ADDRESS", help="a Ray cluster, as in sweep.py run")
    two.set_defaults(part=engine)
    three = parts_of.add_parser("memory", help="the memory of a worker")
    three.add_argument("--runs", type=int, default=200, help="number of runs (default: 200)")
    three.set_defaults(part=memory)
    four = parts_of.add_parser("parts", help="the seconds of a run in a warm worker, by part")
    _add_mnist(four)
    four.add_argument("--sweeps", nargs="*", choices=SHORT, default=list(SHORT), help="the sweeps (default: all)")
    four.add_argument("--runs", type=int, default=9, help="measured runs of each (default: 9)")
    four.add_argument("--wandb", choices=["disabled", "offline"], default="disabled", help="W&B (default: disabled)")
    four.set_defaults(part=parts)
    five = parts_of.add_parser("start", help="seconds until a new worker can take a run")
    five.add_argument("--ray", metavar="ADDRESS", help="a Ray cluster, as in sweep.py run")
    five.add_argument("--count", type=int, default=5, help="number of workers, one after the other (default: 5)")
    five.set_defaults(part=start)
    options = parser.parse_args()
    options.part(options)


if __name__ == "__main__":
    main()
