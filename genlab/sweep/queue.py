"""A sweep's queue of runs, which any number of processes on any number of machines work through.

Each point of the sweep is a trial of an Optuna study, made when somebody asks for work. A trial waits, then runs, then
is complete or has failed. When whoever runs it dies, it fails and a copy of it waits. All changes are made under the
storage's lock, and in an order that leaves nothing lost or doubled wherever a process is killed.
"""

import contextlib
import math
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.storages import get_storage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from genlab.runs.errors import UsageError
from genlab.runs.folder import is_alive
from genlab.sweep.definition import Definition, Hyperband, Point, differences
from genlab.sweep.hyperband import stops
from genlab.sweep.search import Search
from genlab.sweep.storage import Storage

SECONDS_BETWEEN_CHECKS = 5.0
"""How often to look for runs whose owner has died."""


@dataclass(frozen=True)
class Ticket:
    """A run in hand: the number of its point in the sweep, its values, and the name of its folder."""

    trial: int
    number: int
    point: Point
    run: str


@dataclass(frozen=True)
class Standing:
    """How far a sweep is; `total` is None where nothing bounds it."""

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
        definition: of the sweep.
        storage: where the queue is.
        name_of: the run folder's name for a point.
        say: tells the user of trouble with the storage.
        stop: ends the waiting for a storage that does not answer.
        tries: a run whose process died so often has failed.

    Raises:
        UsageError: the storage holds another sweep of this name.
    """

    def __init__(
        self,
        definition: Definition,
        storage: Storage,
        name_of: Callable[[Point], str],
        say: Callable[[str], None] = print,
        stop: threading.Event | None = None,
        tries: int = 3,
    ) -> None:
        self.definition = definition
        self.storage = storage
        self._name_of, self._say, self._stop = name_of, say, stop or threading.Event()
        self.total, self._tries = _total(definition), tries
        self._optuna = get_storage(storage.optuna)
        self._owner = f"{_machine()}:{os.getpid()}"
        self._in_hand: dict[int, Ticket] = {}
        self._checked = 0.0
        with storage.locked():
            self._study = self._open()
        self._search = Search(definition, optuna.load_study(study_name=definition.name, storage=self._optuna))

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
        if before is None:  # killed between the two lines above
            self._optuna.set_study_user_attr(study, "definition", record)
        elif changes := differences(before, record):
            raise UsageError(
                f"the sweep {self.definition.name} was begun with another definition:\n"
                + "".join(f"  {change}\n" for change in changes)
                + f"give the changed one another name, or begin anew (finished runs are kept): {self._remove()}"
            )
        return study

    def _remove(self) -> str:
        """What to type to begin the queue anew."""
        if self.storage.kind == "sqlite":
            return f"rm {self.storage.url.database}"
        return (
            f"optuna delete-study --study-name {self.definition.name} --storage {self.storage.url.render_as_string()}"
        )

    def claim(self) -> Ticket | None:
        """The next run to do; None when there is none now. Waits for the storage if need be."""
        ticket = self._under_lock(self._claim)
        if ticket is not None:
            self._in_hand[ticket.trial] = ticket
        return ticket

    def _claim(self) -> Ticket | None:
        self._give_back_abandoned()
        trials = self._trials()
        trial = next((t for t in trials if t.state == TrialState.WAITING), None)
        if trial is None:
            trial = self._next_point(trials)
        if trial is None:
            return None
        attributes = trial.user_attrs
        if "point" not in attributes:
            attributes = self._choose_point(trial)
        self.storage.optuna.record_heartbeat(trial._trial_id)  # before it runs: no run is ever without one
        run = attributes.get("run") or self._free_name(attributes["point"], trials)
        for name, value in (("owner", self._owner), ("run", run)):
            if attributes.get(name) != value:
                self._optuna.set_trial_user_attr(trial._trial_id, name, value)
        self._optuna.set_trial_state_values(trial._trial_id, TrialState.RUNNING)
        return Ticket(trial._trial_id, attributes["number"], attributes["point"], run)

    def _next_point(self, trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
        """A new trial that waits, for the first point that has none."""
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
        """The point of a trial by what the earlier ones have found."""
        chosen = self._search.suggest(trial)
        for name, value in chosen.params.items():
            distribution = chosen.distributions[name]
            self._optuna.set_trial_param(trial._trial_id, name, distribution.to_internal_repr(value), distribution)
        self._optuna.set_trial_user_attr(trial._trial_id, "point", chosen.point)
        return {**trial.user_attrs, "point": chosen.point}

    def _free_name(self, point: Point, trials: Sequence[FrozenTrial]) -> str:
        """The run's name, numbered where another point of the same values has it."""
        name = self._name_of(point)
        taken = {t.user_attrs.get("run") for t in trials}
        numbered = (name if count == 1 else f"{name}-{count}" for count in range(1, len(taken) + 2))
        return next(free for free in numbered if free not in taken)

    def _reached_target(self, trials: Sequence[FrozenTrial]) -> bool:
        target = self.definition.target
        values = [t.value for t in trials if t.state == TrialState.COMPLETE and t.value is not None]
        if target is None or not values:
            return False
        return max(values) >= target if self.definition.goal == "maximize" else min(values) <= target

    def finish(self, ticket: Ticket, value: float | None, error: str | None = None, **facts: Any) -> bool:
        """Ends a run; False where it had been given to another, because this process was silent for too long.

        Args:
            value: of the sweep's metric; None or NaN for a run that measured none.
            error: why the run failed; None for one that finished.
            facts: more to remember of it.
        """
        self._in_hand.pop(ticket.trial, None)
        return self._under_lock(lambda: self._finish(ticket.trial, value, error, facts))

    def _finish(self, trial: int, value: float | None, error: str | None, facts: Mapping[str, Any]) -> bool:
        if self._optuna.get_trial(trial).state != TrialState.RUNNING:
            return False
        result = {"outcome": "finished" if error is None else "failed", "error": error, **facts}
        self._optuna.set_trial_user_attr(trial, "result", result)
        if error is not None or value is None or math.isnan(value):  # Optuna's complete trials have a value
            self._optuna.set_trial_state_values(trial, TrialState.FAIL)
        else:
            self._optuna.set_trial_state_values(trial, TrialState.COMPLETE, [value])
        return True

    def give_back(self, ticket: Ticket, died: str | None = None) -> bool:
        """Returns a run to the queue, because it was stopped or, for the reason given, its process died.

        Returns:
            False where it died too often, and so has failed.
        """
        self._in_hand.pop(ticket.trial, None)
        return self._under_lock(lambda: self._give_back(self._optuna.get_trial(ticket.trial), died))

    def _give_back(self, trial: FrozenTrial, died: str | None) -> bool:
        if trial.state != TrialState.RUNNING:
            return True
        deaths = trial.user_attrs.get("deaths", 0) + (died is not None)
        if deaths >= self._tries:
            self._finish(trial._trial_id, None, f"{died}, {deaths} times", {})
            return False
        history = [*trial.system_attrs.get("retry_history", []), trial.number]
        if not any(t.system_attrs.get("retry_history") == history for t in self._trials()):
            attributes = {k: v for k, v in trial.user_attrs.items() if k not in ("owner", "result")}
            copy = _waiting(attributes | {"deaths": deaths}, trial.params, trial.distributions)
            copy.system_attrs = {"failed_trial": history[0], "retry_history": history}  # Optuna's own names
            copy.intermediate_values = trial.intermediate_values
            self._optuna.create_new_trial(self._study, template_trial=copy)
        self._optuna.set_trial_user_attr(trial._trial_id, "result", {"outcome": "given back", "error": died})
        self._optuna.set_trial_state_values(trial._trial_id, TrialState.FAIL)
        return True

    def retry_failed(self) -> int:
        """Puts the points whose runs have failed back into the queue; how many."""
        return self._under_lock(self._retry_failed)

    def _retry_failed(self) -> int:
        failed = [t for t in self._latest() if _outcome(t) == "failed"]
        for trial in failed:
            attributes = {k: v for k, v in trial.user_attrs.items() if k not in ("owner", "result", "deaths")}
            self._optuna.create_new_trial(
                self._study, template_trial=_waiting(attributes, trial.params, trial.distributions)
            )
        return len(failed)

    def beat(self) -> list[Ticket]:
        """Says that this process is alive; returns the runs that it has lost, because it was silent for too long."""
        lost = []
        for ticket in list(self._in_hand.values()):
            if self._optuna.get_trial(ticket.trial).state == TrialState.RUNNING:
                self.storage.optuna.record_heartbeat(ticket.trial)
            elif self._in_hand.pop(ticket.trial, None) is not None:
                lost.append(ticket)
        return lost

    @property
    def seconds_between_beats(self) -> float:
        return float(self.storage.optuna.heartbeat_interval or 1)

    def _give_back_abandoned(self) -> None:
        """Returns the runs of dead owners to the queue: of silent ones anywhere, of vanished processes on this host."""
        if time.monotonic() - self._checked < SECONDS_BETWEEN_CHECKS:
            return
        self._checked = time.monotonic()
        silent = set(self.storage.optuna._get_stale_trial_ids(self._study))
        for trial in self._trials():
            if trial.state != TrialState.RUNNING or trial._trial_id in self._in_hand:
                continue
            if trial._trial_id in silent or _vanished(trial.user_attrs.get("owner", "")):
                self._give_back(trial, "the process that gave it out died")

    def report(self, ticket: Ticket, epoch: int, value: float) -> bool:
        """Notes the metric after an epoch; returns whether the run should end early."""
        hyperband = self.definition.early_terminate
        if hyperband is None:
            return False
        return self._insist(lambda: self._compare(hyperband, ticket, epoch, value))

    def _compare(self, hyperband: Hyperband, ticket: Ticket, epoch: int, value: float) -> bool:
        try:
            self._optuna.set_trial_intermediate_value(ticket.trial, epoch, value)
        except optuna.exceptions.UpdateFinishedTrialError:
            return True  # it is another's now
        histories = {t._trial_id: _history(t) for t in self._latest()}
        histories[ticket.trial] = _history(self._optuna.get_trial(ticket.trial))
        return stops(hyperband, self.definition.goal, histories.pop(ticket.trial), list(histories.values()))

    def standing(self) -> Standing:
        latest = self._insist(self._latest)
        states = [_outcome(t) for t in latest]
        values = [(t.value, t.user_attrs["run"]) for t in latest if t.value is not None]
        best = (max if self.definition.goal == "maximize" else min)(values, default=(None, None))
        counts = {state: states.count(state) for state in ("finished", "failed", "running", "waiting")}
        return Standing(**counts, total=self.total, best=best[0], best_run=best[1])

    def _latest(self) -> list[FrozenTrial]:
        """The last trial of each point."""
        return list({t.user_attrs["number"]: t for t in self._trials()}.values())

    def _trials(self) -> list[FrozenTrial]:
        return self._optuna.get_all_trials(self._study, deepcopy=False)

    def _under_lock(self, action: Callable[[], Any]) -> Any:
        def locked() -> Any:
            with self.storage.locked():
                return action()

        return self._insist(locked)

    def _insist(self, action: Callable[[], Any]) -> Any:
        return self.storage.insist(action, self._say, self._stop)


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


def _outcome(trial: FrozenTrial) -> str:
    """finished, failed, running or waiting; a trial that was given back and has no copy yet waits."""
    if trial.state == TrialState.RUNNING:
        return "running"
    outcome = trial.user_attrs.get("result", {}).get("outcome")
    return outcome if trial.state.is_finished() and outcome in ("finished", "failed") else "waiting"


def _history(trial: FrozenTrial) -> list[float]:
    """The metric's finite values, by epoch."""
    values = [trial.intermediate_values[epoch] for epoch in sorted(trial.intermediate_values)]
    return [value for value in values if math.isfinite(value)]


def _total(definition: Definition) -> int | None:
    """How many points a sweep has; None for an unbounded search."""
    cap = definition.run_cap
    if definition.method != "grid":
        return cap
    return len(definition) if cap is None else min(cap, len(definition))


def _machine() -> str:
    """Where a process number means the same process: this host since its start, this container."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return "/".join(parts)


def _vanished(owner: str) -> bool:
    """Whether a process of this machine, named as machine:number, is no more."""
    machine, _, number = owner.rpartition(":")
    here = machine == _machine() and number.isdigit() and int(number) != os.getpid()
    return here and not is_alive(int(number))
