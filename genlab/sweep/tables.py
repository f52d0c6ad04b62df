"""Optuna's tables, with a copy of the trials in memory."""

import contextlib
import copy
import json
import threading
from collections import defaultdict
from collections.abc import Collection, Container, Iterator, Sequence
from datetime import datetime
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState


class Tables(RDBStorage):
    """Optuna's tables. A trial is read again only if another process may have changed it.

    A trial that has ended is not read again, nor one that this process has started: another process changes it only if
    this one is silent for too long, and `keep_own` then says so. Changes by this process are made in the copy, too.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        self._lock = threading.RLock()  # also keeps the number of connections small where there are many threads
        self._trials: dict[int, dict[int, FrozenTrial]] = defaultdict(dict)
        self._study_of: dict[int, int] = {}
        self._last: dict[int, int] = defaultdict(lambda: -1)
        self._started: set[int] = set()
        self._current: set[int] = set()
        super().__init__(*args, **options)

    def keep_own(self, running: Collection[int]) -> None:
        """Takes these for the running trials of this process; all others are read again."""
        with self._lock:
            self._started = set(running)
            ended = {trial for trial in self._current if self._trials[self._study_of[trial]][trial].state.is_finished()}
            self._current &= ended | self._started

    def get_trial(self, trial_id: int) -> FrozenTrial:
        with self._lock:
            if trial_id in self._current:
                return self._trials[self._study_of[trial_id]][trial_id]
            return super().get_trial(trial_id)

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        with self._lock:
            trials = self._trials[study_id]
            for trial in self._get_trials(study_id, None, trials.keys() - self._current, self._last[study_id]):
                self._store(study_id, trial)
                self._last[study_id] = max(self._last[study_id], trial._trial_id)
            found = [trial for trial in trials.values() if states is None or trial.state in states]
        return copy.deepcopy(found) if deepcopy else found

    def _store(self, study: int, trial: FrozenTrial) -> None:
        self._trials[study][trial._trial_id] = trial
        self._study_of[trial._trial_id] = study
        if trial.state.is_finished() or (trial.state == TrialState.RUNNING and trial._trial_id in self._started):
            self._current.add(trial._trial_id)

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        with self._lock:
            trial = self._create_new_trial(study_id, template_trial)
            if trial.number == len(self._trials[study_id]):  # all earlier ones are known
                trial.user_attrs = json.loads(json.dumps(trial.user_attrs))
                self._last[study_id] = trial._trial_id
                self._store(study_id, trial)
            else:
                self.get_all_trials(study_id, deepcopy=False)
        return trial._trial_id

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        with self._changing(trial_id) as trial:
            super().set_trial_user_attr(trial_id, key, value)
            trial.user_attrs = {**trial.user_attrs, key: json.loads(json.dumps(value))}

    def set_trial_param(
        self, trial_id: int, param_name: str, param_value_internal: float, distribution: BaseDistribution
    ) -> None:
        with self._changing(trial_id) as trial:
            super().set_trial_param(trial_id, param_name, param_value_internal, distribution)
            trial.params = {**trial.params, param_name: distribution.to_external_repr(param_value_internal)}
            trial.distributions = {**trial.distributions, param_name: distribution}

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        with self._changing(trial_id) as trial:
            super().set_trial_intermediate_value(trial_id, step, intermediate_value)
            trial.intermediate_values = {**trial.intermediate_values, step: intermediate_value}

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        with self._changing(trial_id) as trial:
            done = super().set_trial_state_values(trial_id, state, values)
            if done:
                trial.state, now = state, datetime.now()
                if state == TrialState.RUNNING:
                    trial.datetime_start = now
                    self._started.add(trial_id)
                else:
                    trial.datetime_complete, trial.values = now, values
        return done

    @contextlib.contextmanager
    def _changing(self, trial_id: int) -> Iterator[FrozenTrial]:
        """Yields a copy of a trial, which replaces the trial; if an error occurs, the trial is read again."""
        with self._lock:
            study = self._study_of[trial_id]
            trial = copy.copy(self._trials[study][trial_id])
            try:
                yield trial
            except BaseException:
                self._current.discard(trial_id)
                raise
            self._store(study, trial)
