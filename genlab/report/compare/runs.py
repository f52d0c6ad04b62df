"""Which runs are compared: those of folders and of W&B, by their states and by filters."""

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from genlab.report.records import ENDED_EARLY, FINISHED, state_of
from genlab.runs.config import flatten
from genlab.runs.errors import UsageError
from genlab.runs.folder import read_summary
from genlab.runs.short_names import short_class
from genlab.suggestions import did_you_mean
from genlab.yaml_files import read_yaml

FACTS = ("parameters", "seconds", "images/s", "hardware")
"""What a run records beside its metrics; seconds are those of the whole run, with validation and test."""
TIMED = ("seconds", "images/s")
"""Facts that compare on equal hardware only."""
UNRECORDED = " (not recorded)"
FILTER = re.compile(r"([^=!<>]+?)\s*(!=|<=|>=|=|<|>)\s*(.*)")


@dataclass(frozen=True, eq=False)
class Run:
    """A run to compare.

    Args:
        experiment: The folder of the experiment, or the group on W&B.
        name: Its name in the experiment.
        state: Its state, as in a report.
        config: Its config by dotted keys.
        metrics: Its final metrics.
        facts: `FACTS`, and the fingerprints of its data and of its evaluation classifier, as far as they are recorded.
        folder: Its folder; None for one on W&B.
        remote: The run in W&B's public API; None for one of a folder.
        wandb_id: Its id on W&B; empty if it is not known.
    """

    experiment: str
    name: str
    state: str
    config: Mapping[str, Any]
    metrics: Mapping[str, float]
    facts: Mapping[str, Any]
    folder: Path | None = None
    remote: Any = None
    wandb_id: str = ""

    def __str__(self) -> str:
        return f"{self.experiment}/{self.name}" if self.experiment else self.name

    def value(self, key: str) -> Any:
        """Returns the value of a config key, a metric, a fact, or of experiment, run or state; None if it has none."""
        own = {"experiment": self.experiment, "run": self.name, "state": self.state}
        return next((values[key] for values in (self.config, self.metrics, self.facts, own) if key in values), None)

    def keys(self) -> set[str]:
        return {*self.config, *self.metrics, *self.facts, "experiment", "run", "state"}


@dataclass
class Selection:
    """The runs that are compared, and the others.

    Args:
        runs: The runs that are compared.
        left_out: State -> the runs that are left out because of it.
    """

    runs: list[Run]
    left_out: dict[str, list[Run]] = field(default_factory=dict)


def read_folders(folders: Iterable[Path]) -> list[Run]:
    """Reads the runs of folders of experiments, and single run folders. A run that is named twice is read once.

    Raises:
        UsageError: A folder contains no run.
    """
    found: dict[Path, Path] = {}
    for folder in folders:
        runs = [folder] if (folder / "summary.json").is_file() else _inside(folder)
        if not runs:
            deeper = sorted({str(run.parent) for inner in folder.glob("[!.]*/") for run in _inside(inner)})
            choices = f", such as {' '.join(deeper[:3])}" if deeper else ""
            raise UsageError(f"{folder} contains no runs; give the folder of an experiment or of a run{choices}")
        found |= {run.resolve(): run for run in runs}
    names = _experiments({run.parent for run in found})
    return _with_defaults([_read(run, names[run.parent]) for run in found])


def without_copies(runs: Sequence[Run]) -> tuple[list[Run], list[Run]]:
    """Returns each run once, and those of which a copy on W&B is left out: a folder or another --wandb has the run."""
    found = {run.wandb_id: run for run in reversed(runs) if run.wandb_id}
    found |= {run.wandb_id: run for run in runs if run.folder and run.wandb_id}
    copies = [run for run in runs if run.folder is None and found.get(run.wandb_id, run) is not run]
    return [run for run in runs if run not in copies], list({run.wandb_id: run for run in copies}.values())


def _with_defaults(runs: Sequence[Run]) -> list[Run]:
    """Adds to each run's config the options that only other runs record: they are at their defaults in this run.

    An option of the trainer or of a callback is recorded at its default only if the command line gives it. The defaults
    are those in the config.yaml of one run of each experiment.
    """
    keys = {key for run in runs for key in run.config if key.partition(".")[0] not in ("model", "data")}
    options = cache(_all_options)
    defaults: dict[tuple[str, str], Any] = {}
    filled = []
    for run in runs:
        lacking = keys - run.config.keys() if run.folder and run.config else set()
        for key in lacking:
            if (run.experiment, key) not in defaults:
                defaults[run.experiment, key] = _cell(options(run.folder).get(key))
        own = {key: defaults[run.experiment, key] for key in lacking}
        own = {key: value for key, value in own.items() if value is not None}
        filled.append(replace(run, config={**own, **run.config}))
    return filled


def _all_options(folder: Path) -> dict[str, Any]:
    """Returns all options of a run by dotted keys; none if its config.yaml cannot be read."""
    try:
        return flatten(read_yaml(folder / "config.yaml"))
    except (UsageError, AttributeError):
        return {}


def _inside(folder: Path) -> list[Path]:
    return sorted(path.parent for path in folder.glob("[!.]*/summary.json"))


def _experiments(folders: Iterable[Path]) -> dict[Path, str]:
    """Returns the name of each experiment: that of its folder, or the whole path where two have the same name."""
    same = defaultdict(list)
    for folder in folders:
        same[folder.name].append(folder)
    return {folder: name if len(group) == 1 else str(folder) for name, group in same.items() for folder in group}


def _read(folder: Path, experiment: str) -> Run:
    summary = read_summary(folder)
    try:
        assert summary is not None
        config = {key: _cell(value) for key, value in summary.get("config", {}).items()}
        metrics = {key: float(value) for key, value in summary.get("metrics", {}).items()}  # NaN is a text in JSON
        state = str(state_of(folder, summary))
        facts = facts_of(summary, config)
        return Run(
            experiment, folder.name, state, config, metrics, facts, folder, wandb_id=str(summary.get("wandb_id") or "")
        )
    except (AssertionError, AttributeError, TypeError, ValueError):
        return Run(experiment, folder.name, "unreadable", {}, {}, {}, folder)


def facts_of(summary: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the facts that the summary of a run records."""
    own = {key: summary.get(key) for key in ("parameters", "seconds", "hardware", "data_fingerprint", "classifier")}
    if own["seconds"] and summary.get("images_seen"):
        own["images/s"] = summary["images_seen"] / own["seconds"]
    own["classifier"] = own["classifier"] or unrecorded_classifier(config)
    return {key: value for key, value in own.items() if value is not None}


def unrecorded_classifier(config: Mapping[str, Any]) -> str:
    """Returns what stands for the fingerprint of the evaluation classifier of a run that recorded none."""
    option = config.get("quality.classifier") or config.get("translation.classifier") or "default"
    return f"{option}{UNRECORDED}"


def select(runs: Sequence[Run], filters: Sequence[str], include_early: bool) -> Selection:
    """Chooses the finished runs that pass all filters.

    Args:
        runs: The runs.
        filters: Texts such as `model=VAE` or `model.optimizer.lr>0.001`.
        include_early: Whether runs that were ended early are compared too.

    Raises:
        UsageError: A filter cannot be read or names an unknown key, or no run is left.
    """
    for text in filters:
        runs = _filtered(runs, text)
    states = [FINISHED, ENDED_EARLY] if include_early else [FINISHED]
    left_out: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        if run.state not in states:
            left_out[run.state].append(run)
    counted = [run for run in runs if run.state in states]
    if not counted:
        others = ", ".join(f"{len(group)} {state}" for state, group in left_out.items())
        hint = "; --include-early adds those that were ended early" if ENDED_EARLY in left_out else ""
        raise UsageError(f"no run to compare has finished ({others}){hint}")
    return Selection(counted, left_out)


def _filtered(runs: Sequence[Run], text: str) -> list[Run]:
    parts = FILTER.fullmatch(text.strip())
    if not parts:
        raise UsageError(f"--where {text!r} is not of the form KEY=VALUE; the signs are = != < <= > >=")
    name, sign, wanted = parts.groups()
    key = find_key(set[str]().union(*(run.keys() for run in runs)), name, "--where")
    kept = [run for run in runs if _passes(run.value(key), sign, wanted, text)]
    if not kept:
        shown = ", ".join(sorted({short_text(run.value(key)) for run in runs})[:10])
        raise UsageError(f"--where {text} leaves no run; the values of {key} are {shown}")
    return kept


def _passes(value: Any, sign: str, wanted: str, text: str) -> bool:
    if sign in ("=", "!="):
        number, other = _number(value), _number(wanted)
        same = number == other if None not in (number, other) else wanted in (short_text(value), str(value))
        return same == (sign == "=")
    limit = _number(wanted)
    if limit is None:
        raise UsageError(f"--where {text}: {wanted!r} is not a number; texts compare with = and !=")
    number = _number(value)
    if number is None:
        return False
    return {"<": number < limit, "<=": number <= limit, ">": number > limit, ">=": number >= limit}[sign]


def find_key(keys: Collection[str], name: str, option: str) -> str:
    """Returns the key that a user names: the whole key, or the end of a single key, as in latent_dim.

    Args:
        keys: The keys that there are.
        name: What the user typed.
        option: The option, for the message.

    Raises:
        UsageError: No key or several keys end like this.
    """
    if name in keys:
        return name
    ending = sorted(key for key in keys if key.endswith((f".{name}", f"/{name}")))
    if len(ending) == 1:
        return ending[0]
    if ending:
        raise UsageError(f"{option} {name} may be {', '.join(ending)}; give the whole key")
    hint = did_you_mean(name, keys) or "; a key is an option, such as model or model.latent_dim"
    raise UsageError(f"{option} {name}: no run has this key{hint}")


def short_text(value: Any) -> str:
    """Formats a value in one line: a class without its modules, a number with six digits, none for no value."""
    if value is None or value == "":
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.6g}" if isinstance(value, float) else " ".join(str(short_class(value)).split())


def _number(value: Any) -> float | None:
    if isinstance(value, bool):
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _cell(value: Any) -> Any:
    return str(value) if isinstance(value, list | dict) else value
