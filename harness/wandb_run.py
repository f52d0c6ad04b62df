"""The run at Weights & Biases: online where a key is configured, else offline; never a prompt, never a hang."""

import contextlib
import os
import socket
import sys
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import wandb
import wandb.errors
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.loggers.logger import rank_zero_experiment

from harness.run_folder import WandbMode

START_SECONDS = 30.0
REACH_SECONDS = 5.0
FINISH_SECONDS = 60.0


def resolve_mode(wanted: WandbMode) -> str:
    """online, offline or disabled: what was asked for, else WANDB_MODE, else online if there is a key to use."""
    if wanted != "auto":
        return wanted
    from_environment = os.environ.get("WANDB_MODE", "")
    if from_environment in ("online", "offline", "disabled"):
        return from_environment
    if from_environment == "dryrun":
        return "offline"
    return "online" if _has_key() else "offline"


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

    def close(self, exit_code: int, summary: Mapping[str, float] | None = None) -> None:
        """Ends the W&B run; what could not be sent stays on disk for `wandb sync`. Never raises."""
        run, self._experiment = self._experiment, None
        if run is None:
            return
        try:
            for key, value in (summary or {}).items():
                run.summary[key] = value
            run.finish(exit_code=exit_code)
        except Exception as error:
            _say(f"W&B could not be finished ({_one_line(error)}); `wandb sync {self.save_dir}/wandb/*run-*` sends it")

    def _begin(self) -> Any:
        Path(str(self.save_dir)).mkdir(parents=True, exist_ok=True)
        if self._mode == "online":
            try:
                _reach_server()
                return self._init("online")
            except (wandb.errors.Error, OSError, TimeoutError) as error:
                _say(f"W&B is out of reach ({_one_line(error)}); logging offline, `wandb sync` sends the run later")
                with contextlib.suppress(Exception):
                    wandb.teardown()
        return self._init("offline")

    def _init(self, mode: str) -> Any:
        settings = wandb.Settings(
            init_timeout=START_SECONDS, finish_timeout=FINISH_SECONDS, login_timeout=1.0, silent=mode == "offline"
        )
        return wandb.init(**self._wandb_init, mode=mode, config=self._config, settings=settings)


def _has_key() -> bool:
    try:
        return wandb.login(prompt=False, verify=False)
    except wandb.errors.Error as error:
        _say(f"W&B cannot use the configured key ({_one_line(error)}); logging offline")
        return False


def _reach_server() -> None:
    """Raises OSError when nobody listens at the W&B address, so that a dead server costs seconds, not minutes."""
    address = urllib.parse.urlsplit(wandb.setup().settings.base_url)
    port = address.port or (443 if address.scheme == "https" else 80)
    if os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy"):
        return  # the proxy is the client's business
    with socket.create_connection((address.hostname or "", port), timeout=REACH_SECONDS):
        pass


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
