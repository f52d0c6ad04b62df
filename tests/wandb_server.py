"""A mock of the W&B server on loopback, for the real client: runs (start, log, finish, resume, sync) and sweeps.

It stores what it receives in plain data structures that tests read. Like the real server, it keeps one row of history
per `_step`, so that a row that is sent again replaces the old one, and it tells a resuming client how many rows it has
and what the last one was. It assigns the points of a sweep's grid to idle agents; a run that its agent marked as
preempted is assigned to the next agent. It refuses requests that it does not know, and `check` reports them.
"""

import contextlib
import itertools
import json
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, unquote

import yaml

Json = dict[str, Any]
ENTITY = "tester"


@dataclass
class Run:
    """One run on the server; `config` does not contain the client's `_wandb` entry."""

    id: str
    project: str
    name: str = ""
    group: str = ""
    tags: list[str] = field(default_factory=list)
    entity: str = ""
    notes: str = ""
    job_type: str = ""
    config: Json = field(default_factory=dict)
    summary: Json = field(default_factory=dict)
    rows: dict[int, Json] = field(default_factory=dict)
    output: list[str] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    state: str = "running"
    exit_code: int | None = None
    sweep: str | None = None
    agent: str | None = None
    preempting: bool = False
    times_ended: int = 0

    @property
    def history(self) -> list[Json]:
        return [self.rows[step] for step in sorted(self.rows)]

    def column(self, metric: str) -> list[Any]:
        return [row[metric] for row in self.history if metric in row]


@dataclass
class Sweep:
    """One sweep: its definition, and the points of its grid that are not assigned yet."""

    id: str
    project: str
    config: Json
    points: list[Json]
    preempted: list[str] = field(default_factory=list)
    state: str = "RUNNING"


@dataclass
class Agent:
    """One agent. `beats` are the times and run states of its heartbeats; `commands` are for its next heartbeat."""

    id: str
    sweep: str
    beats: list[tuple[float, Json]] = field(default_factory=list)
    commands: list[Json] = field(default_factory=list)


class Refused(Exception):
    """Raised by an operation to answer with an error that the test expects."""

    status = 400


class Gone(Refused):
    """The requested object was deleted."""

    status = 404


class WandbServer:
    """Listens on 127.0.0.1 between start() and stop(). It can be restarted on the same port and keeps its data.

    Attributes:
        runs: Runs by id.
        sweeps: Sweeps by id.
        agents: Agents by id.
        stored: Files of artifacts and their manifests, by the end of their address.
        alerts: The alerts that were sent, each with `runName`, `title`, `text` and `severity`.
        outages: HTTP statuses with which the next requests are refused.
        gone: Names of operations that are answered with 404.
        operations: Name of a GraphQL operation -> function that maps its variables to its `data`.
        requests: All requests, such as `POST /graphql UpsertBucket`.
        errors: Requests that it does not know.
    """

    def __init__(self, port: int = 0) -> None:
        self.port = port
        self.runs: dict[str, Run] = {}
        self.sweeps: dict[str, Sweep] = {}
        self.agents: dict[str, Agent] = {}
        self.stored: dict[str, bytes] = {}
        self.alerts: list[Json] = []
        self.outages: list[int] = []
        self.gone: set[str] = set()
        self.requests: list[str] = []
        self.errors: list[str] = []
        self.operations: dict[str, Callable[[Json], Json]] = {
            "Viewer": self._viewer,
            "ServerFeaturesQuery": lambda _: {"serverInfo": {"features": []}},
            "OrganizationCoreWeaveOrganizationID": lambda _: {"entity": {"organization": None}},
            "RunResumeStatus": self._resume_status,
            "UpsertBucket": self._upsert_run,
            "CreateRunFiles": self._create_files,
            "RunState": self._run_state,
            "NotifyScriptableRunAlert": self._alert,
            "UpsertSweep": self._upsert_sweep,
            "SweepWithRuns": self._sweep_with_runs,
            "GetSweep": self.sweep_node,
            "CreateAgent": self._create_agent,
            "Heartbeat": self._heartbeat,
        }
        self._lock = threading.Lock()
        self._listener: _Listener | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> Self:
        self._listener = _Listener(self.port, self)
        self.port = self._listener.server_port
        threading.Thread(target=self._listener.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def stop(self) -> None:
        """Stops listening: connections are refused until the next start()."""
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.shutdown()
            listener.server_close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def check(self) -> None:
        """Raises AssertionError if there was a request that the mock does not know."""
        assert not self.errors, "\n".join(self.errors)

    def add_sweep(self, config: Json, project: str = "genlab") -> Sweep:
        """Adds a sweep over the grid of a definition in W&B's order: sorted by name, the last one varies fastest."""
        parameters = config["parameters"]
        values = [spec["values"] if "values" in spec else [spec["value"]] for _, spec in sorted(parameters.items())]
        points = [dict(zip(sorted(parameters), point, strict=True)) for point in itertools.product(*values)]
        sweep = Sweep(f"sweep{len(self.sweeps)}", project, config, points)
        self.sweeps[sweep.id] = sweep
        return sweep

    def runs_of(self, sweep: str) -> list[Run]:
        return [run for run in self.runs.values() if run.sweep == sweep]

    def stop_run(self, run: Run) -> None:
        """Does what the stop button does: the next heartbeat of the run's agent is answered with a stop command."""
        self.agents[str(run.agent)].commands.append({"type": "stop", "run_id": run.id})

    def answer(self, method: str, path: str, body: bytes) -> Json | bytes:
        """Returns the reply to one request.

        Raises:
            Exception: The request is refused or, which adds to `errors`, not known.
        """
        with self._lock:
            request = f"{method} {path}"
            try:
                if request == "POST /graphql":
                    return self._graphql(json.loads(body))
                self.requests.append(request)
                if found := re.fullmatch(r"POST /files/([^/]+)/([^/]+)/([^/]+)/file_stream", request):
                    return self._file_stream(self.runs[found[3]], json.loads(body))
                if found := re.fullmatch(r"PUT /upload/([^/]+)/(.+)", request):
                    self.runs[found[1]].files[unquote(found[2])] = body
                    return {}
                if found := re.fullmatch(r"PUT /stored/(.+)", request):
                    self.stored[unquote(found[1])] = body
                    return {}
                if found := re.fullmatch(r"GET /stored/(.+)|GET /artifactsV2/.+/([0-9a-f]{32})/[^/]+", request):
                    return self.stored[unquote(found[1] or found[2])]
                raise LookupError("no such address")
            except Refused:
                raise
            except Exception as error:
                self.errors.append(f"{request} {body[:500]!r}: {error!r}")
                raise

    def _graphql(self, request: Json) -> Json:
        named = re.search(r"(?:query|mutation)\s+(\w+)", request["query"])
        name = request.get("operationName") or (named[1] if named else "without a name")
        self.requests.append(f"POST /graphql {name}")
        if name in self.gone:
            raise Gone(name)
        if name not in self.operations:
            raise LookupError(f"unknown operation {name}")
        return {"data": self.operations[name](request.get("variables") or {})}

    def _viewer(self, _: Json) -> Json:
        teams: Json = {"edges": []}
        return {"viewer": {"id": "VXNlcjox", "entity": ENTITY, "username": ENTITY, "flags": "{}", "teams": teams}}

    def _resume_status(self, variables: Json) -> Json:
        run = self.runs.get(variables["name"])
        bucket = None
        if run is not None:
            bucket = {
                "id": run.id,
                "name": run.id,
                "displayName": run.name,
                "summaryMetrics": json.dumps(run.summary),
                "logLineCount": len(run.output),
                "historyLineCount": len(run.history),
                "eventsLineCount": len(run.events),
                "historyTail": json.dumps([json.dumps(row) for row in run.history[-1:]]),
                "eventsTail": json.dumps(run.events[-1:]),
                "config": json.dumps({key: {"value": value} for key, value in run.config.items()}),
                "tags": run.tags,
                "wandbConfig": json.dumps({} if run.state == "pending" else {"t": 1}),
            }
        return {"model": {**project_node(variables["project"]), "bucket": bucket}}

    def _upsert_run(self, variables: Json) -> Json:
        """Creates a run, or changes the given attributes; a finished run is resumed."""
        inserted = variables["name"] not in self.runs
        run = self.runs.setdefault(variables["name"], Run(variables["name"], variables["project"] or "uncategorized"))
        run.name = variables["displayName"] or run.name
        run.group = variables["groupName"] or run.group
        run.tags = variables["tags"] or run.tags
        run.entity = run.entity or variables["entity"] or ""
        run.notes = variables["notes"] or run.notes
        run.job_type = variables["jobType"] or run.job_type
        run.sweep = run.sweep or variables["sweep"]
        run.state = variables["state"] or "running"
        if variables["config"]:
            run.config = {key: item["value"] for key, item in json.loads(variables["config"]).items()}
            run.config.pop("_wandb", None)
        if variables["summaryMetrics"]:
            run.summary = json.loads(variables["summaryMetrics"])
        bucket = {
            "id": run.id,
            "name": run.id,
            "displayName": run.name,
            "config": "{}",
            "sweepName": run.sweep,
            "historyLineCount": len(run.history),
            "project": project_node(run.project),
        }
        return {"upsertBucket": {"bucket": bucket, "inserted": inserted}}

    def _create_files(self, variables: Json) -> Json:
        run = self.runs[variables["run"]]
        address = f"{self.url}/upload/{run.id}/"
        files = [{"name": name, "uploadUrl": address + quote(name)} for name in variables["files"]]
        return {"createRunFiles": {"runID": run.id, "uploadHeaders": [], "files": files}}

    def _file_stream(self, run: Run, chunk: Json) -> Json:
        for name, part in (chunk.get("files") or {}).items():
            offset, lines = part["offset"], part["content"]
            if name == "wandb-summary.json":
                run.summary = json.loads(lines[-1])
            elif name == "wandb-history.jsonl":
                run.rows |= {row["_step"]: row for row in map(json.loads, lines)}
            else:
                _put({"output.log": run.output, "wandb-events.jsonl": run.events}[name], offset, lines)
        run.preempting |= bool(chunk.get("preempting"))
        if chunk.get("complete"):
            run.exit_code = chunk["exitcode"]
            run.times_ended += 1
            run.state = "failed" if run.exit_code else "finished"
            if run.exit_code and run.preempting and run.sweep is not None:
                run.state, run.preempting = "preempted", False
                self.sweeps[run.sweep].preempted.append(run.id)
        return {}

    def _run_state(self, variables: Json) -> Json:
        run = self.runs.get(variables["name"])
        return {"project": {"run": None if run is None else {"state": run.state}}}

    def _alert(self, variables: Json) -> Json:
        self.alerts.append(variables)
        return {"notifyScriptableRunAlert": {"success": True}}

    def _upsert_sweep(self, variables: Json) -> Json:
        if variables.get("id"):
            sweep = self.sweeps[variables["id"]]
            sweep.state = variables["state"]
        else:
            sweep = self.add_sweep(yaml.safe_load(variables["config"]), variables["projectName"])
        found = {"name": sweep.id, "project": project_node(sweep.project)}
        return {"upsertSweep": {"sweep": found, "configValidationWarnings": []}}

    def _sweep_with_runs(self, variables: Json) -> Json:
        sweep = self.sweeps.get(variables["sweep"])
        if sweep is None or sweep.project != variables["project"]:
            return {"project": {"sweep": None}}
        runs = [{"node": {"name": run.id, "state": run.state}} for run in self.runs_of(sweep.id)]
        found = {"id": sweep.id, "name": sweep.id, "state": sweep.state, "config": yaml.safe_dump(sweep.config)}
        return {"project": {"sweep": {**found, "runs": {"edges": runs}}}}

    def sweep_node(self, variables: Json) -> Json:
        """Returns a sweep as the public API asks for it."""
        sweep = self.sweeps.get(variables["name"])
        if sweep is None or sweep.project != variables["project"]:
            return {"project": {"sweep": None}}
        found = {
            "__typename": "Sweep",
            "id": sweep.id,
            "name": sweep.id,
            "displayName": None,
            "method": sweep.config.get("method"),
            "state": sweep.state,
            "config": yaml.safe_dump(sweep.config),
            "runCount": len(self.runs_of(sweep.id)),
            "runCountExpected": None,
        }
        return {"project": {"sweep": found}}

    def _create_agent(self, variables: Json) -> Json:
        if variables["sweep"] not in self.sweeps:
            raise Refused(f"no sweep {variables['sweep']}")
        agent = Agent(f"agent{len(self.agents)}", variables["sweep"])
        self.agents[agent.id] = agent
        return {"createAgent": {"agent": {"id": agent.id}}}

    def _heartbeat(self, variables: Json) -> Json:
        agent, states = self.agents[variables["id"]], json.loads(variables["runState"])
        agent.beats.append((time.monotonic(), states))
        commands, agent.commands = agent.commands, []
        if not any(states.values()) and not commands:
            commands = self._next(agent, self.sweeps[agent.sweep])
        return {"agentHeartbeat": {"agent": {"id": agent.id}, "commands": json.dumps(commands)}}

    def _next(self, agent: Agent, sweep: Sweep) -> list[Json]:
        """Returns the commands for an idle agent."""
        if sweep.state == "PAUSED":
            return []
        cap = sweep.config.get("run_cap")
        full = cap is not None and len(self.runs_of(sweep.id)) >= cap
        if sweep.state != "RUNNING" or not (sweep.preempted or (sweep.points and not full)):
            return [{"type": "exit"}]
        if sweep.preempted:
            kind, run = "resume", self.runs[sweep.preempted.pop(0)]
        else:
            name = f"run{len(self.runs)}"
            kind, run = "run", Run(name, sweep.project, config=sweep.points.pop(0), state="pending", sweep=sweep.id)
            self.runs[name] = run
        run.agent = agent.id
        keys = sweep.config["parameters"]
        args = {key: {"value": run.config[key]} for key in sorted(keys)}
        return [{"type": kind, "run_id": run.id, "program": sweep.config.get("program"), "args": args}]


class _Listener(ThreadingHTTPServer):
    def __init__(self, port: int, mock: WandbServer) -> None:
        self.mock = mock
        super().__init__(("127.0.0.1", port), _Handler)


class _Handler(BaseHTTPRequestHandler):
    """Uses HTTP/1.0 with one request per connection, so that a stopped server keeps no connection open."""

    server: _Listener

    def _reply(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        outages = self.server.mock.outages
        reply: Json | bytes = {}
        try:
            if outages:
                status = outages.pop(0)
            else:
                status, reply = 200, self.server.mock.answer(self.command, self.path, body)
        except Exception as error:
            status = getattr(error, "status", 400)
            reply = {"errors": [{"message": repr(error)}]}
        text = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
        with contextlib.suppress(ConnectionError):
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

    do_GET = do_POST = do_PUT = _reply

    def log_message(self, format: str, *args: Any) -> None:
        """Logs nothing, because `requests` has all requests."""


def project_node(name: str | None) -> Json:
    return {"id": "UHJvamVjdDox", "internalId": "1", "name": name, "entity": {"id": "RW50aXR5OjE=", "name": ENTITY}}


def _put(stored: list[Any], offset: int, lines: list[Any]) -> None:
    if offset > len(stored):
        raise ValueError(f"a gap: line {offset} after {len(stored)} lines")
    stored[offset : offset + len(lines)] = lines
