"""What a command needs to run: its folder, its record, its loggers, its callbacks, and the trainer."""

import contextlib
import secrets
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from lightning import Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

from datamodules import ImageDataModule
from genlab import callbacks
from genlab.callbacks.progress_bar import progress_bar
from genlab.cli.options import MEASURES, PICTURES
from genlab.evaluation.sample_scores import selected_by_frechet
from genlab.processes import first_process
from genlab.runs.checkpoint_io import AtomicCheckpointIO
from genlab.runs.config import option
from genlab.runs.errors import UsageError
from genlab.runs.folder import RunOptions, claim, is_numbered, move_aside, run_of_checkpoint
from genlab.runs.history import MetricsCSV
from genlab.runs.no_profiler import NoProfiler
from genlab.runs.progress import TrainingProgress
from genlab.runs.wandb_run import RunLogger, resolve_mode
from lit_models.common.checkpoints import read_checkpoint
from lit_models.common.module import GenerativeModule

DEFAULT_EPOCHS = 10

Report = Callable[[TrainingProgress], bool]
MakeTrainer = Callable[[dict[str, Any], list[Callback]], Trainer]
"""Makes a trainer from its arguments and the callbacks that are added to the user's own."""


class RunSetup:
    """The folder of one command, the record and the loggers that write there, and its trainer.

    Args:
        subcommand: fit, validate, test or predict.
        args: Arguments of the command line.
        options: Where the run goes and who is told of it.
        home: Folder that the options name, before a number is added to it.
        checkpoint: Checkpoint that was asked for, if any.
        settings: The instantiated config of the subcommand: trainer, callbacks.
        model: Model to train or to evaluate.
        data: Data module, set up for the subcommand.
        report: Is told of each epoch's end; training ends there when its answer is true.
    """

    def __init__(
        self,
        subcommand: str,
        args: list[str],
        options: RunOptions,
        home: Path,
        checkpoint: str | None,
        settings: Namespace,
        model: GenerativeModule,
        data: ImageDataModule,
        report: Report | None = None,
    ) -> None:
        self.subcommand = subcommand
        self.args = args
        self.options = options
        self.home = home
        self.checkpoint = checkpoint
        self.settings = settings
        self.model = model
        self.data = data
        self.folder = home
        self.record: callbacks.RunRecord | None = None
        self.best: ModelCheckpoint | None = None
        self.wandb: RunLogger | None = None
        self._callbacks: list[Callback] = [callbacks.ExactResume()]
        if report is not None:
            self._callbacks.append(callbacks.ProgressReporter(report))
        self._replaced: Path | None = None

    def trainer(self, make: MakeTrainer, recorded_config: Callable[[], dict[str, Any]], **arguments: Any) -> Trainer:
        """Claims the run folder, then builds the trainer that writes there.

        Args:
            make: Makes the trainer.
            recorded_config: Config of the run as its record keeps it, under dotted keys.
            arguments: Arguments of the trainer that win over the settings.

        Raises:
            UsageError, CheckpointError: the folder cannot be made, or the checkpoint cannot be used.
        """
        if self.settings.trainer.fast_dev_run:
            self.folder = Path(tempfile.mkdtemp(prefix="genlab-"))
            return self._build(make, logger=False, enable_checkpointing=False, **arguments)
        self.folder, new = self._choose_folder()
        try:
            logger = self._start_record(recorded_config()) if self.subcommand == "fit" else False
            trainer = self._build(make, logger=logger, **arguments)
        except BaseException:
            if new:
                self.folder.rmdir()  # still empty
            if self._replaced is not None:
                self._replaced.rename(self.home)
            raise
        if self._replaced is not None:
            shutil.rmtree(self._replaced, ignore_errors=True)
        return trainer

    def close(self, metrics: dict[str, float], error: BaseException | None = None) -> None:
        """Leaves the record and the W&B run in the state that the command ended in."""
        if error is not None and self.record is not None and first_process():
            with contextlib.suppress(OSError):  # a full disk must not hide the error itself
                self.record.fail(error)
        if self.settings.trainer.fast_dev_run:
            shutil.rmtree(self.folder, ignore_errors=True)
        if self.wandb is not None:
            self.wandb.close(0 if error is None else 1, metrics, error)

    def _choose_folder(self) -> tuple[Path, bool]:
        """The run folder, and whether it was made just now. Evaluation writes into a folder of its own in the run's."""
        fit = self.subcommand == "fit"
        home, checkpoint = self.home, self.checkpoint
        self.settings.ckpt_path = checkpoint
        if not fit and checkpoint is None:
            raise UsageError(f"{self.subcommand} needs trained weights: give --ckpt_path RUN/checkpoints/best.ckpt")
        if checkpoint is not None:
            contents = read_checkpoint(Path(checkpoint))
            if fit and "optimizer_states" not in contents:
                raise UsageError(f"{checkpoint} holds weights only; go on from the last.ckpt beside it")
            if fit and "loops" in contents:
                self._check_epochs(contents["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"])
        run = run_of_checkpoint(checkpoint) if checkpoint else None
        if not fit:
            return (run or home) / self.subcommand, False
        if run is not None and (option(self.args, "run.name") is None or is_numbered(run, home)):
            return run, False
        if not first_process():
            return home, False  # the first process claims the folder, and alone writes there
        self._replaced = move_aside(home) if self.options.overwrite else None
        return claim(home), True

    def _check_epochs(self, done: int) -> None:
        """Refuses a checkpoint of more epochs than are asked for; a run of just as many is only tested again."""
        wanted = self._max_epochs()
        if wanted is not None and -1 < wanted < done:
            raise UsageError(f"{done} epochs are done in {self.checkpoint}; give --trainer.max_epochs above {done}")

    def _max_epochs(self) -> int | None:
        """Epochs to train; None where another limit is given."""
        trainer = self.settings.trainer
        if trainer.max_epochs is None and trainer.max_time is None and trainer.max_steps == -1:
            return DEFAULT_EPOCHS  # Lightning's own default is a thousand
        return trainer.max_epochs

    def _start_record(self, config: dict[str, Any]) -> list[Any]:
        """Adds the callbacks that keep the run; returns its loggers: metrics.csv, W&B unless disabled, the user's."""
        trainer = self.settings.trainer
        self.record = callbacks.RunRecord(self.folder, config)
        self._callbacks.append(self.record)
        chosen_by = self._chosen_by()
        if trainer.enable_checkpointing is not False:
            self.settings.checkpoint.best_is_last = chosen_by is None
            if chosen_by is not None:
                self.best = callbacks.BestCheckpoint(self.folder / "checkpoints", *chosen_by)
                self._callbacks.append(self.best)
            self._callbacks.append(self.settings.checkpoint)
        loggers: list[Any] = [MetricsCSV(self.folder)]
        mode = resolve_mode(self.options.wandb) if first_process() else "disabled"
        if mode != "disabled" and trainer.logger is not False:
            self.wandb = RunLogger(
                self.folder,
                mode,
                config,
                chosen_by,
                id=self.record.summary.setdefault("wandb_id", secrets.token_hex(4)),
                name=f"{self.folder.parent.name}/{self.folder.name}",
                project=self.options.project,
                group=self.options.group or self.folder.parent.name,
                tags=self.options.tags,
            )
            loggers.append(self.wandb)
        if trainer.logger not in (None, True, False):
            loggers += trainer.logger if isinstance(trainer.logger, list) else [trainer.logger]
        return loggers

    def _chosen_by(self) -> tuple[str, str] | None:
        """The validation metric that chooses the best weights, and its better direction; None: the last are the best.

        Training on few labels chooses nothing, as the validation images' labels are not among those few.
        """
        validates = self.data.val_size > 0 and self.settings.trainer.limit_val_batches != 0
        few = self.data.labels_per_class is not None
        measured = self.settings.quality.measures or self.settings.translation.measures
        unmeasured = selected_by_frechet(self.model) and not measured
        return self.model.monitor if validates and not few and not unmeasured else None

    def _build(self, make: MakeTrainer, **arguments: Any) -> Trainer:
        """The trainer, with the user's callbacks and ours; pictures only if they are wanted."""
        trainer = self.settings.trainer
        if trainer.enable_progress_bar is not False:
            self._callbacks.append(progress_bar())
        if self.options.pictures:
            self._callbacks += [self.settings[name] for name in PICTURES]
        measures = [self.settings[name] for name in MEASURES]
        for measure in measures:
            if hasattr(measure, "pictures"):
                measure.pictures = self.options.pictures
        self._callbacks[:0] = measures  # before those that record what is logged
        if self.subcommand == "predict":
            self._callbacks.append(callbacks.PredictionWriter())
        if trainer.enable_model_summary is None:
            arguments["enable_model_summary"] = sys.stdout.isatty()
        arguments.setdefault("max_epochs", self._max_epochs())
        if trainer.profiler is None:
            arguments["profiler"] = NoProfiler()
        plugins = trainer.plugins if isinstance(trainer.plugins, list) else [trainer.plugins]
        arguments["plugins"] = [AtomicCheckpointIO(), *(plugin for plugin in plugins if plugin is not None)]
        settings = {**trainer, "default_root_dir": str(self.folder), "enable_autolog_hparams": False}
        return make({**settings, **arguments}, self._callbacks)
