"""Checkpoints as artifacts of W&B: options take `wandb:ENTITY/PROJECT/NAME:ALIAS`, and a run logs its own.

A checkpoint is downloaded once, into a folder that its digest names. A version of an artifact never changes, so that
one that was downloaded is used without the server.
"""

import contextlib
import hashlib
import io
import json
import os
import re
import shlex
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from genlab.processes import first_process
from genlab.runs.errors import UsageError, error_message
from genlab.runs.folder import safe_name, write_atomically
from genlab.runs.wandb_access import require_wandb
from genlab.runs.wandb_variables import use_writable_cache, variable
from genlab.words import counted

PREFIX = "wandb:"
REFERENCE = re.compile(rf"{PREFIX}([^/:\s]+)/([^/:\s]+)/([^/:\s]+)(?::([^/:\s]+))?")
FORM = f"{PREFIX}ENTITY/PROJECT/NAME:ALIAS"
VERSION = re.compile(r"v\d+")
TYPE = "model"
"""The type of our artifacts."""
UPLOAD_SECONDS = 60.0
UPLOAD_SPEED = 1e6
"""How long the end of a run waits until W&B has a checkpoint: so many seconds, and a second for so many bytes."""
MAX_NAME_LENGTH = 128


@dataclass(frozen=True)
class Reference:
    """A version or an alias of an artifact of W&B."""

    collection: str
    """ENTITY/PROJECT/NAME."""
    alias: str

    @classmethod
    def parse(cls, text: str) -> "Reference":
        """
        Raises:
            UsageError: The text has another form.
        """
        found = REFERENCE.fullmatch(text)
        if found is None:
            raise UsageError(f"{text} names no checkpoint on W&B; write {FORM}")
        return cls("/".join(found.group(1, 2, 3)), found[4] or "latest")

    def __str__(self) -> str:
        return f"{PREFIX}{self.collection}:{self.alias}"

    @property
    def is_version(self) -> bool:
        return VERSION.fullmatch(self.alias) is not None


def is_reference(value: object) -> bool:
    """Returns whether the value of an option names a checkpoint on W&B."""
    return isinstance(value, str) and value.startswith(PREFIX)


def checkpoint_file(value: str) -> Path:
    """Returns the file of a checkpoint that an option names: its path, or the download of an artifact.

    Raises:
        UsageError: It cannot be downloaded.
    """
    if not is_reference(value):
        return Path(value)
    file = _downloaded(Reference.parse(pinned(value)))
    assert file is not None
    return file


def pinned(value: str) -> str:
    """Returns a reference with the version that its alias stands for now. Its checkpoint is downloaded.

    Raises:
        UsageError: There is no such artifact, or it is not one checkpoint, or it cannot be downloaded.
    """
    reference = Reference.parse(value)
    if reference.is_version and _downloaded(reference) is not None:
        return str(reference)
    require_wandb(f", which {reference} needs", f"; {reference} needs it", "asked")
    import wandb
    from wandb.sdk.lib.service.service_connection import WandbApiFailedError

    try:
        with contextlib.redirect_stderr(io.StringIO()):  # the client prints some errors too
            artifact = wandb.Api().artifact(str(reference).removeprefix(PREFIX))
            version = Reference(reference.collection, artifact.version)
            if _downloaded(version) is None:
                _download(artifact, version)
    except (wandb.errors.Error, WandbApiFailedError, ValueError, TypeError, KeyError, OSError) as error:
        reason = error_message(error)
        raise UsageError(
            f"{reference} cannot be downloaded ({reason}); check its name and alias, and the key"
        ) from None
    return str(version)


def map_references(config: Any, function: Callable[[str], str]) -> Any:
    """Applies a function to all references in a nested config, in place, and returns the config."""
    if is_reference(config):
        return function(config)
    values: Any = vars(config) if isinstance(config, Namespace) else config if isinstance(config, dict | list) else {}
    for key, value in values.items() if isinstance(values, dict) else enumerate(values):
        values[key] = map_references(value, function)
    return config


def recorded_version(value: str, recorded: Iterable[Any]) -> str:
    """Returns the version of the same artifact among recorded values in place of an alias, else the reference."""
    given = Reference.parse(value)
    versions = (other for other in recorded if is_reference(other) and Reference.parse(other).is_version)
    same = (other for other in versions if Reference.parse(other).collection == given.collection)
    return value if given.is_version else next(same, value)


def _downloaded(version: Reference) -> Path | None:
    """Returns the file of a version that was downloaded before and is as it was then."""
    entry = _index_entry(version)
    try:
        known = json.loads(entry.read_text(encoding="utf-8"))
        file = entry.parents[1] / known["file"]
        return file if _digest(file, known["algorithm"]) == known["digest"] else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _index_entry(version: Reference) -> Path:
    """Returns the file that says which file a version is, on the server that the settings name."""
    import wandb

    server = wandb.setup().settings.base_url.partition("://")[2]
    return _cache_folder() / "versions" / f"{safe_name(f'{server}/{version}')}.json"


def _cache_folder() -> Path:
    """Returns the folder of downloads: in WANDB_ARTIFACT_DIR, else in W&B's cache, which WANDB_CACHE_DIR names."""
    import wandb.env

    use_writable_cache()
    given = variable("WANDB_ARTIFACT_DIR")
    return (Path(given).expanduser() if given else wandb.env.get_cache_dir()) / "genlab-checkpoints"


def _download(artifact: Any, version: Reference) -> None:
    """Downloads the checkpoint in an artifact, under a name of its own, whatever its name there.

    Raises:
        UsageError: The artifact is not one checkpoint, or what arrives is not what W&B has.
        OSError, wandb.errors.Error: The download fails.
    """
    entry = artifact.get_entry(_checkpoint_in(artifact.manifest.entries, version))
    algorithm = entry.digest_algorithm().name
    folder = _cache_folder()
    name = version.collection.rpartition("/")[2]
    file = folder / safe_name(entry.digest) / safe_name(f"{name}{Path(str(entry.path)).suffix}")
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as part:
        arrived = entry.download(root=part, skip_cache=True)
        if _digest(Path(arrived), algorithm) != entry.digest:
            raise UsageError(f"{version} did not arrive whole: its digest is not W&B's; try again")
        os.replace(arrived, file)
    index = _index_entry(version)
    index.parent.mkdir(exist_ok=True)
    known = {"file": str(file.relative_to(folder)), "algorithm": algorithm, "digest": entry.digest}
    write_atomically(index, json.dumps(known))
    if first_process():
        print(f"{version} is downloaded to {file}", flush=True)


def _checkpoint_in(entries: Mapping[str, Any], version: Reference) -> str:
    """Returns the name of the one checkpoint in an artifact.

    Raises:
        UsageError: There are several or none, or it is a link to a file elsewhere.
    """
    names = [name for name in entries if len(entries) == 1 or name.endswith(".ckpt")]
    if len(names) != 1:
        has = f"{counted(len(names), 'checkpoint')} ({', '.join(sorted(names)[:4])})" if names else "no checkpoint"
        raise UsageError(f"{version} has {has}; give an artifact with one .ckpt file")
    if entries[names[0]].ref is not None:
        raise UsageError(f"{version} has only a link to {entries[names[0]].ref}; give an artifact with the file itself")
    return names[0]


def _digest(file: Path, algorithm: str) -> str:
    from wandb.sdk.lib import hashutil

    return hashutil.xxh128_file_b64(file) if "XXH128" in algorithm else hashutil.md5_file_b64(file)


def artifact_name(experiment: str, run: str) -> str:
    """Returns the name of the artifact of a run: W&B allows letters, digits, dashes, underscores and dots."""
    name = re.sub(r"[^A-Za-z0-9_.-]", "-", f"{experiment}-{run}")
    digest = hashlib.sha256(f"{experiment}/{run}".encode()).hexdigest()[:8]
    return name if len(name) <= MAX_NAME_LENGTH else f"{name[: MAX_NAME_LENGTH - 9]}-{digest}"


def log_checkpoint(run: Any, file: Path, name: str, aliases: Sequence[str], metadata: Mapping[str, Any]) -> str | None:
    """Logs a checkpoint as a version of an artifact. Offline, `wandb sync` sends it.

    Returns:
        The reference to the version; None for a run that is offline.

    Raises:
        Exception: W&B did not take it.
    """
    import wandb

    artifact = wandb.Artifact(name, TYPE, metadata=dict(metadata))
    sent = _kept_for_sync(run, file) if run.offline else file
    artifact.add_file(str(sent), name=file.name, policy="immutable", skip_cache=True)
    logged = run.log_artifact(artifact, aliases=list(aliases))
    if run.offline:
        return None
    logged.wait(timeout=UPLOAD_SECONDS + file.stat().st_size / UPLOAD_SPEED)
    return f"{PREFIX}{logged.qualified_name}"


def _kept_for_sync(run: Any, file: Path) -> Path:
    """Returns a second name of a file in the folder of the W&B run, as a resumed run replaces its own file."""
    kept = Path(run.dir).parent / "checkpoints" / file.name
    kept.parent.mkdir(exist_ok=True)
    try:
        os.link(file, kept)
    except OSError:  # another file system, or one without links
        shutil.copyfile(file, kept)
    return kept


def upload_command(run: Any, file: Path, name: str, aliases: Sequence[str]) -> str:
    """Returns the command that sends a checkpoint which an online run could not send; `wandb sync` does not."""
    given = [word for alias in aliases for word in ("--alias", alias)]
    place = "/".join(filter(None, (run.entity, run.project, name)))
    return shlex.join(["wandb", "artifact", "put", "--type", TYPE, "--name", place, *given, str(file)])
