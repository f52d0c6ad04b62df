"""Saves a workspace of a W&B project. What a user has changed in it on the website stays."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from genlab.report.wandb_records import api_errors
from genlab.runs.errors import UsageError, error_message

if TYPE_CHECKING:
    import wandb_workspaces.workspaces as ws

HINT = "check that the key may change the project and that the server has workspaces, or give another --name"
UPSERT = """mutation UpsertView2($id: ID, $entityName: String, $projectName: String, $name: String,
    $displayName: String, $type: String, $description: String, $spec: String) {
    upsertView(input: {id: $id, entityName: $entityName, projectName: $projectName, name: $name,
        displayName: $displayName, type: $type, description: $description, spec: $spec, createdUsing: WANDB_SDK}) {
        view { id name }
        inserted
    }
}"""


@dataclass
class Layout:
    """What a workspace shows.

    Args:
        sections: Its sections of charts.
        columns: The columns of the table of runs that are pinned, in the notation of W&B: `config:model.depth.value`.
        groups: The groups of runs that it shows; none for all.
        by_group: Whether the runs of a group are listed one after the other; else the newest run is the first.
    """

    sections: "list[ws.Section]"
    columns: list[str]
    groups: list[str] = field(default_factory=list)
    by_group: bool = False


def save_workspace(entity: str, project: str, name: str, layout: Layout) -> str:
    """Saves a workspace and returns its URL.

    If there is one of this name, its sections are replaced and its missing columns are pinned. All else in it stays.

    Raises:
        UsageError: The server refuses it, or has no workspaces.
    """
    path = f"{entity}/{project}"
    with api_errors(f"the workspace {name!r} of {path}", "save", HINT):
        board = _workspace(entity, project, name, layout)
        spec = json.loads(board._model.spec.model_dump_json(by_alias=True, exclude_none=True))
        if layout.groups:
            spec["section"]["runSets"][0]["filters"] = _group_filter(layout.groups)
        existing = _existing(board)
        if existing is not None:
            spec = _changed(json.loads(existing["spec"]), spec, bool(layout.groups))
        _upsert(board, spec, existing)
        return board.url


def config_column(key: str) -> str:
    """Returns the name of a config key that contains dots as a column, which the client takes for nested keys."""
    return f"config:{key}.value"


def summary_column(name: str) -> str:
    return f"summary:{name}"


def _workspace(entity: str, project: str, name: str, layout: Layout) -> "ws.Workspace":
    """Builds a new workspace. W&B identifies it by an id that the client chooses, so the id is a hash of the name."""
    import wandb_workspaces.workspaces as ws
    from pydantic import ValidationError

    newest_first = ws.Ordering(ws.Metric("CreatedTimestamp"), ascending=False)
    runs = ws.RunsetSettings(
        pinned_columns=layout.columns,
        order=[*[ws.Ordering(ws.Metric("Group"))] * layout.by_group, newest_first],
    )
    try:
        board = ws.Workspace(entity=entity, project=project, name=name, sections=layout.sections, runset_settings=runs)
    except ValidationError as error:
        reason = "; ".join(found["msg"] for found in error.errors())
        raise UsageError(f"W&B refuses the workspace {name!r} ({reason}); give another --name") from None
    view = hashlib.sha256(f"{entity}/{project}/{name}".encode()).hexdigest()[:11]
    board._internal_name = f"nw-{view}-v"
    return board


def _existing(board: "ws.Workspace") -> dict[str, Any] | None:
    """Returns the id, the name and the specification of the saved workspace; None if there is none.

    The specification is read as it is, because the client's own classes drop what they do not know.
    """
    from wandb_workspaces.workspaces.errors import SpecVersionError
    from wandb_workspaces.workspaces.internal import _internal_name_to_url_query_str, get_view_dict

    try:
        return get_view_dict(board.entity, board.project, _internal_name_to_url_query_str(board._internal_name))
    except SpecVersionError as error:
        reason = error_message(error)
        raise UsageError(f"the workspace {board.name!r} cannot be changed ({reason}); give another --name") from error
    except ValueError as error:
        if "not found in project" not in str(error):
            raise
        return None


def _changed(old: dict[str, Any], new: dict[str, Any], filtered: bool) -> dict[str, Any]:
    """Returns the specification of a saved workspace with the sections and the missing columns of a new one.

    Args:
        old: The saved specification.
        new: The new one.
        filtered: Whether the new one shows some groups only, which the saved one must show too.
    """
    section, ours = old["section"], new["section"]
    section["panelBankConfig"]["sections"] = ours["panelBankConfig"]["sections"]
    runs, our_runs = section["runSets"][0], ours["runSets"][0]
    feed = runs.setdefault("runFeed", {})
    pinned, order = feed.setdefault("columnPinned", {}), feed.setdefault("columnOrder", [])
    missing = [column for column in our_runs["runFeed"]["columnOrder"] if column not in pinned]
    pinned.update(dict.fromkeys(missing, True))
    feed.setdefault("columnVisible", {}).update(dict.fromkeys(missing, True))
    order += [column for column in missing if column not in order]
    if filtered and _groups(runs.get("filters") or {}) != _groups(our_runs["filters"]):
        runs["filters"] = our_runs["filters"]
    return old


def _group_filter(groups: list[str]) -> dict[str, Any]:
    """Returns the filter of runs by group, as the website writes it; those of the client take no quotation marks."""
    key = {"section": "run", "name": "group"}
    return {"filterFormat": "filterV2", "filters": [{"key": key, "op": "IN", "value": groups, "disabled": False}]}


def _groups(filters: Any) -> list[Any]:
    """Returns what the filters of runs say of groups, in all formats that W&B has had."""
    items: Sequence[Any] = filters if isinstance(filters, list) else [filters]
    found = []
    for item in items:
        if (item.get("key") or {}).get("name") == "group":
            found.append((item.get("op"), item.get("value")))
        found += _groups(item.get("filters") or [])
    return found


def _upsert(board: "ws.Workspace", spec: dict[str, Any], existing: dict[str, Any] | None) -> None:
    import wandb
    from wandb_workspaces._graphql import execute_graphql

    variables = {
        "entityName": board.entity,
        "projectName": board.project,
        "name": board._internal_name,
        "displayName": existing["displayName"] if existing else board.name,
        "type": "project-view",
        "description": "",
        "spec": json.dumps(spec, separators=(",", ":")),
        **({"id": existing["id"]} if existing else {}),
    }
    answer = execute_graphql(wandb.Api(), UPSERT, variables)
    if not (answer.get("upsertView") or {}).get("view"):
        raise ValueError("the server has saved nothing")
