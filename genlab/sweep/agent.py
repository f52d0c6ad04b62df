"""A W&B sweep agent that executes all its runs in one persistent worker process.

Like `wandb agent` it registers with the server, sends heartbeats, and executes the commands in their answers: run,
resume, stop, exit. A run that was stopped by the user or by SIGTERM is marked as preempted, so that the next agent
resumes it from its last.ckpt.
"""

import collections
import contextlib
import copy
import functools
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from types import FrameType
from typing import Any

import rich.console
import yaml
from wandb.sdk.lib.service.service_connection import WandbApiFailedError

from genlab.packaged import find_program
from genlab.runs.config import option, overridden_values, run_folder
from genlab.runs.errors import describe_error, error_message
from genlab.runs.folder import RunOptions, read_summary, safe_name
from genlab.runs.wandb_variables import varied_keys
from genlab.sweep.agent_server import AssignedRun, SweepServer
from genlab.sweep.definition import PROGRAM, command_arguments
from genlab.sweep.fleet import RayOptions, ray_fleet
from genlab.sweep.sync import sync
from genlab.sweep.worker import Outcome, Worker

Json = dict[str, Any]
HEARTBEAT_SECONDS = 5.0
"""Time between two heartbeats, as in `wandb agent`."""
FIRST_IDLE_SECONDS = 0.25
"""How soon an idle agent asks again. The time doubles with each request, up to HEARTBEAT_SECONDS."""
KILL_SECONDS = 30.0
"""A run that W&B stops ends with its epoch. If W&B repeats the command this much later, the run is stopped at once; if
it does so again after twice this time, the run is killed."""
LOG_LINES = 100
"""The number of lines of a crashed run's log that are sent to W&B."""
ACTIVE_STATES = ("pending", "running", "preempting")
FINAL_STATUSES = (401, 403, 404)
"""HTTP statuses after which the agent exits: the key is not accepted, or the sweep does not exist any more."""


@dataclass
class AgentResult:
    """The numbers of an agent's runs by their end, and the signal that stopped the agent, if any."""

    finished: int = 0
    failed: int = 0
    stopped: int = 0
    signal: int | None = None


def run_agent(
    path: str,
    count: int | None = None,
    devices: str | None = None,
    ray: RayOptions | None = None,
    workers: int | None = None,
) -> AgentResult:
    """Executes runs of a W&B sweep until W&B has no more runs, or `count` are done.

    After Ctrl-C the current run finishes and no new one starts. A second Ctrl-C or SIGTERM stops the current run, and a
    third Ctrl-C kills it.

    Args:
        path: ENTITY/PROJECT/ID, PROJECT/ID or ID of the sweep. W&B's settings give the parts that are left out.
        count: The maximum number of runs.
        devices: CUDA_VISIBLE_DEVICES of the worker.
        ray: The Ray cluster whose nodes execute the runs, each worker as an agent of its own; None for one worker here.
        workers: Number of workers on Ray. By default as many as fit.

    Raises:
        UsageError: There is no key, no server, or no such sweep, or its command has no ${program}.
    """
    server = SweepServer(path)
    program = find_program(server.config.get("program") or PROGRAM)
    with tempfile.TemporaryDirectory(prefix="genlab-agent-") as folder, contextlib.ExitStack() as stack:
        number = 1
        environment = {} if devices is None else {"CUDA_VISIBLE_DEVICES": devices}
        new_worker: Callable[[], Worker] = functools.partial(Worker, program, environment)
        if ray is not None:
            command = [str(word) for word in server.config["command"]]
            root, data = option(command, "run.root") or "runs", option(command, "data.root") or "data"
            variables = {"WANDB_API_KEY": server.key} if server.key else {}
            fleet = ray_fleet(program, root, ray, workers, data, variables, print)
            stack.callback(fleet.close)
            fleet.open()
            number, new_worker = workers or fleet.room(), fleet.new_worker
        budget = None if count is None else threading.Semaphore(count)
        agents = [_Agent(copy.copy(server), Path(folder), budget, new_worker) for _ in range(number)]
        with _handle_signals(agents):
            return _work_together(agents)


def _work_together(agents: Sequence["_Agent"]) -> AgentResult:
    """Lets each agent work in a thread of its own; returns the sums of their results."""
    errors: list[BaseException] = []

    def work(agent: _Agent) -> None:
        try:
            agent.work()
        except BaseException as error:
            errors.append(error)
            for other in agents:
                other.exit(other.result.signal)

    threads = [threading.Thread(target=work, args=(agent,), daemon=True) for agent in agents]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        time.sleep(0.05)
    if errors:
        raise errors[0]
    results = [agent.result for agent in agents]
    sums = {name: sum(getattr(one, name) for one in results) for name in ("finished", "failed", "stopped")}
    return AgentResult(**sums, signal=results[0].signal)


@contextmanager
def _handle_signals(agents: Sequence["_Agent"]) -> Iterator[None]:
    """Passes on Ctrl-C and SIGTERM."""
    interrupts = 0
    plural = "s" if len(agents) > 1 else ""

    def end(number: int, frame: FrameType | None) -> None:
        nonlocal interrupts
        interrupts += number == signal.SIGINT
        busy = [agent for agent in agents if agent.current is not None]
        for agent in agents:
            agent.exit(number)
        if number == signal.SIGTERM or interrupts > 1:
            for agent in busy:
                (agent.kill if interrupts > 2 else agent.stop)()
        if number == signal.SIGTERM:
            return
        if not busy and interrupts > 1:
            raise KeyboardInterrupt
        if not busy:
            print("exiting")
        elif interrupts == 1:
            print(f"finishing the current run{plural}; press Ctrl-C again to stop")
        elif interrupts == 2:
            print(f"stopping the current run{plural}; press Ctrl-C again to kill")

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Agent:
    """Executes one run at a time in a worker. A thread waits for the run, another one communicates with W&B.

    Args:
        server: The W&B server, for one sweep.
        folder: Folder of the parameter files that wandb.init reads.
        budget: How many runs all agents of this process may still begin; None without a limit.
        new_worker: Returns a new worker of the sweep's program.
    """

    def __init__(
        self,
        server: SweepServer,
        folder: Path,
        budget: threading.Semaphore | None,
        new_worker: Callable[[], Worker],
    ) -> None:
        self.server = server
        self.swept = varied_keys(server.config.get("parameters", {}))
        self.folder = folder
        self.result = AgentResult()
        self.current: AssignedRun | None = None
        self.assigned: collections.deque[AssignedRun] = collections.deque()
        self._budget, self._reserved = budget, False
        self._new_worker = new_worker
        self._worker = new_worker()
        self._exiting = threading.Event()
        self._server_answers = True
        self._wake_up: SimpleQueue[None] = SimpleQueue()  # unlike an Event, a signal handler may use it
        self._console = rich.console.Console(highlight=False, markup=False, soft_wrap=True)

    def work(self) -> AgentResult:
        """Executes runs; see `run_agent`."""
        try:
            if not self._worker.wait_until_ready(self._exiting):
                return self.result
            self._worker.check([])  # imports the program, so that no run waits for it
            self._worker.require_gpus()
            self.server.register()
            idle = FIRST_IDLE_SECONDS
            while not self._is_done():
                for command in self._heartbeat():
                    self._execute_command(command)
                self._start_next()
                self._wait(HEARTBEAT_SECONDS if self.current else idle)
                idle = FIRST_IDLE_SECONDS if self.current else min(2 * idle, HEARTBEAT_SECONDS)
            for run in self.assigned:
                self._report_end(run, Outcome("stopped", error="returned by an agent that was about to exit"))
        finally:
            self._worker.close()
        return self.result

    def exit(self, number: int | None = None) -> None:
        """Lets the agent end after its current run."""
        self.result.signal = number
        self._exiting.set()
        self._wake_up.put(None)

    def stop(self) -> None:
        """Stops the current run."""
        self._worker.stop()

    def kill(self) -> None:
        self._worker.kill()

    def _is_done(self) -> bool:
        """Finishes a run that has ended; returns whether the agent is done."""
        if self.current is not None and self.current.outcome is not None:
            self._finish(self.current, self.current.outcome)
            self.current, self._reserved = None, False
        if self.current is not None:
            return False
        return self._exiting.is_set() or not self._reserve() or not self._worker.wait_until_ready(self._exiting)

    def _reserve(self) -> bool:
        """Returns whether another run may begin."""
        self._reserved = self._reserved or self._budget is None or self._budget.acquire(blocking=False)
        return self._reserved

    def _heartbeat(self) -> list[Json]:
        """Returns W&B's commands; an empty list while the server does not answer, which is printed once."""
        try:
            commands = self.server.heartbeat([self.current.id] if self.current else [])
        except WandbApiFailedError as error:
            status = error.response.http_status if error.response is not None else None
            if status in FINAL_STATUSES:
                if not self._exiting.is_set():
                    self._console.print(
                        f"W&B does not accept this agent any more ({error_message(error)})", style="red"
                    )
                self._exiting.set()
            elif self._server_answers:
                self._console.print(f"W&B does not answer ({error_message(error)}); trying again", style="yellow")
            self._server_answers = False
            return []
        if not self._server_answers:
            self._console.print("W&B answers again", style="green")
        self._server_answers = True
        return commands

    def _execute_command(self, command: Json) -> None:
        match command["type"]:
            case "run" | "resume" as kind:
                values = {key: item["value"] for key, item in command["args"].items()}
                self.assigned.append(AssignedRun(command["run_id"], values, self.swept, kind == "resume"))
            case "stop" if self.current is not None and command["run_id"] == self.current.id:
                self._stop_run(self.current)
            case "exit":
                self._exiting.set()
                if self.current is not None:
                    self.current.stop_time = time.monotonic()
                    self._worker.stop()

    def _stop_run(self, run: AssignedRun) -> None:
        """Stops a run at the end of its epoch, so that the worker stays alive; if W&B repeats the command, at once."""
        now = time.monotonic()
        if run.stop_time is None:
            run.stop_time = now
        elif now > run.stop_time + 2 * KILL_SECONDS:
            self._worker.kill()
        elif now > run.stop_time + KILL_SECONDS:
            self._worker.stop()

    def _start_next(self) -> None:
        if self.current is None and self.assigned and not self._exiting.is_set():
            self.current = self.assigned.popleft()
            threading.Thread(target=self._execute_run, args=(self.current,), daemon=True).start()

    def _execute_run(self, run: AssignedRun) -> None:
        """Executes a whole run, in a thread."""
        try:
            args = command_arguments(self.server.config["command"], run.values)
            args += _resume_arguments(args, run.id) if run.resumed else []
            run.log = _log_file(args, self.server.config.get("name") or self.server.sweep, run.id)
            environment = self._run_environment(run)
            outcome = self._worker.run(args, run.log, environment, lambda _: run.stop_time is not None)
        except Exception as error:
            outcome = Outcome("failed", error=describe_error(error))
        run.outcome = outcome
        self._wake_up.put(None)

    def _run_environment(self, run: AssignedRun) -> dict[str, str]:
        """Returns the environment variables by which `wandb agent` configures the wandb.init of a run."""
        parameters = self.folder / f"{run.id}.yaml"
        wrapped = {key: {"value": value} for key, value in run.values.items()}
        parameters.write_text(yaml.safe_dump({"wandb_version": 1, **wrapped}, sort_keys=False, allow_unicode=True))
        return {
            "WANDB_RUN_ID": run.id,
            "WANDB_SWEEP_ID": self.server.sweep,
            "WANDB_SWEEP_PARAM_PATH": str(parameters),
            "WANDB_PROJECT": self.server.project,
            **({"WANDB_ENTITY": self.server.entity} if self.server.entity else {}),
        }

    def _finish(self, run: AssignedRun, outcome: Outcome) -> None:
        """Counts the run, prints how it ended, and reports it to W&B."""
        state = "stopped" if outcome.state == "finished" and outcome.early else outcome.state
        line = f"{run.name}  {state}"
        if state == "finished":
            self.result.finished += 1
        elif state in ("stopped", "lost"):
            self.result.stopped += 1
        else:
            self.result.failed += 1
            line += f": {outcome.error}" + (f" (log: {run.log})" if run.log is not None and run.log.exists() else "")
        metric = (self.server.config.get("metric") or {}).get("name")
        if metric in outcome.metrics:
            line += f"  {metric} {outcome.metrics[metric]:.4g}"
        style = {"finished": "green", "stopped": "yellow", "lost": "yellow"}.get(state, "red")
        self._console.print(f"{line}  {outcome.seconds:.1f} s", style=style)
        self._report_end(run, outcome)
        if outcome.state == "stopped":
            self._worker.close()
            self._worker = self._new_worker()

    def _report_end(self, run: AssignedRun, outcome: Outcome) -> None:
        """Reports the end of a run to W&B, unless the run's own process has done so."""
        preempted = outcome.state in ("stopped", "lost") and run.stop_time is None
        try:
            if not preempted and self.server.state(run.id) not in ACTIVE_STATES:
                return
            if outcome.state == "finished" and outcome.folder is not None:
                sync(Path(outcome.folder).parent)  # the server did not answer when the run started
            else:
                self.server.end(run, f"{outcome.error or outcome.state}\n\n{_tail(run.log)}", preempted)
        except Exception as error:
            reason = error_message(error)
            self._console.print(f"the end of {run.id} could not be reported to W&B ({reason})", style="yellow")

    def _wait(self, seconds: float) -> None:
        """Waits until the time is over, the run ends, or a signal arrives."""
        with contextlib.suppress(Empty):
            self._wake_up.get(timeout=seconds)


def _resume_arguments(args: list[str], run: str) -> list[str]:
    """Returns the option by which a run goes on from its last checkpoint; none where no folder belongs to the run.

    The folder is found by W&B's id, because runs of other points can have the same name with another number.
    """
    options = RunOptions(root=option(args, "run.root") or "runs", experiment=option(args, "run.experiment"))
    experiment = run_folder(args, options, {"model": "", "data": "", **overridden_values(args)}).parent
    for checkpoint in experiment.glob("*/checkpoints/last.ckpt"):
        if (read_summary(checkpoint.parents[1]) or {}).get("wandb_id") == run:
            return [f"--ckpt_path={checkpoint}"]
    return []


def _log_file(args: Sequence[str], experiment: str, run: str) -> Path:
    """Returns the file for the output of a run, in the folder of its experiment."""
    words = list(args)
    root = Path(option(words, "run.root") or "runs")
    return root / safe_name(option(words, "run.experiment") or experiment) / "logs" / f"{safe_name(run)}.txt"


def _tail(log: Path | None) -> str:
    """Returns the last LOG_LINES lines of a log."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log else []
    except OSError:
        lines = []
    return "\n".join(lines[-LOG_LINES:])
