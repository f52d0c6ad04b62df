"""train.py with a stopwatch: the seconds that a run takes, by part, for `python -m studies.benchmarks.sweep parts`.

A second belongs to one part only, the innermost one that is running. What no part covers is "the rest".
"""

import contextlib
import functools
import gc
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from lightning import Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loops.evaluation_loop import _EvaluationLoop
from lightning.pytorch.loops.fit_loop import _FitLoop
from lightning.pytorch.trainer.connectors.checkpoint_connector import _CheckpointConnector

import train
from datamodules import ImageDataModule
from genlab import latents
from genlab.callbacks import RunRecord
from genlab.cli import prepare
from genlab.cli.lightning_cli import GenlabCLI
from genlab.cli.options import MEASURES, PICTURES
from genlab.cli.run_setup import RunSetup
from genlab.runs.checkpoint_io import AtomicCheckpointIO
from genlab.runs.history import MetricsCSV
from genlab.runs.wandb_run import RunLogger

RESULT = "RUN_PARTS_FILE"
"""Environment variable with the file to which each run appends a line of JSON: its seconds by part."""
REST = "the rest"
METHODS: dict[str, list[tuple[type, str]]] = {
    "arguments and config": [
        *((GenlabCLI, name) for name in ("setup_parser", "parse_arguments", "before_instantiate_classes")),
        *((GenlabCLI, name) for name in ("_dump_config", "_recorded_config", "_config_yaml")),
    ],
    "data": [(ImageDataModule, "prepare_data"), (ImageDataModule, "setup")],
    "model, data module, callbacks": [(GenlabCLI, "_build")],
    "trainer": [(GenlabCLI, "instantiate_trainer"), (Trainer, "_run")],
    "record and files": [
        *((RunSetup, name) for name in ("_choose_folder", "_start_record", "begin", "close")),
        *((RunRecord, name) for name in ("on_train_start", "_write", "on_train_end", "state_dict")),
        *((MetricsCSV, name) for name in ("log_metrics", "resume")),
    ],
    "training": [(_FitLoop, "advance")],
    "checkpoints": [
        *((AtomicCheckpointIO, name) for name in ("save_checkpoint", "load_checkpoint")),
        *((_CheckpointConnector, name) for name in ("dump_checkpoint", "_restore_modules_and_callbacks")),
    ],
    "W&B": [
        (RunLogger, name)
        for name in ("__init__", "_start", "log_metrics", "log_image", "log_video", "finalize", "close")
    ],
}
TRAINING_AND_TESTING = ("training", "validation", "test")


class Stopwatch:
    """Adds up seconds by part; a part that begins within another one interrupts it."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._running: list[str] = []
        self._since = 0.0

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        self._lap()
        self._running.append(name)
        try:
            yield
        finally:
            self._lap()
            self._running.pop()

    def _lap(self) -> None:
        now = time.perf_counter()
        if self._running:
            part = self._running[-1]
            self.seconds[part] = self.seconds.get(part, 0.0) + now - self._since
        self._since = now

    def timed(self, function: Callable[..., Any], name: str | Callable[..., str]) -> Callable[..., Any]:
        """The function as a part, whose name may follow from the arguments."""

        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with self.part(name if isinstance(name, str) else name(*args)):
                return function(*args, **kwargs)

        return wrapped


STOPWATCH = Stopwatch()


@functools.cache
def _install() -> None:
    """Puts the stopwatch into everything that is a part."""
    for part, methods in METHODS.items():
        for owner, name in methods:
            setattr(owner, name, STOPWATCH.timed(getattr(owner, name), part))
    stage = STOPWATCH.timed(_EvaluationLoop.run, lambda loop: "test" if loop.trainer.testing else "validation")
    _EvaluationLoop.run = stage  # type: ignore[method-assign]
    for part, kinds in (("pictures", PICTURES), ("measures", MEASURES)):
        for kind in kinds.values():
            for name in [name for name in dir(kind) if name.startswith("on_")]:
                if getattr(kind, name) is not getattr(Callback, name, None):
                    setattr(kind, name, STOPWATCH.timed(getattr(kind, name), part))
    _replace(latents.encode_all, "codes")
    _replace(prepare.prepare_args, "arguments and config")


def _replace(function: Callable[..., Any], part: str) -> None:
    """Times a function in every module that has imported it."""
    timed = STOPWATCH.timed(function, part)
    for module in list(sys.modules.values()):
        if getattr(module, function.__name__, None) is function:
            setattr(module, function.__name__, timed)


def main(args: list[str], report: Any = None) -> train.Result:
    """As `train.main`; appends the seconds by part to the file that the environment names."""
    _install()
    STOPWATCH.seconds.clear()
    with STOPWATCH.part(REST):
        result = train.main(args, report)
    with STOPWATCH.part("garbage collection"):
        gc.collect()  # as the worker does after each run
    with Path(os.environ[RESULT]).open("a", encoding="utf-8") as file:
        file.write(json.dumps(STOPWATCH.seconds) + "\n")
    return result
