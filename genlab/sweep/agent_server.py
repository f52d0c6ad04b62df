"""The requests of a sweep agent to the W&B server."""

import json
import os
import socket
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import wandb
from wandb.sdk.lib.service.service_connection import WandbApiFailedError

from genlab.packaged import sweep_command
from genlab.runs.config import flatten, run_name, short_key
from genlab.runs.errors import UsageError, error_message
from genlab.runs.wandb_access import require_wandb
from genlab.runs.wandb_variables import MODES, variable
from genlab.sweep.definition import PROGRAM, refuse_booleans
from genlab.sweep.worker import Outcome
from genlab.yaml_files import load_yaml

Json = dict[str, Any]
REQUEST_SECONDS = 30.0
"""How long a request may take, including the attempts that W&B's client repeats after 429 and 5xx."""


@dataclass
class AssignedRun:
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


class SweepServer:
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

    @property
    def key(self) -> str | None:
        """The API key."""
        return self._api.api_key

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

    def end(self, run: AssignedRun, text: str, preempted: bool) -> None:
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
