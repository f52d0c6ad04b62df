"""A W&B sweep agent that executes all its runs in one persistent worker process.

Like `wandb agent` it registers with the server, sends heartbeats, and executes the commands in their answers: run,
resume, stop, exit. A run that was stopped by the user or by SIGTERM is marked as preempted, so that the next agent
resumes it from its last.ckpt.
"""

import collections
import contextlib
import json
import os
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from types import FrameType
from typing import Any

import rich.console
import wandb
import wandb.errors
import yaml
from wandb.sdk.lib.service.service_connection import WandbApiFailedError

from genlab.packaged import find_program, sweep_command
from genlab.runs.config import flatten, option, overridden_values, run_folder, run_name, short_key
from genlab.runs.errors import UsageError, describe_error, error_message
from genlab.runs.folder import RunOptions, read_summary, safe_name
from genlab.runs.wandb_access import require_wandb
from genlab.runs.wandb_variables import MODES, variable, varied_keys
from genlab.sweep.definition import PROGRAM, command_arguments, refuse_booleans
from genlab.sweep.sync import sync
from genlab.sweep.worker import Outcome, Worker
from genlab.yaml_files import load_yaml

Json = dict[str, Any]
HEARTBEAT_SECONDS = 5.0
"""Time between two heartbeats, as in `wandb agent`."""
FIRST_IDLE_SECONDS = 0.25
"""How soon an idle agent asks again. The time doubles with each request, up to HEARTBEAT_SECONDS."""
REQUEST_SECONDS = 30.0
"""How long a request may take, including the attempts that W&B's client repeats after 429 and 5xx."""
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

    @property
    def runs(self) -> int:
        return self.finished + self.failed + self.stopped


def run_agent(path: str, count: int | None = None, devices: str | None = None) -> AgentResult:
    """Executes runs of a W&B sweep until W&B has no more runs, or `count` are done.

    After Ctrl-C the current run finishes and no new one starts. A second Ctrl-C or SIGTERM stops the current run, and a
    third Ctrl-C kills it.

    Args:
        path: ENTITY/PROJECT/ID, PROJECT/ID or ID of the sweep. W&B's settings give the parts that are left out.
        count: The maximum number of runs.
        devices: CUDA_VISIBLE_DEVICES of the worker.

    Raises:
        UsageError: There is no key, no server, or no such sweep, or its command has no ${program}.
    """
    server = _Server(path)
    program = find_program(server.config.get("program") or PROGRAM)
    with tempfile.TemporaryDirectory(prefix="genlab-agent-") as folder:
        agent = _Agent(server, program, Path(folder), count, devices)
        with agent.handle_signals():
            return agent.work()


@dataclass
class _AssignedRun:
    """A run that W&B assigned to this agent, and how it ended."""

    id: str
    values: Json
    swept: list[str]
    resumed: bool
    outcome: Outcome | None = None
    log: Path | None = None
    stop_time: float | None = None
    """When W&B commanded to stop it, by time.monotonic()."""

    @property
    def name(self) -> str:
        values = {short_key(key): value for key, value in flatten(self.values).items()}
        name = run_name(values, values, self.swept)
        return self.id if name == "default" else f"{self.id} {name}"


class _Server:
    """The requests of an agent to the W&B server.

    Args:
        path: The path of the sweep.

    Raises:
        UsageError: W&B cannot be used, or the sweep does not exist.
    """

    def __init__(self, path: str) -> None:
        entity, project, self.sweep = _parse(path)
        _require_online()
        self._api = wandb.Api()
        os.environ.pop("WANDB_SERVICE", None)  # so that the worker starts a W&B service of its own
        self.entity = entity or self._api.settings["entity"]
        self.project = project or self._api.settings["project"] or "uncategorized"
        self._project: Json = {"entity": self.entity, "project": self.project}
        self.config = self._definition()
        self._agent = ""

    def register(self) -> None:
        query = """mutation CreateAgent($host: String!, $project: String, $entity: String, $sweep: String!) {
            createAgent(input: {host: $host, projectName: $project, entityName: $entity, sweep: $sweep}) {
                agent { id }
            }
        }"""
        answer = self._require(query, host=socket.gethostname(), sweep=self.sweep, **self._project)
        self._agent = answer["createAgent"]["agent"]["id"]

    def heartbeat(self, running: Sequence[str]) -> list[Json]:
        """Sends a heartbeat and returns W&B's commands.

        Args:
            running: Ids of the current runs.

        Raises:
            WandbApiFailedError: The server did not answer, or it refused the request.
        """
        query = """mutation Heartbeat($id: ID!, $metrics: JSONString, $runState: JSONString) {
            agentHeartbeat(input: {id: $id, metrics: $metrics, runState: $runState}) { agent { id } commands }
        }"""
        states = json.dumps(dict.fromkeys(running, True))
        answer = self._execute(query, id=self._agent, metrics="{}", runState=states)
        return json.loads(answer["agentHeartbeat"]["commands"])

    def state(self, run: str) -> str | None:
        """Returns W&B's state of a run; None for an unknown run."""
        query = """query RunState($project: String!, $entity: String, $name: String!) {
            project(name: $project, entityName: $entity) { run(name: $name) { state } }
        }"""
        found = (self._execute(query, name=run, **self._project)["project"] or {}).get("run")
        return found and found["state"]

    def end(self, run: _AssignedRun, text: str, preempted: bool) -> None:
        """Reports to W&B the end of a run whose own process could not do so.

        Args:
            run: The run.
            text: Why it ended, for W&B's log of the run.
            preempted: Whether the next agent may resume it.
        """
        started = self.state(run.id) != "pending"
        settings = wandb.Settings(
            sweep_id=self.sweep,
            console="off",
            silent=True,
            x_disable_stats=True,
            init_timeout=REQUEST_SECONDS,
            finish_timeout=REQUEST_SECONDS,
            stop_fn=lambda: None,
        )
        with tempfile.TemporaryDirectory() as folder:
            config = None if started else run.values
            init: Json = {"id": run.id, "resume": "allow", "mode": "online", "dir": folder, "config": config}
            resumed = wandb.init(**self._project, **init, settings=settings)
            if preempted:
                resumed.mark_preempting()
            resumed.write_logs(text)
            resumed.finish(exit_code=1)

    def _definition(self) -> Json:
        query = """query SweepWithRuns($entity: String, $project: String, $sweep: String!) {
            project(name: $project, entityName: $entity) { sweep(sweepName: $sweep) { id name state config } }
        }"""
        project = self._require(query, sweep=self.sweep, **self._project)["project"]
        if not project or not project["sweep"]:
            where = "/".join(filter(None, [self.entity, self.project]))
            raise UsageError(
                f"W&B has no sweep {self.sweep} in {where}; give ENTITY/PROJECT/ID as `wandb sweep` printed it"
            )
        config = load_yaml(project["sweep"]["config"])
        if "repeats" in config:
            advice = "give the seeds as values of seed_everything in a new sweep"
            raise UsageError(f"the sweep {self.sweep} has repeats, which W&B does not know and ignores; {advice}")
        command = config.get("command") or ["${program}", "${args}"]
        if "${program}" not in command:
            raise UsageError(f"the command of sweep {self.sweep} has no ${{program}}; use `wandb agent` for it")
        values = {key: spec.get("values", [spec.get("value")]) for key, spec in config.get("parameters", {}).items()}
        if error := refuse_booleans(command, config.get("program") or PROGRAM, values):
            raise UsageError(f"the command of sweep {self.sweep} cannot work: {error} in a new sweep")
        return {**config, "command": command[command.index("${program}") + 1 :]}

    def _require(self, query: str, **variables: Any) -> Json:
        """As `_execute`, for requests that must succeed before the first run."""
        try:
            return self._execute(query, **variables)
        except WandbApiFailedError as error:
            reason = error_message(error)
            raise UsageError(f"W&B refuses the sweep {self.sweep} ({reason}); check the path and the key") from None

    def _execute(self, query: str, **variables: Any) -> Json:
        return self._api._service_api.execute_graphql(query, variables, REQUEST_SECONDS)


class _Agent:
    """Executes one run at a time in a worker. A thread waits for the run; the main thread communicates with W&B.

    Args:
        server: The W&B server, for one sweep.
        program: The program of the sweep.
        folder: Folder of the parameter files that wandb.init reads.
        count: The maximum number of runs.
        devices: CUDA_VISIBLE_DEVICES of the worker.
    """

    def __init__(self, server: _Server, program: Path, folder: Path, count: int | None, devices: str | None) -> None:
        self.server = server
        self.swept = varied_keys(server.config.get("parameters", {}))
        self.program = program
        self.folder = folder
        self.count = count
        self.environment = {} if devices is None else {"CUDA_VISIBLE_DEVICES": devices}
        self.result = AgentResult()
        self.current: _AssignedRun | None = None
        self.assigned: collections.deque[_AssignedRun] = collections.deque()
        self._worker = Worker(program, self.environment)
        self._exiting = False
        self._interrupts = 0
        self._server_answers = True
        self._wake_up: SimpleQueue[None] = SimpleQueue()  # unlike an Event, a signal handler may use it
        self._console = rich.console.Console(highlight=False, markup=False, soft_wrap=True)

    def work(self) -> AgentResult:
        """Executes runs; see `run_agent`."""
        try:
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

    @contextmanager
    def handle_signals(self) -> Iterator[None]:
        handlers = {signal.SIGINT: self._on_interrupt, signal.SIGTERM: self._on_terminate}
        before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _is_done(self) -> bool:
        """Finishes a run that has ended; returns whether the agent is done."""
        if self.current is not None and self.current.outcome is not None:
            self._finish(self.current, self.current.outcome)
            self.current = None
        enough = self.count is not None and self.result.runs >= self.count
        return self.current is None and (self._exiting or enough)

    def _heartbeat(self) -> list[Json]:
        """Returns W&B's commands; an empty list while the server does not answer, which is printed once."""
        try:
            commands = self.server.heartbeat([self.current.id] if self.current else [])
        except WandbApiFailedError as error:
            status = error.response.http_status if error.response is not None else None
            if status in FINAL_STATUSES:
                if not self._exiting:
                    self._console.print(
                        f"W&B does not accept this agent any more ({error_message(error)})", style="red"
                    )
                self._exiting = True
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
                self.assigned.append(_AssignedRun(command["run_id"], values, self.swept, kind == "resume"))
            case "stop" if self.current is not None and command["run_id"] == self.current.id:
                self._stop_run(self.current)
            case "exit":
                self._exiting = True
                if self.current is not None:
                    self.current.stop_time = time.monotonic()
                    self._worker.stop()

    def _stop_run(self, run: _AssignedRun) -> None:
        """Stops a run at the end of its epoch, so that the worker stays alive; if W&B repeats the command, at once."""
        now = time.monotonic()
        if run.stop_time is None:
            run.stop_time = now
        elif now > run.stop_time + 2 * KILL_SECONDS:
            self._worker.kill()
        elif now > run.stop_time + KILL_SECONDS:
            self._worker.stop()

    def _start_next(self) -> None:
        if self.current is None and self.assigned and not self._exiting:
            self.current = self.assigned.popleft()
            threading.Thread(target=self._execute_run, args=(self.current,), daemon=True).start()

    def _execute_run(self, run: _AssignedRun) -> None:
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

    def _run_environment(self, run: _AssignedRun) -> dict[str, str]:
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

    def _finish(self, run: _AssignedRun, outcome: Outcome) -> None:
        """Counts the run, prints how it ended, and reports it to W&B."""
        state = "stopped" if outcome.state == "finished" and outcome.early else outcome.state
        line = f"{run.name}  {state}"
        if state == "finished":
            self.result.finished += 1
        elif state == "stopped":
            self.result.stopped += 1
        else:
            self.result.failed += 1
            line += f": {outcome.error}" + (f" (log: {run.log})" if run.log is not None and run.log.exists() else "")
        metric = (self.server.config.get("metric") or {}).get("name")
        if metric in outcome.metrics:
            line += f"  {metric} {outcome.metrics[metric]:.4g}"
        style = {"finished": "green", "stopped": "yellow"}.get(state, "red")
        self._console.print(f"{line}  {outcome.seconds:.1f} s", style=style)
        self._report_end(run, outcome)
        if outcome.state == "stopped":
            self._worker.close()
            self._worker = Worker(self.program, self.environment)

    def _report_end(self, run: _AssignedRun, outcome: Outcome) -> None:
        """Reports the end of a run to W&B, unless the run's own process has done so."""
        preempted = outcome.state == "stopped" and run.stop_time is None
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

    def _on_interrupt(self, number: int, frame: FrameType | None) -> None:
        self.result.signal, self._exiting = number, True
        self._interrupts += 1
        if self.current is None and self._interrupts > 1:
            raise KeyboardInterrupt
        if self.current is None:
            self._console.print("exiting")
        elif self._interrupts == 1:
            self._console.print("finishing the current run; press Ctrl-C again to stop it")
        elif self._interrupts == 2:
            self._console.print("stopping the current run; press Ctrl-C again to kill it")
            self._worker.stop()
        else:
            self._worker.kill()
        self._wake_up.put(None)

    def _on_terminate(self, number: int, frame: FrameType | None) -> None:
        self.result.signal, self._exiting = number, True
        if self.current is not None:
            self._worker.stop()
        self._wake_up.put(None)


def _parse(path: str) -> tuple[str | None, str | None, str]:
    """Splits the path of a sweep into entity, project and id."""
    *outer, sweep = path.split("/")
    if len(outer) > 2 or not sweep:
        raise UsageError(f"{path!r} is not the path of a sweep; give ENTITY/PROJECT/ID as `wandb sweep` printed it")
    entity, project = [None, None, *(part or None for part in outer)][-2:]
    return entity, project, sweep


def _require_online() -> None:
    """Raises UsageError if W&B cannot be used from this process."""
    mode = variable("WANDB_MODE") or "online"
    if MODES.get(mode, "online") != "online":
        raise UsageError(f"WANDB_MODE is {mode}, but an agent needs W&B; unset it, or use `{sweep_command('run')}`")
    command = sweep_command("run")
    require_wandb(f", or use `{command}`, which needs none", f"; `{command}` needs no server")


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
