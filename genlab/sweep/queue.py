"""The queue of a sweep's runs, which any number of processes on any number of machines can share.

Each point of the sweep is a trial of an Optuna study, created when a process claims a run. A trial is first waiting,
then running, then complete or failed. When the process that runs it dies, the trial fails and a waiting copy of it is
created. All changes are made under the storage's lock, in an order that loses and repeats no run if a process is killed
at any moment.
"""

import contextlib
import math
import shlex
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import StorageInternalError
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from genlab.runs.errors import UsageError
from genlab.sweep.definition import Definition, Hyperband, Point, differences
from genlab.sweep.hyperband import should_stop
from genlab.sweep.owner import is_gone, this_process
from genlab.sweep.search import Search
from genlab.sweep.storage_base import Storage
from genlab.words import counted

SECONDS_BETWEEN_CHECKS = 5.0
"""How often to look for runs whose process has died."""


@dataclass(frozen=True)
class Job:
    """A run that a process has claimed.

    Args:
        trial: Id of the Optuna trial.
        number: Number of the point in the sweep, from 0.
        point: The parameter values.
        run: Name of the run's folder.
    """

    trial: int
    number: int
    point: Point
    run: str


@dataclass(frozen=True)
class EndedRun:
    """A run that has finished or failed, whichever process executed it."""

    job: Job
    value: float | None
    error: str | None
    early: bool
    seconds: float


@dataclass(frozen=True)
class SweepStatus:
    """The numbers of runs of a sweep in each state, and its best run. `total` is None for an unbounded sweep."""

    finished: int
    failed: int
    running: int
    waiting: int
    total: int | None
    best: float | None = None
    best_run: str | None = None


class Queue:
    """Hands out each point of a sweep once.

    Args:
        definition: The definition of the sweep.
        storage: The storage of the queue.
        run_name: Returns the name of the run folder for a point.
        notify: Called with a message when the storage does not answer.
        stop: When it is set, the queue stops waiting for a storage that does not answer.
        tries: A run has failed when its process has died this many times.

    Raises:
        UsageError: The storage contains a different sweep with the same name.
    """

    def __init__(
        self,
        definition: Definition,
        storage: Storage,
        run_name: Callable[[Point], str],
        notify: Callable[[str], None] = print,
        stop: threading.Event | None = None,
        tries: int = 3,
    ) -> None:
        self.definition = definition
        self.storage = storage
        self._run_name, self._notify, self._stop = run_name, notify, stop or threading.Event()
        self.total, self._tries = total_runs(definition), tries
        self._optuna = storage.optuna
        self._owner = this_process(storage.mark)
        self._claimed: dict[int, Job] = {}
        self._ending: set[int] = set()
        self._last_check = 0.0
        self._study = self._under_lock(self._open)
        self._search = Search(definition)

    def _open(self) -> int:
        goal = StudyDirection.MAXIMIZE if self.definition.goal == "maximize" else StudyDirection.MINIMIZE
        record = self.definition.record()
        try:
            study = self._optuna.create_new_study([goal], self.definition.name)
            self._optuna.set_study_user_attr(study, "definition", record)
            return study
        except optuna.exceptions.DuplicatedStudyError:
            study = self._optuna.get_study_id_from_name(self.definition.name)
        before = self._optuna.get_study_user_attrs(study).get("definition")
        if before is None:  # a process was killed before it could set the attribute
            self._optuna.set_study_user_attr(study, "definition", record)
        elif changes := differences(before, record):
            raise UsageError(
                f"the sweep {self.definition.name} was started with another definition:\n"
                + "".join(f"  {change}\n" for change in changes)
                + (
                    self._delete_command(study)
                    if before.get("program") == self.definition.program
                    else "give this one another name and --run.experiment"
                )
            )
        return study

    def _delete_command(self, study: int) -> str:
        """Returns how to delete the queue alone, once no process uses it."""
        address = self.storage.optuna_address
        command = shlex.join(["optuna", "delete-study", "--study-name", self.definition.name, "--storage", address])
        alone = len(self._optuna.get_all_studies()) == 1
        if self.storage.file and alone:
            command = shlex.join(["rm", str(self.storage.file)])
        elif "***" in address:
            command += " (with the password in place of ***)"
        owners = [
            t.user_attrs.get("owner", "") for t in self._optuna.get_all_trials(study, False, (TrialState.RUNNING,))
        ]
        running = any(not is_gone(owner) for owner in owners)
        first = "end the processes that still run the sweep (press Ctrl-C there twice), then " if running else ""
        return f"{first}delete the old queue (finished runs that this definition asks for are kept): {command}"

    def claim(self) -> Job | None:
        """Returns the next run to execute; None if none is waiting. Waits for a storage that does not answer."""
        job = self._under_lock(self._claim)
        if job is not None:
            self._claimed[job.trial] = job
        return job

    def _claim(self) -> Job | None:
        self._requeue_abandoned()
        trials = self._trials()
        trial = next((t for t in trials if t.state == TrialState.WAITING), None)
        if trial is None:
            trial = self._next_point(trials)
        if trial is None:
            return None
        attributes = trial.user_attrs
        if "point" not in attributes:
            attributes = self._choose_point(trial)
        self.storage.heartbeat([trial._trial_id])  # before it is running, so that each running one has one
        run = attributes.get("run") or self._free_name(attributes["point"], trials)
        for name, value in (("owner", self._owner), ("run", run)):
            if attributes.get(name) != value:
                self._optuna.set_trial_user_attr(trial._trial_id, name, value)
        self._start(trial._trial_id)
        return Job(trial._trial_id, attributes["number"], attributes["point"], run)

    def _start(self, trial: int) -> None:
        """Marks a waiting trial as running. Of two processes that do so, because a lock was broken, one succeeds."""
        with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
            if self._optuna.set_trial_state_values(trial, TrialState.RUNNING):
                return
        raise StorageInternalError("another process has claimed the same run")

    def _next_point(self, trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
        """Creates a waiting trial for the first point that has none."""
        number = 1 + max((t.user_attrs["number"] for t in trials), default=-1)
        if (self.total is not None and number >= self.total) or self._reached_target(trials):
            return None
        chosen = self._search.point(number)
        if chosen is None:
            template = _waiting({"number": number})
        else:
            attributes = {"number": number, "point": chosen.point, "owner": self._owner}
            attributes["run"] = self._free_name(chosen.point, trials)
            template = _waiting(attributes, chosen.params, chosen.distributions)
        trial = self._optuna.create_new_trial(self._study, template_trial=template)
        return self._optuna.get_trial(trial)

    def _choose_point(self, trial: FrozenTrial) -> dict[str, Any]:
        """Chooses the point of a trial from the results of earlier ones."""
        number, repeats = trial.user_attrs["number"], self.definition.repeats or 1
        first = number - number % repeats
        others = [t for t in self._latest() if t.user_attrs["number"] != number]
        known = [t for t in others if _outcome(t) != "waiting" or t.user_attrs["number"] == first]
        chosen = self._search.suggest(trial, known)
        for name, value in chosen.params.items():
            distribution = chosen.distributions[name]
            self._optuna.set_trial_param(trial._trial_id, name, distribution.to_internal_repr(value), distribution)
        self._optuna.set_trial_user_attr(trial._trial_id, "point", chosen.point)
        return {**trial.user_attrs, "point": chosen.point}

    def _free_name(self, point: Point, trials: Sequence[FrozenTrial]) -> str:
        """Returns the name of the run, with a number if another point with the same values has this name."""
        name = self._run_name(point)
        taken = {t.user_attrs.get("run") for t in trials}
        numbered = (name if count == 1 else f"{name}-{count}" for count in range(1, len(taken) + 2))
        return next(free for free in numbered if free not in taken)

    def rename(self, job: Job, name: str) -> bool:
        """Gives a claimed run the name of another folder; returns False if another point has it."""
        return self._under_lock(lambda: self._rename(job, name))

    def _rename(self, job: Job, name: str) -> bool:
        if any(t.user_attrs.get("run") == name for t in self._trials() if t.user_attrs["number"] != job.number):
            return False
        self._optuna.set_trial_user_attr(job.trial, "run", name)
        return True

    def _reached_target(self, trials: Sequence[FrozenTrial]) -> bool:
        target = self.definition.target
        values = [t.value for t in trials if t.state == TrialState.COMPLETE and t.value is not None]
        if target is None or not values:
            return False
        return max(values) >= target if self.definition.goal == "maximize" else min(values) <= target

    def finish(self, job: Job, value: float | None, error: str | None = None, **attributes: Any) -> bool:
        """Records the end of a run.

        Args:
            job: The run.
            value: Value of the sweep's metric; None for a run that did not measure it. NaN and infinity count as None.
            error: Why the run failed; None for one that finished.
            attributes: Further attributes to store.

        Returns:
            False if the run was given to another process, because this one sent no heartbeat for too long.
        """
        return self._end(job, lambda: self._finish(job.trial, value, error, attributes))

    def _finish(self, trial: int, value: float | None, error: str | None, attributes: Mapping[str, Any]) -> bool:
        result = {"outcome": "finished" if error is None else "failed", "error": error, **attributes}
        try:
            self._optuna.set_trial_user_attr(trial, "result", result)
            if error is not None or value is None or not math.isfinite(value):
                self._optuna.set_trial_state_values(trial, TrialState.FAIL)  # a complete trial of Optuna needs a value
            else:
                self._optuna.set_trial_state_values(trial, TrialState.COMPLETE, [value])
        except optuna.exceptions.UpdateFinishedTrialError:
            return False
        return True

    def requeue(self, job: Job, crash: str | None = None) -> bool:
        """Puts a run back into the queue, because it was stopped or its process died.

        Args:
            job: The run.
            crash: How its process died; None for a run that was stopped.

        Returns:
            False if its process has died too many times, so that the run has failed.
        """
        return self._end(job, lambda: self._requeue(self._optuna.get_trial(job.trial), crash))

    def _end(self, job: Job, record: Callable[[], bool]) -> bool:
        """Records how a claimed run has ended. Until then it gives signs of life, as the lock may take a while."""
        self._ending.add(job.trial)
        try:
            return self._under_lock(record)
        finally:
            self._claimed.pop(job.trial, None)
            self._ending.discard(job.trial)

    def _requeue(self, trial: FrozenTrial, crash: str | None) -> bool:
        if trial.state != TrialState.RUNNING:
            return True
        crashes = trial.user_attrs.get("crashes", 0) + (crash is not None)
        if crashes >= self._tries:
            return not self._finish(trial._trial_id, None, f"{crash}, {counted(crashes, 'time')}", {})
        history = [*trial.system_attrs.get("retry_history", []), trial.number]
        if not any(t.system_attrs.get("retry_history") == history for t in self._trials()):
            attributes = {k: v for k, v in trial.user_attrs.items() if k not in ("owner", "result")}
            copy = _waiting(attributes | {"crashes": crashes}, trial.params, trial.distributions)
            copy.system_attrs = {"failed_trial": history[0], "retry_history": history}  # the names that Optuna uses
            copy.intermediate_values = trial.intermediate_values
            self._optuna.create_new_trial(self._study, template_trial=copy)
        with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):  # another process was first
            self._optuna.set_trial_user_attr(trial._trial_id, "result", {"outcome": "requeued", "error": crash})
            self._optuna.set_trial_state_values(trial._trial_id, TrialState.FAIL)
        return True

    def retry_failed(self) -> int:
        """Puts the points whose runs have failed back into the queue; returns how many."""
        return self._under_lock(self._retry_failed)

    def _retry_failed(self) -> int:
        failed = [t for t in self._latest() if _outcome(t) == "failed"]
        for trial in failed:
            attributes = {k: v for k, v in trial.user_attrs.items() if k not in ("owner", "result", "crashes")}
            self._optuna.create_new_trial(
                self._study, template_trial=_waiting(attributes, trial.params, trial.distributions)
            )
        return len(failed)

    def heartbeat(self) -> list[Job]:
        """Records that this process is alive; returns the runs that others took over after too long without one."""
        claimed = list(self._claimed)
        self.storage.heartbeat(claimed)
        lost = [self._claimed.pop(trial, None) for trial in self.storage.taken_over(claimed) - self._ending]
        return [job for job in lost if job is not None]

    @property
    def heartbeat_seconds(self) -> float:
        return float(self.storage.heartbeat_seconds)

    def _requeue_abandoned(self) -> None:
        """Requeues the runs of processes that sent no heartbeat for too long, or that do not exist on this host."""
        if time.monotonic() - self._last_check < SECONDS_BETWEEN_CHECKS:
            return
        self._last_check = time.monotonic()
        running = [t for t in self._trials() if t.state == TrialState.RUNNING and t._trial_id not in self._claimed]
        silent = self.storage.silent(self._study, running)
        for trial in running:
            if trial._trial_id in silent or is_gone(trial.user_attrs.get("owner", "")):
                self._requeue(trial, "the process that claimed it died")

    def report(self, job: Job, step: int, value: float) -> bool:
        """Stores the metric after a step; returns whether the run should be stopped early.

        A resumed run may report a step again, which then counts once.
        """
        hyperband = self.definition.early_terminate
        if hyperband is None:
            return False
        return self._retry(lambda: self._compare(hyperband, job, step, value))

    def _compare(self, hyperband: Hyperband, job: Job, step: int, value: float) -> bool:
        try:
            with self.storage.single_change():
                self._optuna.set_trial_intermediate_value(job.trial, step, value)
        except optuna.exceptions.UpdateFinishedTrialError:
            return True  # another process has this run now
        histories = {t._trial_id: _history(t) for t in self._latest()}
        own = _history(self._optuna.get_trial(job.trial))
        histories.pop(job.trial, None)
        return should_stop(hyperband, self.definition.goal, own, list(histories.values()))

    def status(self) -> SweepStatus:
        latest = self._retry(self._latest)
        states = [_outcome(t) for t in latest]
        values = [(t.value, t.user_attrs["run"]) for t in latest if t.value is not None]
        best = (max if self.definition.goal == "maximize" else min)(values, default=(None, None))
        counts = {state: states.count(state) for state in ("finished", "failed", "running", "waiting")}
        return SweepStatus(**counts, total=self.total, best=best[0], best_run=best[1])

    def ended(self) -> list[EndedRun]:
        """Returns the last runs of all points that have finished or failed."""
        ended = [t for t in self._retry(self._latest) if _outcome(t) in ("finished", "failed")]
        return [_ended_run(t) for t in ended]

    def open_runs(self) -> float:
        """Returns how many runs have not ended; infinity for an unbounded search."""
        status = self.status()
        if self._reached_target(self._retry(self._trials)):
            return status.waiting + status.running
        return math.inf if self.total is None else self.total - status.finished - status.failed

    def _latest(self) -> list[FrozenTrial]:
        """Returns the last trial of each point."""
        return list({t.user_attrs["number"]: t for t in self._trials()}.values())

    def _trials(self) -> list[FrozenTrial]:
        return self._optuna.get_all_trials(self._study, deepcopy=False)

    def _under_lock(self, action: Callable[[], Any]) -> Any:
        def locked() -> Any:
            with self.storage.locked():
                return action()

        return self._retry(locked)

    def _retry(self, action: Callable[[], Any]) -> Any:
        return self.storage.retry(action, self._notify, self._stop)


def _waiting(
    attributes: Mapping[str, Any],
    params: Mapping[str, Any] | None = None,
    distributions: Mapping[str, BaseDistribution] | None = None,
) -> FrozenTrial:
    return optuna.create_trial(
        state=TrialState.WAITING,
        params=dict(params or {}),
        distributions=dict(distributions or {}),
        user_attrs=dict(attributes),
    )


def _ended_run(trial: FrozenTrial) -> EndedRun:
    attributes = trial.user_attrs
    result = attributes["result"]
    job = Job(trial._trial_id, attributes["number"], attributes["point"], attributes["run"])
    return EndedRun(job, trial.value, result["error"], result.get("early", False), result.get("seconds", 0.0))


def _outcome(trial: FrozenTrial) -> str:
    """Returns finished, failed, running or waiting. A requeued trial without a copy counts as waiting."""
    if trial.state == TrialState.RUNNING:
        return "running"
    outcome = trial.user_attrs.get("result", {}).get("outcome")
    return outcome if trial.state.is_finished() and outcome in ("finished", "failed") else "waiting"


def _history(trial: FrozenTrial) -> list[float]:
    """Returns the values of the metric in the order in which they were measured."""
    return [trial.intermediate_values[step] for step in sorted(trial.intermediate_values)]


def total_runs(definition: Definition) -> int | None:
    """Returns the number of points of a sweep; None for an unbounded search."""
    cap = definition.run_cap
    if definition.method != "grid":
        return cap
    return len(definition) if cap is None else min(cap, len(definition))
