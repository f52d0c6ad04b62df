"""The requests of W&B's artifacts on the mock server: a run logs one, the public API finds it, and a run uses it."""

import base64
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from tests.wandb_server import ENTITY, WandbServer, project_node

Json = dict[str, Any]
CREATED = "2025-01-01T00:00:00Z"


@dataclass
class Artifact:
    """One version of a collection of artifacts. `version` is its number once it is committed."""

    id: str
    project: str
    name: str
    type: str
    run: str
    digest: str
    metadata: Json
    aliases: set[str]
    version: int | None = None
    manifest: str = ""
    used_by: list[str] = field(default_factory=list)


class Artifacts:
    """Adds the operations of artifacts to a mock server.

    Like the real server it keeps one version for equal contents, and moves an alias to the version that has it last.

    Attributes:
        all: The artifacts by id.
    """

    def __init__(self, server: WandbServer) -> None:
        self.server = server
        self.all: dict[str, Artifact] = {}
        server.operations |= {
            "GetDefaultEntity": lambda _: {"viewer": {"id": "VXNlcjox", "entity": ENTITY}},
            "ArtifactType": lambda _: {"project": {"artifact": None}},
            "CreateArtifact": self._create,
            "CreateArtifactManifest": self._create_manifest,
            "CreateArtifactFiles": self._create_files,
            "CommitArtifact": self._commit,
            "ArtifactByID": lambda variables: {"artifact": _node(self.all[variables["id"]])},
            "ArtifactMembershipByName": self._find,
            "FetchArtifactManifest": self._fetch_manifest,
            "UseArtifact": self._use,
        }

    def of_type(self, type: str) -> list[Artifact]:
        return [artifact for artifact in self.all.values() if artifact.type == type and artifact.version is not None]

    def names(self, artifact: Artifact) -> list[str]:
        """Returns the names of the files in an artifact."""
        return sorted(json.loads(self.server.stored[artifact.manifest])["contents"])

    def add(self, name: str, contents: Json, project: str = "genlab") -> Artifact:
        """Adds an artifact whose manifest has these entries. An entry of bytes is a file, which is stored."""
        artifact = Artifact(f"artifact{len(self.all)}", project, name, "model", "", name, {}, {"latest"}, version=0)
        artifact.manifest = f"{artifact.id}/wandb_manifest.json"
        entries = {path: self._entry(entry) if isinstance(entry, bytes) else entry for path, entry in contents.items()}
        manifest = {"version": 1, "storagePolicy": "wandb-storage-policy-v1", "contents": entries}
        manifest["storagePolicyConfig"] = {"storageLayout": "V2"}
        self.server.stored[artifact.manifest] = json.dumps(manifest).encode()
        self.all[artifact.id] = artifact
        return artifact

    def _entry(self, content: bytes) -> Json:
        digest = base64.standard_b64encode(hashlib.md5(content).digest()).decode()
        self.server.stored[bytes_key(digest)] = content
        return {"digest": digest, "size": len(content)}

    def _versions(self, project: str, name: str) -> Iterator[Artifact]:
        return (a for a in self.all.values() if (a.project, a.name) == (project, name) and a.version is not None)

    def _create(self, variables: Json) -> Json:
        new = variables["input"]
        project, name = new["projectName"], new["artifactCollectionName"]
        aliases = {item["alias"] for item in new["aliases"]}
        latest = max(self._versions(project, name), key=lambda found: found.version or 0, default=None)
        artifact = next((old for old in self._versions(project, name) if old.digest == new["digest"]), None)
        if artifact is None:
            metadata, id = json.loads(new["metadata"] or "{}"), f"artifact{len(self.all)}"
            kind = new["artifactTypeName"]
            artifact = Artifact(id, project, name, kind, new["runName"], new["digest"], metadata, aliases)
            self.all[id] = artifact
        else:
            self._move_aliases(artifact, aliases)
        sequence = {"latestArtifact": latest and {"id": latest.id}}
        state = "PENDING" if artifact.version is None else "COMMITTED"
        return {"createArtifact": {"artifact": {"id": artifact.id, "state": state, "artifactSequence": sequence}}}

    def _create_manifest(self, variables: Json) -> Json:
        key = f"{variables['artifactID']}/{variables['name']}"
        self.all[variables["artifactID"]].manifest = key
        file = {"id": key, "uploadUrl": self._address(key), "uploadHeaders": []}
        return {"createArtifactManifest": {"artifactManifest": {"id": key, "file": file}}}

    def _create_files(self, variables: Json) -> Json:
        nodes = [
            {
                "storagePath": None,
                "uploadUrl": self._address(bytes_key(file["md5"])),
                "uploadHeaders": [],
                "uploadMultipartUrls": None,
                "artifact": {"id": file["artifactID"]},
            }
            for file in variables["input"]["artifactFiles"]
        ]
        return {"createArtifactFiles": {"files": {"edges": [{"node": node} for node in nodes]}}}

    def _commit(self, variables: Json) -> Json:
        artifact = self.all[variables["artifactID"]]
        artifact.version = len(list(self._versions(artifact.project, artifact.name)))
        self._move_aliases(artifact, set(artifact.aliases))
        return {"commitArtifact": {"artifact": {"id": artifact.id, "digest": artifact.digest}}}

    def _move_aliases(self, artifact: Artifact, aliases: set[str]) -> None:
        for other in self._versions(artifact.project, artifact.name):
            other.aliases -= aliases
        artifact.aliases |= aliases

    def _find(self, variables: Json) -> Json:
        name, _, alias = variables["name"].partition(":")
        versions = self._versions(variables["project"], name)
        artifact = next((a for a in versions if alias in {f"v{a.version}", *a.aliases}), None)
        if artifact is None:
            return {"project": {"artifactCollectionMembership": None}}
        membership = {
            "__typename": "ArtifactCollectionMembership",
            "id": f"membership-{artifact.id}",
            "versionIndex": artifact.version,
            "createdAt": CREATED,
            "aliases": [],
            "artifactCollection": _collection(artifact),
            "artifact": _node(artifact),
        }
        return {"project": {"artifactCollectionMembership": membership}}

    def _fetch_manifest(self, variables: Json) -> Json:
        key = self.all[variables["id"]].manifest
        return {"artifact": {"currentManifest": {"file": {"directUrl": self._address(key)}}}}

    def _use(self, variables: Json) -> Json:
        used = variables.get("input", variables)
        self.all[used["artifactID"]].used_by.append(used["runName"])
        return {"useArtifact": {"artifact": {"id": used["artifactID"]}}}

    def _address(self, key: str) -> str:
        return f"{self.server.url}/stored/{quote(key)}"


def _collection(artifact: Artifact) -> Json:
    return {"__typename": "ArtifactSequence", "name": artifact.name, "project": project_node(artifact.project)}


def _node(artifact: Artifact) -> Json:
    return {
        "__typename": "Artifact",
        "id": artifact.id,
        "artifactSequence": _collection(artifact),
        "versionIndex": artifact.version,
        "artifactType": {"name": artifact.type},
        "description": None,
        "metadata": json.dumps(artifact.metadata),
        "ttlDurationSeconds": -2,
        "ttlIsInherited": True,
        "tags": [],
        "historyStep": None,
        "state": "COMMITTED",
        "size": 1,
        "digest": artifact.digest,
        "digestAlgorithm": None,
        "commitHash": None,
        "fileCount": 1,
        "createdAt": CREATED,
        "updatedAt": None,
        "aliases": [],
    }


def bytes_key(digest: str) -> str:
    """Returns the key under which the server stores the bytes of a file with this base64 digest."""
    return base64.standard_b64decode(digest).hex()
