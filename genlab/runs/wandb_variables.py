"""The environment variables of Weights & Biases. An option wins over a variable, and a variable over our default."""

import atexit
import functools
import os
import shutil
import tempfile
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from genlab.runs.config import SEED, format_value, swept_keys
from genlab.runs.errors import UsageError, error_message
from genlab.runs.folder import RunOptions
from genlab.yaml_files import read_yaml

PROJECT = "genlab"
"""The W&B project where neither an option nor a variable names one."""
MODES = {"online": "online", "run": "online", "shared": "online"}
MODES |= {"offline": "offline", "dryrun": "offline", "disabled": "disabled"}
"""The values of WANDB_MODE, and what they mean for one process."""
VARIABLES = {
    "project": "WANDB_PROJECT",
    "entity": "WANDB_ENTITY",
    "group": "WANDB_RUN_GROUP",
    "tags": "WANDB_TAGS",
    "name": "WANDB_NAME",
    "notes": "WANDB_NOTES",
    "job_type": "WANDB_JOB_TYPE",
    "save_code": "WANDB_SAVE_CODE",
    "id": "WANDB_RUN_ID",
    "resume": "WANDB_RESUME",
}
"""The arguments of wandb.init that say which run it is, and W&B's variables for them."""
SET_BY_AGENT = ("project", "entity", "id")
"""Those of a run of a sweep that its agent gives."""
SECRET = ("KEY", "TOKEN", "PASSWORD")


def variable(name: str) -> str | None:
    """Returns the value of a variable; None if it is not set, or is empty."""
    return os.environ.get(name) or None


def check_variables() -> None:
    """Checks what W&B would refuse when a run starts.

    Raises:
        UsageError: A variable has a value that W&B does not accept. The message names it.
    """
    given = {name: value for name, value in sorted(os.environ.items()) if name.startswith("WANDB_") and value}
    if given.get("WANDB_MODE", "online") not in MODES:
        raise UsageError(_refused("WANDB_MODE", given["WANDB_MODE"], "choose from online, offline, disabled"))
    if given.keys() <= {"WANDB_MODE"} or given.get("WANDB_MODE") == "disabled":
        return
    import wandb

    for name, value in given.items():
        try:
            wandb.Settings().update_from_env_vars({name: value})
        except (ValueError, wandb.errors.Error) as error:  # pydantic's is a ValueError
            raise UsageError(_refused(name, value, "; ".join(reason for _, reason in _reasons(error)))) from None
    if "WANDB_DIR" in given:
        try:
            Path(given["WANDB_DIR"]).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(_refused("WANDB_DIR", given["WANDB_DIR"], error_message(error))) from None


def checked_settings(given: Mapping[str, Any]) -> Any:
    """Returns the settings that a user's own logger of W&B names, as the client takes them.

    Raises:
        UsageError: W&B refuses one of them, or one is a key, which config.yaml would keep.
    """
    import wandb

    if secret := next((name for name in given if any(word in name.upper() for word in SECRET)), None):
        raise UsageError(f"settings.{secret} of the logger would be recorded; `wandb login` saves a key")
    try:
        return wandb.Settings(**given)
    except (ValueError, wandb.errors.Error) as error:
        reason = "; ".join(f"{name}: {text}" for name, text in _reasons(error))
        raise UsageError(f"the settings of the logger are refused by W&B ({reason}); correct them") from None


def _reasons(error: Exception) -> list[tuple[str, str]]:
    """Returns the settings that W&B refuses, and why."""
    found: list[Any] = error.errors() if hasattr(error, "errors") else [{"loc": ["settings"], "msg": str(error)}]
    return [(".".join(map(str, item["loc"])), item["msg"]) for item in found]


def _refused(name: str, value: str, reason: str) -> str:
    shown = "" if any(word in name for word in SECRET) else f"={value}"
    return f"the environment variable {name}{shown} is refused by W&B ({reason}); correct or unset it"


def wandb_folder(folder: Path) -> Path:
    """Returns the folder in whose `wandb` the client keeps its files: WANDB_DIR, else the folder of the run."""
    given = variable("WANDB_DIR")
    set_by_agent = variable("WANDB_SWEEP_ID") and given == os.getcwd()  # `wandb agent` does so if the user has not
    return folder if given is None or set_by_agent else Path(given)


def init_arguments(options: RunOptions, folder: Path, run_id: str, named: bool) -> dict[str, Any]:
    """Returns the arguments of wandb.init that say which run it is: by an option, else a variable, else our default.

    Args:
        options: The options of the run.
        folder: The run folder.
        run_id: Our id of the run.
        named: Whether --run.name is given on the command line.
    """
    experiment = folder.parent.name
    name = f"{experiment}/{folder.name}"
    ours = {"project": PROJECT, "group": experiment, "name": name, "id": run_id, "resume": "allow", "save_code": False}
    given = {argument: getattr(options, argument, None) for argument in VARIABLES} | {"name": name if named else None}
    return ours | _given_by_variables() | {key: value for key, value in given.items() if value is not None}


def _given_by_variables() -> dict[str, Any]:
    import wandb.env

    found: dict[str, Any] = {argument: variable(name) for argument, name in VARIABLES.items()}
    found = {argument: value for argument, value in found.items() if value is not None}
    if "tags" in found:
        found["tags"] = [tag.strip() for tag in found["tags"].split(",") if tag.strip()]
    if "save_code" in found:
        found["save_code"] = wandb.env.should_save_code()
    return found


def heeded_variables(init: Mapping[str, Any], files: Path) -> str:
    """Returns the line that says which variables name the run on W&B; empty if none does.

    Args:
        init: The arguments of wandb.init.
        files: The folder in whose `wandb` the client keeps its files.
    """
    given = {key: value for key, value in _given_by_variables().items() if init.get(key) == value}
    if variable("WANDB_SWEEP_ID"):
        given = {key: value for key, value in given.items() if key not in SET_BY_AGENT}
    words = [
        f"{argument} {textwrap.shorten(str(variable(VARIABLES[argument])), 60)} ({VARIABLES[argument]})"
        for argument in given
    ]
    if variable("WANDB_DIR") == str(files):
        words.append(f"files in {files} (WANDB_DIR)")
    return "W&B: " + ", ".join(words) if words else ""


def values_of_agent() -> dict[str, Any]:
    """Returns the parameters of this run of a W&B sweep, from the file that the agent names in a variable."""
    file = variable("WANDB_SWEEP_PARAM_PATH")
    given = read_yaml(Path(file), "file of W&B's agent") if file else {}
    return {key: entry["value"] for key, entry in given.items() if isinstance(entry, Mapping) and "value" in entry}


def with_values_of_agent(args: list[str]) -> list[str]:
    """Writes the values that `wandb agent` passes as the command line reads them: null where it wrote None."""
    written = {(f"--{key}", str(value)): format_value(value) for key, value in values_of_agent().items()}
    words = list(args)
    for place, arg in enumerate(args):
        flag, equals, text = arg.partition("=")
        if equals and (flag, text) in written:
            words[place] = f"{flag}={written[flag, text]}"
        elif not equals and (arg, *args[place + 1 : place + 2]) in written:
            words[place + 1] = written[arg, args[place + 1]]
    return words


def keys_swept_by_agent() -> list[str]:
    """Returns the short keys that the W&B sweep of this run varies, which are those in the run's name.

    An agent passes values only, so W&B is asked for the definition. Without an answer there are none.
    """
    sweep = variable("WANDB_SWEEP_ID")
    place = [variable("WANDB_ENTITY"), variable("WANDB_PROJECT"), sweep]
    try:
        return [] if sweep is None else _keys_swept_in("/".join(filter(None, place)))
    except Exception:  # the name has all values then
        return []


@functools.cache
def _keys_swept_in(path: str) -> list[str]:
    import wandb

    return varied_keys(wandb.Api().sweep(path).config["parameters"])


def varied_keys(parameters: Mapping[str, Any]) -> list[str]:
    """Returns the short keys that the parameters of a sweep, as W&B keeps it, set if they have more than one value.

    The seed is among them also if it has one value, so that the name of a run stays when more seeds are added.

    >>> block = {"parameters": {"depth": {"min": 1, "max": 3}, "width": {"value": 8}}}
    >>> varied_keys({"model": block, "seed_everything": {"value": 0}})
    ['model.depth', 'seed_everything']
    """
    return list(_varied_keys(parameters))


def _varied_keys(parameters: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, spec in parameters.items():
        if "parameters" in spec:
            yield from _varied_keys(spec["parameters"], f"{prefix}{key}.")
        elif key == SEED or ("value" not in spec and len(spec.get("values", (0, 1))) > 1):
            yield from swept_keys(f"{prefix}{key}", spec.get("values", ()))


@functools.cache
def use_writable_cache() -> None:
    """Gives W&B's service a temporary cache where it cannot write to its own, as it would print its log instead."""
    import wandb.env

    folder = wandb.env.get_cache_dir()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if "HOME" in os.environ and os.access(folder, os.W_OK):
            return
    except OSError:
        pass
    temporary = tempfile.mkdtemp(prefix="genlab-wandb-")
    os.environ["WANDB_CACHE_DIR"] = temporary
    atexit.register(shutil.rmtree, temporary, ignore_errors=True)
