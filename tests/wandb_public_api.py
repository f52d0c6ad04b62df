"""The requests of W&B's public API and wandb-workspaces on the mock server: sweeps, runs, histories, files, views."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, unquote

from tests.wandb_server import ENTITY, Refused, Run, WandbServer

Json = dict[str, Any]


class PublicApi:
    """Context manager that adds the operations of the public API to a mock server.

    Attributes:
        projects: The projects that exist without runs.
        views: The saved workspaces, by project and name.
        broken: The files that cannot be downloaded.
    """

    def __init__(self, server: WandbServer) -> None:
        self.server = server
        self.projects: set[str] = set()
        self.views: dict[tuple[str, str], Json] = {}
        self.broken: set[str] = set()
        server.operations |= {
            "GetDefaultEntity": lambda _: {"viewer": {"id": "VXNlcjox", "entity": ENTITY}},
            "GetSweep": self._sweep,
            "Runs": self._runs,
            "RunFullHistory": self._history,
            "RunFiles": self._files,
            "View": self._view,
            "UpsertView2": self._upsert_view,
        }

    def __enter__(self) -> Self:
        self._files_server = _FilesServer(self)
        threading.Thread(target=self._files_server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._files_server.shutdown()
        self._files_server.server_close()

    def _exists(self, entity: str, project: str) -> bool:
        used = {item.project for item in (*self.server.runs.values(), *self.server.sweeps.values())}
        return entity == ENTITY and project in self.projects | used

    def _run(self, variables: Json) -> Run | None:
        run = self.server.runs.get(variables["name"])
        exists = run is not None and (variables["entity"], variables["project"]) == (ENTITY, run.project)
        return run if exists else None

    def _sweep(self, variables: Json) -> Json:
        if not self._exists(variables["entity"], variables["project"]):
            return {"project": None}
        return self.server.sweep_node(variables)

    def _runs(self, variables: Json) -> Json:
        """Returns a page of the runs of a project, or of one of its sweeps, in the order of their creation."""
        if not self._exists(variables["entity"], variables["project"]):
            return {"project": None}
        runs = [run for run in self.server.runs.values() if run.project == variables["project"]]
        match json.loads(variables["filters"]):
            case {"$and": [{"sweep": sweep}]}:
                runs = [run for run in runs if run.sweep == sweep]
            case {} as filters if filters:
                raise LookupError(f"unknown filters {filters}")
        match variables["order"]:
            case "-created_at":
                runs.reverse()
            case order if order != "+created_at":
                raise LookupError(f"unknown order {order}")
        start = int(variables["cursor"] or 0)
        stop = start + variables["perPage"]
        edges = [{"node": _node(run), "cursor": str(i)} for i, run in enumerate(runs[start:stop], start + 1)]
        page = {"endCursor": str(stop), "hasNextPage": stop < len(runs)}
        found = {"edges": edges, "pageInfo": page}
        return {"project": {"internalId": "1", "runCount": len(runs), "readOnly": False, "runs": found}}

    def _history(self, variables: Json) -> Json:
        run = self._run(variables)
        if run is None:
            return {"project": {"run": None}}
        rows = run.history
        sampled = rows[:: -(-len(rows) // variables["samples"]) or 1]
        return {"project": {"run": {"history": [json.dumps(row) for row in sampled]}}}

    def _files(self, variables: Json) -> Json:
        run = self._run(variables)
        if run is None:
            return {"project": {"run": None}}
        names = [name for name in variables["fileNames"] if name in run.files]
        address = f"http://127.0.0.1:{self._files_server.server_port}"
        edges = [
            {
                "cursor": name,
                "node": {
                    "id": name,
                    "name": name,
                    "url": f"{address}/{quote(run.id)}/{quote(name)}",
                    "directUrl": f"{address}/{quote(run.id)}/{quote(name)}",
                    "sizeBytes": str(len(run.files[name])),
                    "mimetype": "image/png",
                    "updatedAt": None,
                    "md5": None,
                },
            }
            for name in names
        ]
        page = {"endCursor": None, "hasNextPage": False}
        found = {"fileCount": len(names), "files": {"edges": edges, "pageInfo": page}}
        return {"project": {"internalId": "1", "run": found}}

    def _view(self, variables: Json) -> Json:
        entity, project = variables["entityName"], variables["name"]
        if not self._exists(entity, project):
            return {"project": None}
        if variables["viewType"] != "project-view":
            raise LookupError(f"unknown kind of view {variables['viewType']}")
        view = self.views.get((project, variables["viewName"]))
        return {"project": {"allViews": {"edges": [] if view is None else [{"node": view}]}}}

    def _upsert_view(self, variables: Json) -> Json:
        """Creates a view, or changes the view with the given id."""
        if not self._exists(variables["entityName"], variables["projectName"]):
            raise Refused("no such project")
        key = (variables["projectName"], variables["name"])
        old = self.views.get(key)
        if (old and old["id"]) != variables.get("id"):
            raise Refused("the name is in use, or the id does not exist")
        view = {key: variables[key] for key in ("name", "displayName", "spec")}
        self.views[key] = {"id": old["id"] if old else f"view{len(self.views)}", **view}
        return {"upsertView": {"view": {"id": self.views[key]["id"], "name": view["name"]}, "inserted": old is None}}


class _FilesServer(ThreadingHTTPServer):
    """Serves the files of runs for download."""

    def __init__(self, api: PublicApi) -> None:
        self.api = api
        super().__init__(("127.0.0.1", 0), _FilesHandler)


class _FilesHandler(BaseHTTPRequestHandler):
    server: _FilesServer

    def do_GET(self) -> None:
        _, run, name = unquote(self.path).split("/", 2)
        broken = name in self.server.api.broken
        content = b"" if broken else self.server.api.server.runs[run].files[name]
        self.send_response(404 if broken else 200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Logs nothing."""


def _node(run: Run) -> Json:
    return {
        "projectId": "1",
        "id": run.id,
        "tags": run.tags,
        "name": run.id,
        "displayName": run.name,
        "sweepName": run.sweep,
        "state": run.state,
        "config": json.dumps({key: {"desc": None, "value": value} for key, value in run.config.items()}),
        "group": run.group,
        "jobType": run.job_type,
        "commit": None,
        "readOnly": False,
        "createdAt": "2025-01-01T00:00:00Z",
        "heartbeatAt": "2025-01-01T00:00:00Z",
        "description": "",
        "notes": run.notes,
        "systemMetrics": "{}",
        "summaryMetrics": json.dumps(run.summary),
        "historyLineCount": len(run.history),
        "user": {"name": ENTITY, "username": ENTITY},
        "historyKeys": None,
    }
