"""A double of the W&B server on loopback, for the real client: enough to start, log, finish, resume and sync runs.

What it received lies in plain structures for tests to look at. Like the real one, it keeps one row of history for each
`_step`, so a row sent again replaces itself, and tells a client that resumes how many rows it has and which was the
last. What it does not understand it refuses, and remembers for `check`.
"""

import contextlib
import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, unquote

Json = dict[str, Any]
ENTITY = "tester"


@dataclass
class Run:
    """One run as the server knows it; `config` is without the client's own `_wandb` entry."""

    id: str
    project: str
    name: str = ""
    group: str = ""
    tags: list[str] = field(default_factory=list)
    config: Json = field(default_factory=dict)
    summary: Json = field(default_factory=dict)
    rows: dict[int, Json] = field(default_factory=dict)
    output: list[str] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    state: str = "running"
    exit_code: int | None = None

    @property
    def history(self) -> list[Json]:
        return [self.rows[step] for step in sorted(self.rows)]

    def column(self, metric: str) -> list[Any]:
        return [row[metric] for row in self.history if metric in row]


class Refused(Exception):
    """Raised by an operation to answer with an error that is part of the test, not a fault."""


class WandbServer:
    """Listens on 127.0.0.1 between start() and stop(), any number of times, on one port; its memory outlives both.

    Attributes:
        runs: by id.
        operations: name of a GraphQL operation -> what answers it: its variables in, its `data` out.
        requests: each request, as `POST /graphql UpsertBucket`.
        faults: what it could not understand.
    """

    def __init__(self, port: int = 0) -> None:
        self.port = port
        self.runs: dict[str, Run] = {}
        self.requests: list[str] = []
        self.faults: list[str] = []
        self.operations: dict[str, Callable[[Json], Json]] = {
            "Viewer": self._viewer,
            "ServerFeaturesQuery": lambda _: {"serverInfo": {"features": []}},
            "OrganizationCoreWeaveOrganizationID": lambda _: {"entity": {"organization": None}},
            "RunResumeStatus": self._resume_status,
            "UpsertBucket": self._upsert_run,
            "CreateRunFiles": self._create_files,
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
        """Goes away: connections are refused until the next start()."""
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.shutdown()
            listener.server_close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def check(self) -> None:
        """Raises AssertionError if anything came that this double has no answer for."""
        assert not self.faults, "\n".join(self.faults)

    def answer(self, method: str, path: str, body: bytes) -> Json:
        """One request's reply.

        Raises:
            Exception: the request is refused or, one fault more, not understood.
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
                raise LookupError("no such address")
            except Refused:
                raise
            except Exception as error:
                self.faults.append(f"{request} {body[:500]!r}: {error!r}")
                raise

    def _graphql(self, request: Json) -> Json:
        named = re.search(r"(?:query|mutation)\s+(\w+)", request["query"])
        name = request.get("operationName") or (named[1] if named else "without a name")
        self.requests.append(f"POST /graphql {name}")
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
                "wandbConfig": json.dumps({"t": 1}),
            }
        return {"model": {**_project(variables["project"]), "bucket": bucket}}

    def _upsert_run(self, variables: Json) -> Json:
        """Creates a run, or changes what is given of it; a finished run that is heard of again goes on."""
        inserted = variables["name"] not in self.runs
        run = self.runs.setdefault(variables["name"], Run(variables["name"], variables["project"] or "uncategorized"))
        run.name = variables["displayName"] or run.name
        run.group = variables["groupName"] or run.group
        run.tags = variables["tags"] or run.tags
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
            "sweepName": None,
            "historyLineCount": len(run.history),
            "project": _project(run.project),
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
        if chunk.get("complete"):
            run.exit_code = chunk["exitcode"]
            run.state = "failed" if run.exit_code else "finished"
        return {}


class _Listener(ThreadingHTTPServer):
    def __init__(self, port: int, double: WandbServer) -> None:
        self.double = double
        super().__init__(("127.0.0.1", port), _Handler)


class _Handler(BaseHTTPRequestHandler):
    """Speaks HTTP/1.0, one request a connection, so that a stopped server holds no connection open."""

    server: _Listener

    def _reply(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            status, reply = 200, self.server.double.answer(self.command, self.path, body)
        except Exception as error:
            status, reply = 400, {"errors": [{"message": repr(error)}]}
        text = json.dumps(reply).encode()
        with contextlib.suppress(ConnectionError):
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

    do_GET = do_POST = do_PUT = _reply

    def log_message(self, format: str, *args: Any) -> None:
        """Silence: `requests` has it all."""


def _project(name: str | None) -> Json:
    return {"id": "UHJvamVjdDox", "name": name, "entity": {"id": "RW50aXR5OjE=", "name": ENTITY}}


def _put(stored: list[Any], offset: int, lines: list[Any]) -> None:
    if offset > len(stored):
        raise ValueError(f"a gap: line {offset} after {len(stored)} lines")
    stored[offset : offset + len(lines)] = lines
