"""Trains, validates, tests or predicts with any model on any data: `python train.py fit --help`."""

import contextlib
import errno
import io
import os
import re
import secrets
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning import Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities.exceptions import MisconfigurationException, SIGTERMException

from datamodules import DataError, ImageDataModule, PairsDataModule, data_modules
from genlab import callbacks
from genlab.command_line import Parser, first_process, one_line, quiet, with_run_config
from genlab.runs.config import flatten, option, recorded, run_home
from genlab.runs.errors import UsageError
from genlab.runs.folder import RunOptions, claim, is_numbered, last_run, run_of_checkpoint, set_aside, write_whole
from genlab.runs.history import MetricsCSV
from genlab.runs.wandb_run import RunLogger, resolve_mode
from lit_models.common.capabilities import Translates
from lit_models.common.checkpoints import CheckpointError, read_checkpoint
from lit_models.common.component import drop_initial_weights
from lit_models.common.module import GenerativeModule

# Adam's averages of a weight that no longer learns decay into subnormal numbers, on which a CPU is many times slower.
# Set before torch starts its threads, which inherit it.
torch.set_flush_denormal(True)

BAD_INPUT = (UsageError, DataError, CheckpointError, MisconfigurationException)
PICTURES = {
    "reconstructions": callbacks.Reconstructions,
    "interpolation": callbacks.Interpolation,
    "latent_scatter": callbacks.LatentScatter,
    "latent_correlation": callbacks.LatentCorrelationMatrix,
    "latent_plane": callbacks.LatentPlane,
    "traversals": callbacks.Traversals,
    "combinations": callbacks.Combinations,
    "samples": callbacks.SampleGrids,
    "training_gif": callbacks.TrainingGif,
    "denoising": callbacks.Denoising,
    "anomaly_scores": callbacks.AnomalyScores,
    "angles": callbacks.AnglePicture,
    "class_grid": callbacks.ClassGrid,
    "arithmetic": callbacks.Arithmetic,
    "prior_interpolation": callbacks.PriorInterpolation,
    "filters": callbacks.Filters,
    "curves": callbacks.LearningCurves,
    "generated_images": callbacks.GeneratedImages,
}
MEASURES = {
    "quality": callbacks.SampleQuality,
    "translation": callbacks.TranslationQuality,
    "stability": callbacks.LossStability,
    "alarm": callbacks.CollapseAlarm,
    "active_units": callbacks.ActiveUnits,
    "color_control": callbacks.ColorControl,
    "principal_subspace": callbacks.PrincipalSubspace,
}
"""Callbacks whose numbers are logged in any case, and whose pictures are drawn when pictures are wanted."""
DEFAULT_EPOCHS = 10
LINKED = {
    "model.image_shape": "data.image_shape",
    "model.source_shape": "data.source_shape",
    "model.num_classes": "data.num_classes",
}
"""Options of models that the data decide."""
OF_PICTURES = "model.num_images"
"""The same, of those that make an image for each picture."""
SAME_SHAPE = ImageDataModule.source_shape
"""Of data whose sources are like their targets."""


Report = Callable[[callbacks.Progress], bool]


class Parsed(Exception):  # noqa: N818
    """A command line was parsed, and nothing more was asked for."""


@dataclass
class Result:
    """What a command did: its run folder, and the numbers that it measured."""

    folder: Path
    metrics: dict[str, float]


class GenlabCLI(LightningCLI):
    """LightningCLI that gives each run its folder, its record, its loggers and its test."""

    def __init__(self, args: list[str], report: Report | None = None, parse_only: bool = False) -> None:
        self.args = args
        self.parse_only = parse_only
        self.own_callbacks: list[Callback] = [callbacks.ExactResume()]
        if report is not None:
            self.own_callbacks.append(callbacks.ProgressReporter(report))
        self.record: callbacks.RunRecord | None = None
        self.best: ModelCheckpoint | None = None
        self.replaced: Path | None = None
        self.wandb: RunLogger | None = None
        self.metrics: dict[str, float] = {}
        super().__init__(
            GenerativeModule,
            ImageDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            seed_everything_default=0,
            save_config_callback=None,
            auto_configure_optimizers=False,
            parser_class=Parser,
            args=args,
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_class_arguments(RunOptions, "run")
        for name, picture in PICTURES.items():
            parser.add_lightning_class_args(picture, name)
        for name, measure in MEASURES.items():
            parser.add_lightning_class_args(measure, name)
        parser.add_lightning_class_args(callbacks.LastCheckpoint, "checkpoint")
        for target, source in LINKED.items():
            parser.link_arguments(source, target.replace("model.", "model.init_args."), apply_on="instantiate")
        number = OF_PICTURES.replace("model.", "model.init_args.")
        parser.link_arguments("data", number, lambda data: getattr(data, "num_images", 1), apply_on="instantiate")

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        """The one that is asked for, as building a parser for each of them takes a third of a second."""
        offered = super().subcommands()
        asked = self.args[0] if self.args else ""
        return {asked: offered[asked]} if asked in offered else offered

    def _parse_ckpt_path(self) -> None:
        """The run's own config.yaml is read instead (`with_run_config`), so that options given beside it count."""

    def before_instantiate_classes(self) -> None:
        if self.parse_only:
            raise Parsed

    def instantiate_classes(self) -> None:
        """As LightningCLI's, but first weights are left out where a checkpoint brings the weights."""
        config = self.config.clone()
        self.options = RunOptions(**vars(config[self.subcommand].run))
        self._dump_config()  # once, of the command line as it was given
        self.home = run_home(self.args, self.options, flatten(self.config_dump))
        self.checkpoint = self._checkpoint()
        if self.checkpoint is not None:
            drop_initial_weights(config[self.subcommand].model)
        try:
            self.config_init = self.parser.instantiate_classes(config)
            self.datamodule = self._get(self.config_init, "data")
            self.model = self._get(self.config_init, "model")
            self.trainer = self.instantiate_trainer()
        except (ValueError, TypeError) as error:  # a constructor's complaint about its arguments
            raise UsageError(one_line(str(error))) from error

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Checks the data, then claims the run folder, then builds the trainer that writes there."""
        self.settings = self.config_init[self.subcommand]
        self.settings.weights_only = True
        self._check_pictures()
        self._check_pairs()
        if self.subcommand != "predict":
            self._check_labels()
        self.datamodule.prepare_data()
        self.datamodule.setup(self.subcommand)
        if self.subcommand != "predict":
            for measure in (self.settings.quality, self.settings.translation):
                measure.prepare(self.model, self.datamodule, self.options.root)
        if self.subcommand == "fit":
            self.model.prepare_fit()
        if self.settings.trainer.fast_dev_run:
            self.folder = Path(tempfile.mkdtemp(prefix="genlab-"))
            return self._build(logger=False, enable_checkpointing=False, **kwargs)
        self.folder, new = self._choose_folder()
        try:
            logger = self._keep_record() if self.subcommand == "fit" else False
            trainer = self._build(logger=logger, **kwargs)
        except BaseException:
            if new:
                self.folder.rmdir()  # still empty
            if self.replaced is not None:
                self.replaced.rename(self.home)
            raise
        if self.replaced is not None:
            shutil.rmtree(self.replaced, ignore_errors=True)
        return trainer

    def _checkpoint(self) -> str | None:
        """The checkpoint that was asked for; `last` is that of the last run of this name, if there is one."""
        asked = self.config[self.subcommand].ckpt_path
        if asked != "last":
            return asked
        run = last_run(self.home)
        return None if run is None else str(run / "checkpoints" / "last.ckpt")

    def _check_pictures(self) -> None:
        """Pictures, with styles or without, are for models that make an image of each of them, and for them alone."""
        wanted, given = (_given(side) for side in (self.model, self.datamodule))
        if wanted == given:
            return
        model, data = type(self.model).__name__, type(self.datamodule).__name__
        wrong = f"{data} has {given or 'no pictures'}, and {model} " + (
            f"makes images of {wanted}" if wanted else "makes no image of each of them"
        )
        of_pairs = isinstance(self.model, Translates)
        raise UsageError(
            wrong + use_data(lambda kind: _given(kind) == wanted and issubclass(kind, PairsDataModule) == of_pairs)
        )

    def _check_pairs(self) -> None:
        """Pairs of images are for models that translate, and for them alone."""
        model, data = type(self.model).__name__, type(self.datamodule).__name__
        translates = isinstance(self.model, Translates)
        if translates != isinstance(self.datamodule, PairsDataModule):
            wrong = f"{model} does not translate images, and {data} has pairs of them"
            if translates:
                wrong = f"{model} translates images of one kind into another, and {data} has one kind"
            raise UsageError(wrong + use_data(lambda kind: issubclass(kind, PairsDataModule) == translates))
        source, target = self.datamodule.source_shape, self.datamodule.image_shape
        if translates and "ba" in self.model.directions and source != target:
            sizes = " and ".join(" x ".join(map(str, shape)) for shape in (source, target))
            raise UsageError(
                f"{model} translates both ways between images of one shape, and those of {data} are {sizes}"
                f"{use_data(lambda kind: issubclass(kind, PairsDataModule) and kind.source_shape is SAME_SHAPE)}"
            )

    def _check_labels(self) -> None:
        needed = getattr(self.model, "needs_label", None)
        if needed is None or needed in self.datamodule.label_columns:
            return
        raise UsageError(
            f"{type(self.model).__name__} needs the {needed} in the labels, and those of"
            f" {type(self.datamodule).__name__} hold the {' and the '.join(self.datamodule.label_columns)}"
            f"{use_data(lambda kind: needed in kind.label_columns)}"
        )

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
        run = run_of_checkpoint(checkpoint) if checkpoint else None
        if not fit:
            return (run or home) / str(self.subcommand), False
        if run is not None and (option(self.args, "run.name") is None or is_numbered(run, home)):
            return run, False
        if not first_process():
            return home, False  # the first process claims the folder, and alone writes there
        self.replaced = set_aside(home) if self.options.overwrite else None
        return claim(home), True

    def _keep_record(self) -> list[Any]:
        """Adds the callbacks that keep the run; returns its loggers: metrics.csv, W&B unless disabled, the user's."""
        trainer = self.settings.trainer
        defaults = self._parser("fit").get_defaults().as_dict()
        config = recorded(self.config_dump, defaults, self.args) | self.model.derived_config()
        config = {key: value for key, value in config.items() if key not in (*LINKED, OF_PICTURES)}
        self.record = callbacks.RunRecord(self.folder, config)
        self.own_callbacks.append(self.record)
        if trainer.enable_checkpointing is not False:
            chooses = self._chooses()
            self.settings.checkpoint.best_is_last = chooses is None
            if chooses is not None:
                self.best = callbacks.best_checkpoint(self.folder / "checkpoints", *chooses)
                self.own_callbacks.append(self.best)
            self.own_callbacks.append(self.settings.checkpoint)
        loggers: list[Any] = [MetricsCSV(self.folder)]
        mode = resolve_mode(self.options.wandb) if first_process() else "disabled"
        if mode != "disabled" and trainer.logger is not False:
            self.wandb = RunLogger(
                self.folder,
                mode,
                config,
                self._chooses(),
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

    def _chooses(self) -> tuple[str, str] | None:
        """The validation metric that chooses the best weights, and its better direction; None: the last are the best.

        Learning from few labels chooses nothing, as the validation images' labels are not among those few.
        """
        validates = self.datamodule.val_size > 0 and self.settings.trainer.limit_val_batches != 0
        few = self.datamodule.labels_per_class is not None
        measured = self.settings.quality.measures or self.settings.translation.measures
        unmeasured = callbacks.chosen_by_samples(self.model) and not measured
        return self.model.monitor if validates and not few and not unmeasured else None

    def _build(self, **kwargs: Any) -> Trainer:
        """The trainer, with the user's callbacks and ours; pictures only if they are wanted."""
        if self.settings.trainer.enable_progress_bar is not False:
            self.own_callbacks.append(callbacks.progress())
        if self.options.pictures:
            self.own_callbacks += [self.settings[name] for name in PICTURES]
        measures = [self.settings[name] for name in MEASURES]
        for measure in measures:
            if hasattr(measure, "pictures"):
                measure.pictures = self.options.pictures
        self.own_callbacks[:0] = measures  # before those that record what is logged
        if self.subcommand == "predict":
            self.own_callbacks.append(callbacks.Predictions())
        trainer = self.settings.trainer
        if trainer.enable_model_summary is None:
            kwargs["enable_model_summary"] = sys.stdout.isatty()
        if trainer.max_epochs is None and trainer.max_time is None and trainer.max_steps == -1:
            kwargs["max_epochs"] = DEFAULT_EPOCHS  # Lightning's own default is a thousand
        if trainer.profiler is None:
            kwargs["profiler"] = callbacks.NoProfiler()
        plugins = trainer.plugins if isinstance(trainer.plugins, list) else [trainer.plugins]
        kwargs["plugins"] = [callbacks.AtomicCheckpointIO(), *(plugin for plugin in plugins if plugin is not None)]
        config = {**trainer, "default_root_dir": str(self.folder), "enable_autolog_hparams": False}
        return self._instantiate_trainer({**config, **kwargs}, self.own_callbacks)

    def _run_subcommand(self, subcommand: str) -> None:
        """Runs it, and leaves the record and the W&B run in the state that it ended in."""
        try:
            super()._run_subcommand(subcommand)
        except BaseException as error:
            self._close(error)
            raise
        self._close()

    def before_fit(self) -> None:
        if self.record is not None and first_process():
            write_whole(self.folder / "config.yaml", self._config_yaml())
            self.record.note()
            parameters = sum(p.numel() for p in self.model.parameters())
            print(f"{type(self.model).__name__} of {parameters:,} parameters, in {self.folder}", flush=True)

    def after_fit(self) -> None:
        """Tests the best checkpoint; those numbers are the run's summary."""
        found: dict[str, float] = {}
        if self.record is None:  # else the record keeps them
            found = {name: float(value) for name, value in self.trainer.callback_metrics.items() if "/" in name}
        folder = self.trainer.strategy.broadcast(self.folder)
        best = folder / "checkpoints" / "best.ckpt"
        self.test(self.model, datamodule=self.datamodule, ckpt_path=best if best.is_file() else None, weights_only=True)
        if self.best is not None and self.best.best_model_score is not None:
            found[str(self.best.monitor)] = float(self.best.best_model_score)
        self.metrics = found | self.metrics
        if self.record is not None and first_process():
            self.record.finish(self.metrics)

    def validate(self, model: Any, **kwargs: Any) -> None:
        self._report(self.trainer.validate(model, **kwargs | {"verbose": False}))

    def test(self, model: Any, **kwargs: Any) -> None:
        self._report(self.trainer.test(model, **kwargs | {"verbose": False}))

    def predict(self, model: Any, **kwargs: Any) -> None:
        self.trainer.predict(model, **kwargs | {"return_predictions": False})

    def _report(self, found: list[Any]) -> None:
        self.metrics = {name: float(value) for name, value in found[0].items()} if found else {}
        if first_process():
            print(
                "nothing was measured"
                if not self.metrics
                else "  ".join(f"{name} {value:.4g}" for name, value in self.metrics.items()),
                flush=True,
            )

    def _close(self, error: BaseException | None = None) -> None:
        if error is not None and self.record is not None and first_process():
            with contextlib.suppress(OSError):  # a full disk must not hide the error itself
                self.record.fail(error)
        if self.settings.trainer.fast_dev_run:
            shutil.rmtree(self.folder, ignore_errors=True)
        if self.wandb is not None:
            self.wandb.close(0 if error is None else 1, self.metrics, error)

    def _config_yaml(self) -> str:
        """The resolved config, with the run's own name, so that `fit --config` on it repeats the run."""
        config = self.config[self.subcommand].clone()
        config.run.experiment, config.run.name = self.folder.parent.name, self.home.name
        config.run.overwrite, config.ckpt_path = False, None
        return self._parser(self.subcommand).dump(config, skip_none=False)


def _given(side: object) -> str | None:
    """What a model that makes an image for each picture needs, or data have for such models."""
    return getattr(side, "given", None)


def use_data(fits: Callable[[type[ImageDataModule]], bool]) -> str:
    """Says which data modules fit, as the end of a sentence."""
    able = [name for name, kind in data_modules().items() if fits(kind)]
    return f"; use --data {' or '.join(able) or 'of your own'}"


def main(args: list[str] | None = None, report: Report | None = None) -> Result:
    """Runs one command, such as ["fit", "--config", "configs/autoencoder_mnist.yaml", "--model.latent_dim=5"].

    May be called any number of times in one process: each run starts from its own seed and leaves nothing behind.

    Args:
        args: the command line.
        report: hears of each epoch's end; training ends there when its answer is true.

    Raises:
        UsageError, DataError, CheckpointError, MisconfigurationException: bad input; one line says what to do.
        SystemExit: with status 2 for a command line that cannot be parsed, 0 after --help.
        SIGTERMException: stopped by a signal, after last.ckpt was written.
    """
    given = sys.argv[1:] if args is None else list(args)
    if first_process():
        os.environ.pop("PL_GLOBAL_SEED", None)  # an earlier run's seed must not become that of a run without one
    with quiet():
        cli = GenlabCLI(with_run_config(given), report)
    return Result(cli.folder, cli.metrics if cli.record is None else cli.record.summary["metrics"] | cli.metrics)


def check(args: list[str]) -> str | None:
    """What is wrong with a command line, in one line; nothing is built, run or written."""
    said = io.StringIO()
    try:
        with quiet(), contextlib.redirect_stderr(said):
            GenlabCLI(with_run_config(list(args)), parse_only=True)
    except Parsed:
        return None
    except BAD_INPUT as error:
        return one_line(str(error))
    except SystemExit:
        return re.sub(r"^error: | \(see .*\)$", "", said.getvalue().strip()) or "it cannot be parsed"
    return None


def logged(args: list[str]) -> dict[str, list[str]]:
    """The names of the metrics that a fit logs: each `epoch`, and those it has at its `end`; found by one step of it.

    Raises:
        As `main`.
    """
    each: set[str] = set()

    def note(progress: callbacks.Progress) -> bool:
        each.update(progress.metrics)
        return False

    result = main([*args, "--trainer.fast_dev_run=true"], note)
    return {"epoch": sorted(each), "end": sorted(result.metrics)}


def command() -> int:
    """`main` for the shell: exit status 2 for bad input, 1 for a full disk, 143 after a signal."""
    try:
        main()
    except BAD_INPUT as error:
        print(f"error: {one_line(str(error))}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        print("error: the disk is full; make room and run the same command with --ckpt_path last", file=sys.stderr)
        return 1
    except SIGTERMException:
        print("stopped; a fit goes on from here by the same command with --ckpt_path last", file=sys.stderr)
        return 143
    return 0


if __name__ == "__main__":
    sys.exit(command())
