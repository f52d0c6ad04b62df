"""Logging to Weights & Biases: online if an API key is configured, else offline. It never prompts and never hangs.

The package wandb is imported where it is needed, as that takes a run without it a third of a second.
"""

import contextlib
import shlex
import sys
import threading
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.loggers.logger import rank_zero_experiment

from genlab.runs.errors import error_message
from genlab.runs.folder import WandbMode
from genlab.runs.history import with_epoch_from_one
from genlab.runs.wandb_access import check_server, has_key
from genlab.runs.wandb_variables import MODES, use_writable_cache, variable

START_SECONDS = 30.0
FINISH_SECONDS = 60.0
TEARDOWN_SECONDS = 5.0
"""How long to wait for W&B to start a run, to receive the rest of a run, and to shut down after a failed start."""


def resolve_mode(wanted: WandbMode) -> str:
    """Returns online, offline or disabled: what is wanted, else WANDB_MODE, else online if an API key is configured."""
    if wanted != "auto":
        return wanted
    if (from_environment := variable("WANDB_MODE")) is not None:
        return MODES[from_environment]
    import wandb.errors

    try:
        return "online" if has_key() else "offline"
    except wandb.errors.Error as error:
        _print_error(f"W&B cannot use the configured key ({error_message(error)}); logging offline")
        return "offline"


class RunLogger(WandbLogger):
    """Lightning's W&B logger, which starts when training starts and logs offline if the server cannot be reached.

    Args:
        folder: W&B keeps its own files in wandb/ below it.
        mode: online or offline.
        config: The recorded config of the run.
        monitor: The metric whose best value goes into the summary, and its better direction, min or max.
        init: Further arguments of wandb.init.
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
                return super().experiment  # this process was spawned by Lightning
            self._experiment = self._start()
            self._experiment.define_metric("trainer/global_step")
            self._experiment.define_metric("*", step_metric="trainer/global_step", step_sync=True)
            if self._monitor is not None:
                self._experiment.define_metric(
                    self._monitor[0], summary=self._monitor[1], step_metric="trainer/global_step", step_sync=True
                )
        return self._experiment

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        super().log_metrics(with_epoch_from_one(metrics), step)

    @property
    def run_id(self) -> str | None:
        return self._experiment.id if self._experiment is not None else self._wandb_init.get("id")

    def tag(self, tag: str) -> None:
        """Adds a tag to the W&B run."""
        run = self.experiment
        if tag not in run.tags:
            run.tags += (tag,)

    def close(
        self, exit_code: int, summary: Mapping[str, float] | None = None, error: BaseException | None = None
    ) -> None:
        """Ends the W&B run. Data that could not be sent stays on disk for `wandb sync`. Never raises.

        Args:
            exit_code: 0 for success.
            summary: Metrics that are written into the summary of the run.
            error: The error that ended the run. Its traceback goes into W&B's log of the run.
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
            reason = error_message(problem)
            _print_error(f"W&B has not received all of this run ({reason}); `{_sync_command(run)}` sends the rest")

    def _start(self) -> Any:
        Path(str(self.save_dir)).mkdir(parents=True, exist_ok=True)
        if self._mode != "online":
            return self._init("offline")
        import wandb.errors

        try:
            if not has_key():
                raise wandb.errors.UsageError("no API key, `wandb login` saves one")
            check_server()
            return self._init("online")
        except Exception as error:
            reason = error_message(error)
        run = self._init("offline")
        _print_error(f"W&B cannot be used ({reason}); logging offline, `{_sync_command(run)}` sends the run later")
        return run

    def _init(self, mode: Literal["online", "offline"]) -> Any:
        import wandb

        use_writable_cache()
        ours: dict[str, Any] = {
            "init_timeout": START_SECONDS,
            "finish_timeout": FINISH_SECONDS,
            "finish_timeout_raises": True,
            **({"silent": True} if mode == "offline" else {}),
        }
        settings = wandb.Settings(**{k: value for k, value in ours.items() if variable(f"WANDB_{k.upper()}") is None})
        init = {**self._wandb_init}
        if variable("WANDB_SWEEP_ID"):
            for name in ("project", "entity", "id"):  # given by the agent; W&B would warn that it ignores ours
                init.pop(name, None)
        try:
            return wandb.init(**init, mode=mode, config=self._config, settings=settings)
        except Exception:
            _tear_down()
            raise


def _tear_down() -> None:
    """Shuts W&B down after a run that it failed to start, whose id would otherwise stay in use in this process.

    This happens in a thread, because wandb.teardown() can wait forever for a request that timed out.
    """

    import wandb

    def tear_down() -> None:
        with contextlib.suppress(Exception):
            wandb.teardown()

    thread = threading.Thread(target=tear_down, daemon=True)
    thread.start()
    thread.join(TEARDOWN_SECONDS)


def _sync_command(run: Any) -> str:
    """Returns the command that sends a run from its files. Without the flag, `wandb sync` skips runs started online."""
    online = [] if run.offline else ["--include-online"]
    return shlex.join(["wandb", "sync", *online, str(Path(run.dir).parent)])


def _print_error(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
