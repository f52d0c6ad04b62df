"""What a command needs to run: its folder, its record, its loggers, its callbacks, and the trainer."""

import contextlib
import importlib.metadata
import secrets
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock
from jsonargparse import Namespace
from lightning import Trainer
from lightning.pytorch.callbacks import Callback, LambdaCallback, ProgressBar
from lightning.pytorch.loggers import Logger, WandbLogger

from datamodules import ImageDataModule
from genlab import callbacks
from genlab.callbacks.progress_bar import progress_bar
from genlab.cli.options import MEASURES, PICTURES
from genlab.cli.resume import ResumePoint, check_class
from genlab.evaluation.sample_scores import selected_by_frechet
from genlab.fast_loop import use_fast_loop
from genlab.processes import first_process
from genlab.runs.checkpoint_io import AtomicCheckpointIO
from genlab.runs.config import option
from genlab.runs.errors import UsageError
from genlab.runs.folder import (
    RECORDED,
    RunOptions,
    claim,
    is_numbered,
    lock_run,
    missing_parents,
    move_aside,
    remove_empty,
    run_of_checkpoint,
    unlock_run,
)
from genlab.runs.no_profiler import NoProfiler
from genlab.runs.other_loggers import loggers_in
from genlab.runs.progress import TrainingProgress
from genlab.runs.wandb_checkpoints import artifact_name, is_reference
from genlab.runs.wandb_run import RunLogger, own_arguments, resolve_mode
from genlab.runs.wandb_variables import heeded_variables, init_arguments, wandb_folder
from genlab.words import counted
from lit_models.common.capabilities import Samples
from lit_models.common.checkpoints import CheckpointError, read_checkpoint
from lit_models.common.module import GenerativeModule

DEFAULT_EPOCHS = 10

Report = Callable[[TrainingProgress], bool]
MakeTrainer = Callable[[dict[str, Any], list[Callback]], Trainer]
"""Makes a trainer from its arguments and the callbacks that are added to the user's own."""


class RunSetup:
    """The folder of one command, the record and the loggers that write there, and its trainer.

    Nothing in the folder changes before training begins, when a checkpoint has been restored and all checks are passed:
    `begin` starts the record then. A fit that ends before leaves everything as it was.

    Args:
        subcommand: fit, validate, test or predict.
        args: Arguments of the command line.
        options: Where the run goes and who is told of it.
        home: Folder that the options name, before a number is added to it.
        checkpoint: Checkpoint that was asked for, if any.
        settings: The instantiated config of the subcommand: trainer, callbacks.
        model: Model to train or to evaluate.
        data: Data module, set up for the subcommand.
        config: All options that a checkpoint records, with dotted keys.
        write_config: Writes config.yaml, and says what is trained.
        trained_on: Seed and data, as in config.yaml, which every checkpoint holds.
        resumed: Contents of the checkpoint if a fit goes on from it.
        report: Is told of each epoch's and each validation's end; training ends there when its answer is true.
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
        config: dict[str, Any],
        write_config: Callable[[], None],
        trained_on: dict[str, Any],
        resumed: ResumePoint | None = None,
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
        self.config = config
        self.write_config = write_config
        self.trained_on = trained_on
        self.folder = home
        self.record: callbacks.RunRecord | None = None
        self.best: callbacks.BestCheckpoint | None = None
        self.wandb: RunLogger | None = None
        self.begun = False
        self.resumed = resumed
        self._own_loggers: list[Logger] = []
        self._said: list[str] = []
        self._callbacks: list[Callback] = [callbacks.ExactResume(), callbacks.FusedOptimizers()]
        if report is not None:
            self._callbacks.append(callbacks.ProgressReporter(report))
        self._new: list[Path] = []
        self._replaced: Path | None = None
        self._lock: FileLock | None = None

    def trainer(self, make: MakeTrainer, recorded_config: Callable[[], dict[str, Any]], **arguments: Any) -> Trainer:
        """Claims the run folder, then builds the trainer that writes there.

        Args:
            make: Makes the trainer.
            recorded_config: Config of the run as its record keeps it, under dotted keys.
            arguments: Arguments of the trainer that win over the settings.

        Raises:
            UsageError, CheckpointError: the folder cannot be made, or the checkpoint cannot be used.
        """
        self.settings.ckpt_path = self.checkpoint
        if self.settings.trainer.fast_dev_run:
            self.folder = Path(tempfile.mkdtemp(prefix="genlab-"))
            return self._build(make, logger=False, enable_checkpointing=False, **arguments)
        self.folder = self._choose_folder()
        try:
            if self.subcommand == "fit" and first_process():
                self._lock = lock_run(self.folder)
            logger = self._start_record(recorded_config()) if self.subcommand == "fit" else False
            trainer = self._build(make, logger=logger, **arguments)
            if self.resumed is not None:
                self._check_options(self.resumed, trainer)
        except BaseException:
            self._undo()
            raise
        return trainer

    def begin(self, trainer: Trainer) -> None:
        """Starts the record: called once, when training is about to begin."""
        self.begun = True
        if self._replaced is not None:
            shutil.rmtree(self._replaced, ignore_errors=True)
        if self.record is None or not first_process():
            trainer.loggers += self._own_loggers
            return
        self.write_config()
        for said in filter(None, self._said):
            print(said, flush=True)
        self.record.update()
        if self.wandb is not None:
            trainer.loggers.append(self.wandb)
            _ = self.wandb.experiment
        self.record.resume_history()
        others = [*self._own_loggers, *loggers_in(self.folder, self.options, self.record.history.next_step())]
        trainer.loggers += others
        for logger in others:
            if self.resumed is None:  # MLflow refuses to change them
                logger.log_hyperparams(self.record.summary["config"])
            logger.log_graph(trainer.lightning_module)

    def close(self, metrics: dict[str, float], error: BaseException | None = None) -> None:
        """Leaves the record and the W&B run in the state that the command ended in."""
        if error is not None and self.subcommand == "fit" and not self.begun:
            self._undo()
        elif error is not None and self.record is not None and first_process():
            with contextlib.suppress(OSError):  # a full disk must not hide the error itself
                self.record.fail(error)
        if self.settings.trainer.fast_dev_run:
            shutil.rmtree(self.folder, ignore_errors=True)
        if self.wandb is not None:
            if error is None:
                with contextlib.suppress(OSError, CheckpointError):  # read a moment ago; the run is complete without it
                    self._log_checkpoints(self.wandb)
            recorded = {} if self.record is None else self.record.summary
            facts = {name: recorded[name] for name in RECORDED if name in recorded}
            self.wandb.close(0 if error is None else 1, {**metrics, **facts}, error)
        self._unlock()

    def _log_checkpoints(self, wandb: RunLogger) -> None:
        """Gives W&B the checkpoints that the options name; the best one last, so that it is the latest version."""
        name = artifact_name(self.folder.parent.name, self.folder.name)
        for kind in ("last", "best"):
            file = self.folder / "checkpoints" / f"{kind}.ckpt"
            if self.options.log_checkpoints in (kind, "both") and file.is_file():
                about = self._about_checkpoint(kind, file)
                aliases = ["best", f"epoch-{about['epoch']}"] if kind == "best" else ["last"]
                wandb.log_checkpoint(file, name, aliases, about)

    def _about_checkpoint(self, kind: str, file: Path) -> dict[str, Any]:
        """What W&B shows beside a checkpoint: whose it is, and why it is the best one."""
        chosen = self.best if kind == "best" and self.best is not None and self.best.score is not None else None
        return {
            "model": str(self.config["model"]).rpartition(".")[2],
            "data": str(self.config["data"]).rpartition(".")[2],
            "experiment": self.folder.parent.name,
            "run": self.folder.name,
            "epoch": read_checkpoint(file)["epoch"] + 1,
            "genlab": importlib.metadata.version("genlab"),
            **({} if chosen is None else {"metric": chosen.metric, "value": chosen.score}),
        }

    def _used_artifacts(self) -> list[str]:
        """The checkpoints on W&B that the run begins from."""
        return sorted(
            {value for value in (*self.config.values(), option(self.args, "ckpt_path")) if is_reference(value)}
        )

    def _undo(self) -> None:
        """Removes the new run folder, which is still empty, and puts the one that it was to replace back."""
        self._unlock()
        remove_empty(*self._new)
        if self._replaced is not None:
            self._replaced.rename(self.home)

    def _unlock(self) -> None:
        if self._lock is not None:
            unlock_run(self._lock)
            self._lock = None

    def _choose_folder(self) -> Path:
        """The run folder, made if it is a new one. Evaluation writes into a folder of its own in the run's."""
        fit = self.subcommand == "fit"
        home, checkpoint = self.home, self.checkpoint
        if not fit and checkpoint is None:
            raise UsageError(f"{self.subcommand} needs trained weights: give --ckpt_path RUN/checkpoints/best.ckpt")
        run = run_of_checkpoint(checkpoint) if checkpoint else None
        if self.resumed is not None:
            self.resumed.check_length(self._max_epochs(), self.settings.trainer.max_steps)
        elif checkpoint is not None:
            check_class(Path(checkpoint), self.model)
        if not fit:
            return (run or home) / self.subcommand
        if run is not None and (option(self.args, "run.name") is None or is_numbered(run, home)):
            return run
        if not first_process():
            return home  # the first process claims the folder, and alone writes there
        self._replaced = move_aside(home) if self.options.overwrite else None
        above = missing_parents(home)
        folder = claim(home)
        self._new = [folder, *above]
        return folder

    def _check_options(self, resumed: ResumePoint, trainer: Trainer) -> None:
        """Refuses options that cannot change when a run is resumed, and says which ones do change."""
        changes = resumed.changes(self.config, trainer.world_size)
        resumed.check_data(self.data)
        if resumed.epochs == self._max_epochs() or resumed.steps == trainer.max_steps:
            resumed.check_finished(changes, self.folder)
        self._said.append(resumed.message(changes))

    def _check_same_start(self, trainer: Trainer) -> None:
        """
        Raises:
            UsageError: a machine without the first one's file system finds another checkpoint than that, or none.
        """
        found = "none" if self.resumed is None else f"after {counted(self.resumed.steps, 'step')}"
        if not trainer.strategy.reduce_boolean_decision(trainer.strategy.broadcast(found) == found):
            raise UsageError(
                f"the machines find different checkpoints of {self.folder} (this machine: {found}); copy the"
                " run's folder to the same path on all machines, or put --run.root on a file system that they share"
            )

    def _max_epochs(self) -> int | None:
        """Epochs to train; None where another limit is given."""
        trainer = self.settings.trainer
        if trainer.max_epochs is None and trainer.max_time is None and trainer.max_steps == -1:
            return DEFAULT_EPOCHS  # Lightning's own default is a thousand
        return trainer.max_epochs

    def _start_record(self, config: dict[str, Any]) -> list[Any]:
        """Adds the callbacks that keep the run; returns its logger of metrics.csv. `begin` adds the others."""
        trainer = self.settings.trainer
        self.record = callbacks.RunRecord(self.folder, config)
        self._callbacks += [
            LambdaCallback(
                setup=lambda trainer, module, stage: self._check_same_start(trainer) if stage == "fit" else None,
                on_train_start=lambda trainer, module: self.begin(trainer),
            ),
            self.record,
        ]
        chosen_by = self._chosen_by()
        if trainer.enable_checkpointing is not False:
            self.best = callbacks.BestCheckpoint(self.folder / "checkpoints", *(chosen_by or ()))
            self._callbacks += [self.best, self.settings.checkpoint]
        given = trainer.logger if isinstance(trainer.logger, list) else [trainer.logger]
        own = [logger for logger in given if isinstance(logger, WandbLogger)]
        self._own_loggers = [logger for logger in given if isinstance(logger, Logger) and logger not in own]
        if len(own) > 1:
            raise UsageError("--trainer.logger has two loggers of W&B, but a run has one; keep one of them")
        if first_process() and trainer.logger is not False:
            self.wandb = self._wandb_logger(self.record, config, own[0] if own else None)
        self._said += self._without_effect()
        return [self.record.history]

    def _without_effect(self) -> list[str]:
        """Says which options that were given for W&B do nothing in this run, and why."""
        log, rows = self.options.log_checkpoints, self.settings.sample_table.num_images
        off = "W&B is disabled" if self.wandb is None else ""
        no_pictures = "" if self.options.pictures else "--run.pictures is false"
        no_samples = "" if isinstance(self.model, Samples) else f"{type(self.model).__name__} generates no samples"
        given = [(f"--run.log_checkpoints {log}", off)] if log != "none" else []
        given += [(f"--sample_table.num_images {rows}", off or no_pictures or no_samples)] if rows else []
        return [f"{option} has no effect: {reason}" for option, reason in given if reason]

    def _wandb_logger(
        self, record: callbacks.RunRecord, config: dict[str, Any], own: WandbLogger | None
    ) -> RunLogger | None:
        """The logger of W&B, unless it is disabled. What the user's own one gives wins over `--run.` options."""
        theirs = {} if own is None else own_arguments(own)
        wanted = theirs.pop("mode", "auto")
        mode = resolve_mode(wanted if self.options.wandb == "auto" else self.options.wandb)
        if mode == "disabled":
            return None
        named, own_id = option(self.args, "run.name") is not None, record.summary.get("wandb_id")
        init = init_arguments(self.options, self.folder, own_id or secrets.token_hex(4), named) | theirs
        files = Path(init.pop("dir", None) or wandb_folder(self.folder))
        record.summary["wandb_id"] = init["id"]
        if files != self.folder:
            record.summary["wandb_dir"] = str(files.resolve())  # for `sweep.py sync`
        self._said.append(heeded_variables(init, files))
        return RunLogger(files, mode, config, self._chosen_by(), self._used_artifacts(), own, **init)

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
        given = trainer.callbacks if isinstance(trainer.callbacks, list) else [trainer.callbacks]
        if trainer.enable_progress_bar is not False and not any(isinstance(own, ProgressBar) for own in given):
            self._callbacks.append(progress_bar())
        if self.options.pictures:
            self._callbacks += [self.settings[name] for name in PICTURES]
        measures = [self.settings[name] for name in MEASURES]
        for measure in measures:
            if hasattr(measure, "pictures"):
                measure.pictures = self.options.pictures
        self._callbacks[:0] = [callbacks.TestCodes(), *measures]  # before those that record what is logged
        if self.subcommand == "fit" and self.options.compile != "none":
            self._callbacks[:0] = [callbacks.CompiledNetworks(self.options.compile)]
        if self.subcommand == "predict":
            self._callbacks.append(callbacks.PredictionWriter())
        self._callbacks.append(callbacks.ResumedOptions(self.config))  # after all others, whose states it describes
        if trainer.enable_model_summary is None:
            arguments["enable_model_summary"] = sys.stdout.isatty()
        arguments.setdefault("max_epochs", self._max_epochs())
        if trainer.profiler is None:
            arguments["profiler"] = NoProfiler()
        plugins = trainer.plugins if isinstance(trainer.plugins, list) else [trainer.plugins]
        arguments["plugins"] = [
            AtomicCheckpointIO(self.trained_on),
            *(plugin for plugin in plugins if plugin is not None),
        ]
        settings = {**trainer, "default_root_dir": str(self.folder), "enable_autolog_hparams": False}
        built = make({**settings, **arguments}, self._callbacks)
        if self.options.fast_loop:
            use_fast_loop(built)
        return built
