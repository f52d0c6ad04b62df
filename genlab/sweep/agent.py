"""A W&B sweep agent whose runs share one warm worker process.

Like `wandb agent` it registers itself, sends heartbeats and does what their answers say: run, resume, stop, exit. A run
that was stopped by hand or by SIGTERM goes back to the sweep as preempted: the next agent goes on from its last.ckpt.
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
from collections.abc import Iterator, Mapping, Sequence
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
from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args
from wandb.sdk.lib.service.service_connection import WandbApiFailedError

from genlab.runs.config import option, run_name
from genlab.runs.errors import UsageError, described
from genlab.runs.folder import safe_name
from genlab.runs.wandb_access import need_wandb, one_line
from genlab.sweep.sync import sync
from genlab.sweep.worker import Outcome, Worker

Json = dict[str, Any]
BEAT_SECONDS = 5.0
"""Between two heartbeats, W&B's own measure."""
FIRST_IDLE_SECONDS = 0.25
"""How soon an idle agent asks again; each time it waits twice as long, up to a beat."""
ANSWER_SECONDS = 30.0
"""How long a request may take, W&B's own attempts after 429 and 5xx included."""
KILL_SECONDS = 30.0
"""A run that W&B stops ends with its epoch; when it is told again so much later, at once, and then by SIGKILL."""
LOG_LINES = 100
"""How much of a dead run's log W&B is shown."""
ALIVE = ("pending", "running", "preempting")
GONE = (401, 403, 404)
"""HTTP statuses after which there is no point in asking again: the key or the sweep is no more."""


@dataclass
class AgentTally:
    """What became of an agent's runs, and the signal that ended it, if one did."""

    finished: int = 0
    failed: int = 0
    stopped: int = 0
    signal: int | None = None

    @property
    def runs(self) -> int:
        return self.finished + self.failed + self.stopped


def run_agent(path: str, count: int | None = None, devices: str | None = None) -> AgentTally:
    """Works for the sweep ENTITY/PROJECT/ID, PROJECT/ID or ID until W&B has no more runs, or `count` are done.

    Ctrl-C once finishes the run in hand, twice stops it, three times kills it; SIGTERM stops it.

    Args:
        path: of the sweep; what it leaves out is taken from W&B's settings.
        count: the most runs.
        devices: CUDA_VISIBLE_DEVICES of the worker.

    Raises:
        UsageError: no key, no server, no such sweep, or a sweep that cannot be run warm.
    """
    server = _Server(path)
    program = Path(server.config.get("program") or "train.py")
    if not program.is_file():
        raise UsageError(f"the sweep's program {program} is not here; start the agent in the folder that holds it")
    with tempfile.TemporaryDirectory(prefix="genlab-agent-") as folder:
        agent = _Agent(server, program, Path(folder), count, devices)
        with agent.hearing_signals():
            return agent.work()


@dataclass
class _Given:
    """A run that W&B gave, and how it ended."""

    id: str
    values: Json
    resumed: bool
    outcome: Outcome | None = None
    log: Path | None = None
    told_to_stop: float | None = None
    """When W&B asked for its end."""

    @property
    def name(self) -> str:
        named = run_name(self.values, self.values)
        return self.id if named == "default" else f"{self.id} {named}"


class _Server:
    """W&B as an agent sees it.

    Raises:
        UsageError: it cannot be used, or does not know the sweep.
    """

    def __init__(self, path: str) -> None:
        entity, project, self.sweep = _parse(path)
        _need_wandb()
        self._api = wandb.Api()
        os.environ.pop("WANDB_SERVICE", None)  # W&B's service is this process's own: the runs have theirs
        self.entity = entity or self._api.settings["entity"]
        self.project = project or self._api.settings["project"] or "uncategorized"
        self._place: Json = {"entity": self.entity, "project": self.project}
        self.config = self._definition()
        self._agent = ""

    def register(self) -> None:
        query = """mutation CreateAgent($host: String!, $project: String, $entity: String, $sweep: String!) {
            createAgent(input: {host: $host, projectName: $project, entityName: $entity, sweep: $sweep}) {
                agent { id }
            }
        }"""
        answer = self._ask(query, host=socket.gethostname(), sweep=self.sweep, **self._place)
        self._agent = answer["createAgent"]["agent"]["id"]

    def heartbeat(self, running: Sequence[str]) -> list[Json]:
        """What to do next.

        Raises:
            WandbApiFailedError: no answer, or not the one hoped for.
        """
        query = """mutation Heartbeat($id: ID!, $metrics: JSONString, $runState: JSONString) {
            agentHeartbeat(input: {id: $id, metrics: $metrics, runState: $runState}) { agent { id } commands }
        }"""
        states = json.dumps(dict.fromkeys(running, True))
        answer = self._execute(query, id=self._agent, metrics="{}", runState=states)
        return json.loads(answer["agentHeartbeat"]["commands"])

    def state(self, run: str) -> str | None:
        """W&B's word for how a run is; None for one that it does not know."""
        query = """query RunState($project: String!, $entity: String, $name: String!) {
            project(name: $project, entityName: $entity) { run(name: $name) { state } }
        }"""
        found = (self._execute(query, name=run, **self._place)["project"] or {}).get("run")
        return found and found["state"]

    def end(self, run: _Given, text: str, preempted: bool) -> None:
        """Tells W&B that a run whose own process did not say so has ended, and why."""
        begun = self.state(run.id) != "pending"
        settings = wandb.Settings(
            sweep_id=self.sweep,
            console="off",
            silent=True,
            x_disable_stats=True,
            init_timeout=ANSWER_SECONDS,
            finish_timeout=ANSWER_SECONDS,
            stop_fn=lambda: None,
        )
        with tempfile.TemporaryDirectory() as folder:
            config = None if begun else run.values
            init: Json = {"id": run.id, "resume": "allow", "mode": "online", "dir": folder, "config": config}
            shadow = wandb.init(**self._place, **init, settings=settings)
            if preempted:
                shadow.mark_preempting()
            shadow.write_logs(text)
            shadow.finish(exit_code=1)

    def _definition(self) -> Json:
        query = """query SweepWithRuns($entity: String, $project: String, $sweep: String!) {
            project(name: $project, entityName: $entity) { sweep(sweepName: $sweep) { id name state config } }
        }"""
        project = self._ask(query, sweep=self.sweep, **self._place)["project"]
        if not project or not project["sweep"]:
            where = "/".join(filter(None, [self.entity, self.project]))
            raise UsageError(
                f"W&B has no sweep {self.sweep} in {where}; give ENTITY/PROJECT/ID as `wandb sweep` told it"
            )
        config = yaml.safe_load(project["sweep"]["config"])
        command = config.get("command") or ["${program}", "${args}"]
        if "${program}" not in command:
            raise UsageError(f"the command of sweep {self.sweep} has no ${{program}}; use `wandb agent` for it")
        return {**config, "command": command[command.index("${program}") + 1 :]}

    def _ask(self, query: str, **variables: Any) -> Json:
        """As `_execute`, for what must succeed before the first run."""
        try:
            return self._execute(query, **variables)
        except WandbApiFailedError as error:
            raise UsageError(f"W&B refuses the sweep {self.sweep} ({one_line(error)}); check path and key") from None

    def _execute(self, query: str, **variables: Any) -> Json:
        return self._api._service_api.execute_graphql(query, variables, ANSWER_SECONDS)


class _Agent:
    """One run in hand at a time, in a worker that a thread waits for; the main thread talks to W&B.

    Args:
        server: W&B, for one sweep.
        program: runs in the worker.
        folder: for the files of parameters that wandb.init reads.
        count: the most runs.
        devices: CUDA_VISIBLE_DEVICES of the worker.
    """

    def __init__(self, server: _Server, program: Path, folder: Path, count: int | None, devices: str | None) -> None:
        self.server = server
        self.program = program
        self.folder = folder
        self.count = count
        self.environment = {} if devices is None else {"CUDA_VISIBLE_DEVICES": devices}
        self.tally = AgentTally()
        self.hand: _Given | None = None
        self.given: collections.deque[_Given] = collections.deque()
        self._worker = Worker(program, self.environment)
        self._leaving = False
        self._interrupts = 0
        self._answers = True
        self._wake: SimpleQueue[None] = SimpleQueue()  # unlike an Event it may be set by a signal's handler
        self._console = rich.console.Console(highlight=False, markup=False, soft_wrap=True)

    def work(self) -> AgentTally:
        try:
            self._worker.check([])  # imports first, so that no run waits for them
            self.server.register()
            idle = FIRST_IDLE_SECONDS
            while not self._done():
                for command in self._beat():
                    self._obey(command)
                self._begin_next()
                self._wait(BEAT_SECONDS if self.hand else idle)
                idle = FIRST_IDLE_SECONDS if self.hand else min(2 * idle, BEAT_SECONDS)
            for run in self.given:
                self._settle(run, Outcome("stopped", error="given back by an agent that was about to leave"))
        finally:
            self._worker.close()
        return self.tally

    @contextmanager
    def hearing_signals(self) -> Iterator[None]:
        handlers = {signal.SIGINT: self._interrupted, signal.SIGTERM: self._terminated}
        before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _done(self) -> bool:
        """Closes a run that has ended; whether there is nothing left to do."""
        if self.hand is not None and self.hand.outcome is not None:
            self._close(self.hand, self.hand.outcome)
            self.hand = None
        enough = self.count is not None and self.tally.runs >= self.count
        return self.hand is None and (self._leaving or enough)

    def _beat(self) -> list[Json]:
        """W&B's commands; none while it does not answer, which is told once."""
        try:
            commands = self.server.heartbeat([self.hand.id] if self.hand else [])
        except WandbApiFailedError as error:
            status = error.response.http_status if error.response is not None else None
            if status in GONE:
                if not self._leaving:
                    self._console.print(f"W&B wants no more of this agent ({one_line(error)})", style="red")
                self._leaving = True
            elif self._answers:
                self._console.print(f"W&B does not answer ({one_line(error)}); trying again", style="yellow")
            self._answers = False
            return []
        if not self._answers:
            self._console.print("W&B answers again", style="green")
        self._answers = True
        return commands

    def _obey(self, command: Json) -> None:
        match command["type"]:
            case "run" | "resume" as kind:
                values = {key: item["value"] for key, item in command["args"].items()}
                self.given.append(_Given(command["run_id"], values, kind == "resume"))
            case "stop" if self.hand is not None and command["run_id"] == self.hand.id:
                self._stop_run(self.hand)
            case "exit":
                self._leaving = True
                if self.hand is not None:
                    self.hand.told_to_stop = time.monotonic()
                    self._worker.stop()

    def _stop_run(self, run: _Given) -> None:
        """At the end of its epoch, which keeps the worker warm; if W&B has to insist, at once."""
        now = time.monotonic()
        if run.told_to_stop is None:
            run.told_to_stop = now
        elif now > run.told_to_stop + 2 * KILL_SECONDS:
            self._worker.kill()
        elif now > run.told_to_stop + KILL_SECONDS:
            self._worker.stop()

    def _begin_next(self) -> None:
        if self.hand is None and self.given and not self._leaving:
            self.hand = self.given.popleft()
            threading.Thread(target=self._execute, args=(self.hand,), daemon=True).start()

    def _execute(self, run: _Given) -> None:
        """In a thread of its own: the whole run."""
        try:
            args = arguments(self.server.config["command"], run.values)
            args += ["--ckpt_path=last"] if run.resumed else []
            run.log = _log_file(args, self.server.config.get("name") or self.server.sweep, run.id)
            environment = self._run_environment(run)
            outcome = self._worker.run(args, run.log, environment, lambda _: run.told_to_stop is not None)
        except Exception as error:
            outcome = Outcome("failed", error=described(error))
        run.outcome = outcome
        self._wake.put(None)

    def _run_environment(self, run: _Given) -> dict[str, str]:
        """What `wandb agent` tells the wandb.init of a run."""
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

    def _close(self, run: _Given, outcome: Outcome) -> None:
        """Counts the run, says how it ended, and sees to it that W&B knows."""
        state = "stopped" if outcome.state == "finished" and outcome.early else outcome.state
        said = f"{run.name}  {state}"
        if state == "finished":
            self.tally.finished += 1
        elif state == "stopped":
            self.tally.stopped += 1
        else:
            self.tally.failed += 1
            said += f": {outcome.error} (log: {run.log})"
        metric = (self.server.config.get("metric") or {}).get("name")
        if metric in outcome.metrics:
            said += f"  {metric} {outcome.metrics[metric]:.4g}"
        style = {"finished": "green", "stopped": "yellow"}.get(state, "red")
        self._console.print(f"{said}  {outcome.seconds:.1f} s", style=style)
        self._settle(run, outcome)
        if outcome.state == "stopped":
            self._worker.close()
            self._worker = Worker(self.program, self.environment)

    def _settle(self, run: _Given, outcome: Outcome) -> None:
        """Sees to it that W&B knows how the run ended, whatever the run's own process could tell it."""
        preempted = outcome.state == "stopped" and run.told_to_stop is None
        try:
            if not preempted and self.server.state(run.id) not in ALIVE:
                return
            if outcome.state == "finished" and outcome.folder is not None:
                sync(Path(outcome.folder).parent)  # W&B was away when it began
            else:
                self.server.end(run, f"{outcome.error or outcome.state}\n\n{_tail(run.log)}", preempted)
        except Exception as error:
            self._console.print(f"W&B could not be told how {run.id} ended ({one_line(error)})", style="yellow")

    def _wait(self, seconds: float) -> None:
        """Until the time is over, the run ends, or a signal comes."""
        with contextlib.suppress(Empty):
            self._wake.get(timeout=seconds)

    def _interrupted(self, number: int, frame: FrameType | None) -> None:
        self.tally.signal, self._leaving = number, True
        self._interrupts += 1
        if self.hand is None and self._interrupts > 1:
            raise KeyboardInterrupt
        if self.hand is None:
            self._console.print("leaving")
        elif self._interrupts == 1:
            self._console.print("finishing the run in hand; Ctrl-C again stops it")
        elif self._interrupts == 2:
            self._console.print("stopping the run in hand; Ctrl-C again kills it")
            self._worker.stop()
        else:
            self._worker.kill()
        self._wake.put(None)

    def _terminated(self, number: int, frame: FrameType | None) -> None:
        self.tally.signal, self._leaving = number, True
        if self.hand is not None:
            self._worker.stop()
        self._wake.put(None)


def arguments(command: Sequence[Any], values: Mapping[str, Any]) -> list[str]:
    """A command's items behind ${program}, macros expanded as by `wandb agent`; None becomes null, not 'None'."""
    written = {key: {"value": "null" if value is None else value} for key, value in values.items()}
    macros = create_sweep_command_args({"args": written})
    words: list[str] = []
    for item in map(str, create_sweep_command([*command]) if command else []):
        macro = item.startswith("${") and item.endswith("}")
        words += (macros.get(item[2:-1]) or []) if macro else [item]
    return words


def _parse(path: str) -> tuple[str | None, str | None, str]:
    """Entity, project and id of a sweep's path."""
    *place, sweep = path.split("/")
    if len(place) > 2 or not sweep:
        raise UsageError(f"{path!r} names no sweep; give the ENTITY/PROJECT/ID that `wandb sweep` told")
    entity, project = [None, None, *(part or None for part in place)][-2:]
    return entity, project, sweep


def _need_wandb() -> None:
    """Raises UsageError when W&B cannot be used from here."""
    mode = os.environ.get("WANDB_MODE") or "online"
    if mode != "online":
        raise UsageError(f"WANDB_MODE is {mode}, but an agent needs W&B; unset it, or use `sweep.py run`")
    need_wandb(", `sweep.py run` needs none", "; `sweep.py run` needs no server")


def _log_file(args: Sequence[str], experiment: str, run: str) -> Path:
    """Where a run's output goes: beside the run folders of its experiment."""
    given = list(args)
    root = Path(option(given, "run.root") or "runs")
    return root / safe_name(option(given, "run.experiment") or experiment) / "logs" / f"{safe_name(run)}.txt"


def _tail(log: Path | None) -> str:
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log else []
    except OSError:
        lines = []
    return "\n".join(lines[-LOG_LINES:])
