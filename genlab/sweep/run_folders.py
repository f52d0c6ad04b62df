"""The run folders of a sweep: how they are named, and which of those that exist belongs to a point."""

import itertools
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from genlab.runs.config import option, overridden_values, run_folder, short_key
from genlab.runs.folder import RunOptions, is_running, read_summary, why_lost
from genlab.runs.wandb_variables import variable
from genlab.sweep.checks import first_point
from genlab.sweep.definition import Definition, Point
from genlab.sweep.queue import Job
from genlab.sweep.worker import ORPHAN_SECONDS, Json, Worker

_NUMBER = re.compile(r"-\d+$")


class RunFolders:
    """The folders of a sweep's runs, and the program's arguments that name them.

    Args:
        sweep: The definition of the sweep.
        root: Folder of all runs.

    Examples:
        >>> from genlab.sweep.parser import load_definition
        >>> _ = Path("small.yaml").write_text('''
        ... program: train.py
        ... method: grid
        ... metric: {name: test/mse}
        ... parameters: {model.depth: {values: [1, 2]}}
        ... command: ["${program}", "${args}"]
        ... ''')
        >>> folders = RunFolders(load_definition(Path("small.yaml")), "runs")
        >>> str(folders.folder), str(folders.planned({"model.depth": 2}))
        ('runs/small', 'runs/small/depth=2')
    """

    def __init__(self, sweep: Definition, root: str) -> None:
        self.sweep, self.root = sweep, root
        self.folder = self.planned(first_point(sweep)).parent

    def arguments(self, point: Point) -> list[str]:
        """Returns the program's arguments for one point, including those that say where the run is stored."""
        args = self.sweep.arguments(point)
        ours = {
            "run.experiment": self.sweep.name,
            "run.project": None if variable("WANDB_PROJECT") else self.sweep.project,  # as for `wandb sweep`
            "run.entity": None if variable("WANDB_ENTITY") else self.sweep.entity,
        }
        for name, value in ours.items():
            if value is not None and option(args, name) is None:
                args.append(f"--{name}={value}")
        return [*args, f"--run.root={self.root}"]

    def planned(self, point: Point, swept: Sequence[str] | None = None) -> Path:
        """Returns the folder of a run, named by the same rule as in the program, by what differs between the runs."""
        args = self.arguments(point)
        options = RunOptions(root=self.root, experiment=option(args, "run.experiment"))
        values = overridden_values(args) | {short_key(key): value for key, value in point.items()}
        swept = self.sweep.in_names if swept is None else swept
        return run_folder(args, options, {"model": "", "data": "", **values}, swept)

    def of(self, job: Job) -> Path:
        """Returns the run folder of a job."""
        return self.planned(job.point).with_name(job.run)

    def choose(
        self, job: Job, worker: Worker, rename: Callable[[Job, str], bool], notify: Callable[[str], None]
    ) -> Job:
        """Returns the job with the name of a run that has the config of its point, else of a folder that is free.

        The run in a folder of the point's name can have another config, because the definition or a config file was
        changed since. A run that is older than the sweep of a key has a name without it, or with all options.

        Args:
            job: The run.
            worker: A worker of the program, which compares options.
            rename: Gives the run another name in the queue; returns False if another point has it.
            notify: Called with a message if a run of other options is kept.
        """
        args, names = self.arguments(job.point), [self.planned(job.point, swept).name for swept in (None, ())]
        differing: dict[str, list[str]] = {}
        for name in dict.fromkeys([job.run, *self._held_names(names)]):
            summary = read_summary(self.folder / name)
            if summary is None:
                continue
            recorded = summary.get("config") or {}
            differing[name] = worker.differing_options(args, recorded)
            if not name.startswith((job.run, *names)):  # a name without some values: the record tells them
                differing[name] += [key for key in map(short_key, job.point) if key not in recorded]
            if summary.get("ended_early") and self.sweep.early_terminate is None:
                differing[name].append("early_terminate")
            if not differing[name] and (name == job.run or rename(job, name)):
                return replace(job, run=name)
        if job.run not in differing:
            return job
        free = (name for name in _numbered(names[0]) if not (self.folder / name).exists() and rename(job, name))
        other = replace(job, run=next(free))
        reason = f"the run there has other options ({', '.join(differing[job.run])})"
        notify(f"{job.run} is kept and not counted, as {reason}; this run is {other.run}")
        return other

    def _held_names(self, names: Sequence[str]) -> list[str]:
        """Returns the folders whose names have no other values than these names, with a number or without."""
        values = {"default"}.union(*(name.split(",") for name in names))
        held = sorted(os.listdir(self.folder))
        return [name for name in held if any(values.issuperset(n.split(",")) for n in (name, _NUMBER.sub("", name)))]


def settled_summary(folder: Path) -> Json:
    """Returns the summary of a run, after waiting for a process that may still be running there without its parent.

    A process of this host can be seen. One of another host gets the time in which it ends at the latest, unless it has
    given no sign of life for long.
    """
    began = time.monotonic()
    while True:
        summary = read_summary(folder) or {}
        ended = summary.get("state") != "running" or "host" not in summary or why_lost(folder, summary) is not None
        if ended or time.monotonic() - began > ORPHAN_SECONDS * (2.0 if is_running(summary) else 1.25):
            return summary
        time.sleep(0.2)


def _numbered(name: str) -> Iterator[str]:
    """Yields name, name-2, name-3, ..."""
    yield name
    yield from (f"{name}-{number}" for number in itertools.count(2))
