"""The run at Weights & Biases: online where a key is configured, else offline; never a prompt, never a hang."""

import contextlib
import os
import shlex
import sys
import threading
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import wandb
import wandb.errors
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.loggers.logger import rank_zero_experiment

from genlab.runs.folder import WandbMode
from genlab.runs.wandb_access import has_key, one_line, reach_server

START_SECONDS = 30.0
FINISH_SECONDS = 60.0
TEARDOWN_SECONDS = 5.0
"""How long to wait for W&B: to start a run, to take the rest of a run, to let go of one."""


def resolve_mode(wanted: WandbMode) -> str:
    """online, offline or disabled: what was asked for, else WANDB_MODE, else online if there is a key to use."""
    if wanted != "auto":
        return wanted
    from_environment = os.environ.get("WANDB_MODE", "")
    if from_environment in ("online", "offline", "disabled"):
        return from_environment
    if from_environment == "dryrun":
        return "offline"
    try:
        return "online" if has_key() else "offline"
    except wandb.errors.Error as error:
        _say(f"W&B cannot use the configured key ({one_line(error)}); logging offline")
        return "offline"


class RunLogger(WandbLogger):
    """Lightning's W&B logger, started when training starts, falling back to offline when the server is away.

    Args:
        folder: the run folder; W&B keeps its own files in wandb/ below it.
        mode: online or offline.
        config: what is recorded as the run's config.
        monitor: the metric whose best value is the summary, and its better direction.
        init: further arguments of wandb.init.
    """

    def __init__(
        self,
        folder: Path,
        mode: str,
        config: Mapping[str, Any],
        monitor: tuple[str, str] | None = None,
        **init: Any,
    ) -> None:
        super().__init__(save_dir=folder, offline=mode == "offline", **init)
        self._mode = mode
        self._config = dict(config)
        self._monitor = monitor
        self._wandb_init.pop("anonymous", None)

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        if self._experiment is None:
            if getattr(self, "_attach_id", None) is not None:
                return super().experiment  # in a process that Lightning spawned
            self._experiment = self._begin()
            self._experiment.define_metric("trainer/global_step")
            self._experiment.define_metric("*", step_metric="trainer/global_step", step_sync=True)
            if self._monitor is not None:
                self._experiment.define_metric(
                    self._monitor[0], summary=self._monitor[1], step_metric="trainer/global_step", step_sync=True
                )
        return self._experiment

    @property
    def run_id(self) -> str | None:
        return self._experiment.id if self._experiment is not None else self._wandb_init.get("id")

    def tag(self, tag: str) -> None:
        """Adds a tag to the run at W&B."""
        run = self.experiment
        if tag not in run.tags:
            run.tags += (tag,)

    def close(
        self, exit_code: int, summary: Mapping[str, float] | None = None, error: BaseException | None = None
    ) -> None:
        """Ends the W&B run; what could not be sent stays on disk for `wandb sync`. Never raises.

        Args:
            exit_code: 0 for success.
            summary: the numbers that the run stands for.
            error: what ended it; its traceback goes into W&B's log of the run.
        """
        run, self._experiment = self._experiment, None
        if run is None:
            return
        try:
            for key, value in (summary or {}).items():
                run.summary[key] = value
            if error is not None:
                run.write_logs("".join(traceback.format_exception(error)))
            run.finish(exit_code=exit_code)
        except Exception as problem:
            _say(f"W&B has not received all of this run ({one_line(problem)}); `{_sync_command(run)}` sends the rest")

    def _begin(self) -> Any:
        Path(str(self.save_dir)).mkdir(parents=True, exist_ok=True)
        if self._mode != "online":
            return self._init("offline")
        try:
            if not has_key():
                raise wandb.errors.UsageError("no API key, `wandb login` saves one")
            reach_server()
            return self._init("online")
        except Exception as error:
            reason = one_line(error)
        run = self._init("offline")
        _say(f"W&B cannot be used ({reason}); logging offline, `{_sync_command(run)}` sends the run later")
        return run

    def _init(self, mode: Literal["online", "offline"]) -> Any:
        settings = wandb.Settings(
            init_timeout=START_SECONDS,
            finish_timeout=FINISH_SECONDS,
            finish_timeout_raises=True,
            silent=mode == "offline",
        )
        try:
            return wandb.init(**self._wandb_init, mode=mode, config=self._config, settings=settings)
        except Exception:
            _tear_down()
            raise


def _tear_down() -> None:
    """Makes W&B forget a run that it failed to start: its id would stay taken in this process.

    In a thread, because wandb waits forever when the request that it gave up last is still being answered.
    """

    def tear_down() -> None:
        with contextlib.suppress(Exception):
            wandb.teardown()

    thread = threading.Thread(target=tear_down, daemon=True)
    thread.start()
    thread.join(TEARDOWN_SECONDS)


def _sync_command(run: Any) -> str:
    """What to type to send a run from its files; without the flag, `wandb sync` skips a run that was begun online."""
    online = [] if run.offline else ["--include-online"]
    return shlex.join(["wandb", "sync", *online, str(Path(run.dir).parent)])


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
