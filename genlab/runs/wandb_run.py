"""Logging to Weights & Biases: online if an API key is configured, else offline. It never prompts and never hangs.

The package wandb is imported where it is needed, as that takes a run without it a third of a second.
"""

import contextlib
import os
import shlex
import sys
import threading
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.loggers.logger import rank_zero_experiment

from genlab.runs.errors import error_message
from genlab.runs.folder import WandbMode
from genlab.runs.wandb_access import check_server, has_key
from genlab.runs.wandb_checkpoints import PREFIX, log_checkpoint, upload_command
from genlab.runs.wandb_variables import MODES, SET_BY_AGENT, checked_settings, use_writable_cache, variable

START_SECONDS = 30.0
FINISH_SECONDS = 60.0
TEARDOWN_SECONDS = 5.0
"""How long to wait for W&B to start a run, to receive the rest of a run, and to shut down after a failed start."""


def resolve_mode(wanted: WandbMode) -> str:
    """Returns online, offline or disabled: what is wanted, else WANDB_MODE, else online if an API key is configured."""
    if wanted != "auto":
        return MODES[wanted]  # a user's own logger may have others than the option
    if (from_environment := variable("WANDB_MODE")) is not None:
        return MODES[from_environment]
    import wandb.errors

    try:
        return "online" if has_key() else "offline"
    except wandb.errors.Error as error:
        _print_error(f"W&B cannot use the configured key ({error_message(error)}); logging offline")
        return "offline"


def own_arguments(own: WandbLogger) -> dict[str, Any]:
    """Returns what a user's own logger gives of the arguments of wandb.init, without Lightning's defaults.

    Raises:
        UsageError: W&B refuses its settings, or they hold a key.
    """
    defaults, given = WandbLogger()._wandb_init, own._wandb_init
    if isinstance(settings := given.get("settings"), Mapping):
        given = {**given, "settings": checked_settings(settings)}
    mode = {"mode": "offline"} if own._offline else {}
    return mode | {key: value for key, value in given.items() if value is not None and value != defaults.get(key)}


class RunLogger(WandbLogger):
    """Lightning's W&B logger, which starts when training starts and logs offline if the server cannot be reached.

    Args:
        folder: W&B keeps its own files in wandb/ below it.
        mode: online or offline.
        config: The recorded config of the run.
        monitor: The metric whose best value goes into the summary, and its better direction, min or max.
        used: References to the artifacts that the run begins from.
        own: A user's own logger, which logs metrics and checkpoints to this logger's run in its own way.
        init: Further arguments of wandb.init.
    """

    def __init__(
        self,
        folder: Path,
        mode: str,
        config: Mapping[str, Any],
        monitor: tuple[str, str] | None = None,
        used: Sequence[str] = (),
        own: WandbLogger | None = None,
        **init: Any,
    ) -> None:
        super().__init__(save_dir=folder, offline=mode == "offline", **init)
        self._mode = mode
        self._config = {**config, **(self._wandb_init.pop("config", None) or {})}
        self._monitor = monitor
        self._used = used
        self._own = own
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
            self._record_used(self._experiment)
            if self._own is not None:
                self._own._experiment = self._experiment
            if self._wandb_init.get("save_code"):
                _log_code(self._experiment)
        return self._experiment

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        if self._own is None:
            super().log_metrics(metrics, step)
        else:
            self._own.log_metrics(metrics, step)

    def after_save_checkpoint(self, checkpoint_callback: ModelCheckpoint) -> None:
        if self._own is not None:
            self._own.after_save_checkpoint(checkpoint_callback)

    def finalize(self, status: str) -> None:
        if self._own is not None:
            self._own.finalize(status)

    @property
    def run_id(self) -> str | None:
        return self._experiment.id if self._experiment is not None else self._wandb_init.get("id")

    def tag(self, tag: str) -> None:
        """Adds a tag to the W&B run."""
        run = self.experiment
        if tag not in run.tags:
            run.tags += (tag,)

    def alert(self, title: str, text: str) -> None:
        """Sends a warning to those who watch the W&B run. Never raises."""
        try:
            self.experiment.alert(title, text, level="WARN")
        except Exception as error:
            _print_error(f"W&B was not alerted ({error_message(error)})")

    def log_images_table(self, name: str, columns: Mapping[str, Sequence[Any]], step: int) -> None:
        """Logs a table whose column `image` has pictures of uint8 pixels.

        Args:
            name: Name of the table.
            columns: The cells of each column.
            step: Number of training batches so far.
        """
        import wandb

        images = [wandb.Image(image) for image in columns["image"]]
        rows = zip(*{**columns, "image": images}.values(), strict=True)
        self.log_table(name, columns=list(columns), data=[list(row) for row in rows], step=step)

    def log_checkpoint(self, file: Path, name: str, aliases: Sequence[str], metadata: Mapping[str, Any]) -> None:
        """Logs a checkpoint as a version of an artifact, and prints how to name it. Never raises.

        Args:
            file: The checkpoint, which stays where it is.
            name: Name of the artifact.
            aliases: Aliases of the version besides `latest`.
            metadata: What W&B shows beside it.
        """
        if self._experiment is None:
            return
        try:
            reference = log_checkpoint(self._experiment, file, name, aliases, metadata)
            if reference is not None:
                print(f"{file.name} is {reference}", flush=True)
        except Exception as error:
            reason, command = error_message(error), upload_command(self._experiment, file, name, aliases)
            _print_error(f"W&B has not received {file} ({reason}); `{command}` sends it")

    def _record_used(self, run: Any) -> None:
        """Records the artifacts that the run begins from; W&B cannot do so offline."""
        try:
            for reference in () if run.offline else self._used:
                run.use_artifact(reference.removeprefix(PREFIX))
        except Exception as error:
            _print_error(f"W&B does not show which artifacts the run begins from ({error_message(error)})")

    def close(
        self, exit_code: int, summary: Mapping[str, Any] | None = None, error: BaseException | None = None
    ) -> None:
        """Ends the W&B run. Data that could not be sent stays on disk for `wandb sync`. Never raises.

        Args:
            exit_code: 0 for success.
            summary: Metrics and recorded numbers that are written into the summary of the run.
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
        if theirs := init.pop("settings", None):
            settings.update_from_settings(theirs)
        if variable("WANDB_SWEEP_ID"):
            for name in SET_BY_AGENT:  # W&B would warn that it ignores ours
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


def _log_code(run: Any) -> None:
    """Logs the Python files that this process has imported from the current folder, installed packages aside."""
    here = os.path.realpath(".")
    files = {os.path.realpath(getattr(module, "__file__", None) or here) for module in list(sys.modules.values())}
    ours = {file for file in files if file.startswith(here + os.sep) and "site-packages" not in file}
    try:
        if ours:
            run.log_code(here, include_fn=lambda path: path in ours)
    except Exception as error:
        _print_error(f"W&B has not saved the code of this run ({error_message(error)})")


def _sync_command(run: Any) -> str:
    """Returns the command that sends a run from its files. Without the flag, `wandb sync` skips runs started online."""
    online = [] if run.offline else ["--include-online"]
    return shlex.join(["wandb", "sync", *online, str(Path(run.dir).parent)])


def _print_error(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
