"""Lightning's command line, with a folder, a record, loggers and a test for each run."""

import contextlib
import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jsonargparse import set_parsing_settings
from jsonargparse.typing import register_type_on_first_use
from lightning import Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from datamodules import ImageDataModule
from genlab import callbacks
from genlab.cli import completion
from genlab.cli.compatibility import check_images, check_labels
from genlab.cli.evaluation_classifier import check_trainable, trained_classifier, untrained_classifier
from genlab.cli.help import (
    IMPORT_HELP,
    INIT_FROM_HELP,
    INIT_STRICT_HELP,
    TRUSTED_HELP,
    arrange_help,
    describe_subcommands,
)
from genlab.cli.integers_first import integers_first
from genlab.cli.options import MEASURES, NUM_IMAGES, PICTURES, SET_BY_DATA
from genlab.cli.parameter_bound import MAX_PARAMETERS, MAX_PARAMETERS_HELP, ParameterBound
from genlab.cli.parser import Parser, one_line
from genlab.cli.preflight import check_seed, check_training, training_refusal, trial_trainer
from genlab.cli.prepare import prepare_args, read_configs, refuse_what_data_set
from genlab.cli.resume import ResumePoint, misfit, training_options
from genlab.cli.run_setup import Report, RunSetup
from genlab.cli.trust import check_named, is_trusted, only_our_packages
from genlab.evaluation.classifier import TRAIN, EvaluationClassifier, check_validation, ready_classifier
from genlab.evaluation.sample_scores import selected_by_frechet
from genlab.processes import first_process
from genlab.runs.config import differing_keys, flatten, recorded_config, run_folder
from genlab.runs.errors import UsageError
from genlab.runs.facts import count_parameters
from genlab.runs.folder import RunOptions, is_numbered, last_run, write_atomically
from genlab.runs.other_loggers import check_installed
from genlab.runs.wandb_checkpoints import (
    checkpoint_file,
    is_reference,
    map_references,
    pinned,
    recorded_version,
)
from genlab.runs.wandb_variables import check_variables, keys_swept_by_agent
from genlab.yaml_files import LOADER
from lit_models.common.checkpoints import load_weights, some, take_embedded_configs
from lit_models.common.component import drop_initial_weights
from lit_models.common.module import GenerativeModule

integers_first(Trainer.__init__)
# The settings of a W&B logger stay the mapping that was given: as a class they would hold, and record, all of W&B's.
register_type_on_first_use("wandb.Settings", dict, dict, type_check=lambda value, _: isinstance(value, dict))

_PARSERS: dict[str, dict[str, Any]] = {}
"""What `setup_parser` has built for each subcommand. Building it takes as long as parsing a command line."""


class Parsed(Exception):  # noqa: N818
    """A command line was parsed, and nothing more was asked for."""

    def __init__(self, cli: "GenlabCLI") -> None:
        super().__init__()
        self.cli = cli


class GenlabCLI(LightningCLI):
    """Parses a command line, builds its model, data and trainer, and runs it.

    Args:
        args: Arguments of the command line.
        report: Is told of each epoch's end; training ends there when its answer is true.
        parse_only: Raises `Parsed` once the command line was parsed.
    """

    def __init__(self, args: list[str], report: Report | None = None, parse_only: bool = False) -> None:
        self.args = args
        self.report = report
        self.parse_only = parse_only
        self.metrics: dict[str, float] = {}
        self.notes: list[str] = []
        set_parsing_settings(add_print_completion_argument=True)
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

    def setup_parser(self, *args: Any, **kwargs: Any) -> None:
        """As LightningCLI's, but once in a process for each subcommand. Help tells of the classes known by now."""
        asked = self.args[0] if self.args else ""
        if asked not in super().subcommands() or self._completes or any("help" in arg for arg in self.args):
            super().setup_parser(*args, **kwargs)
            return
        if asked not in _PARSERS:
            super().setup_parser(*args, **kwargs)
            built = ("parser", "_subcommand_parsers", "_subcommand_method_arguments")
            _PARSERS[asked] = {name: getattr(self, name) for name in built}
        vars(self).update(_PARSERS[asked])

    def add_default_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        super().add_default_arguments_to_parser(parser)
        parser.add_argument("--trusted", type=bool, default=True, help=TRUSTED_HELP)
        parser.add_argument("--max_parameters", type=int, default=MAX_PARAMETERS, help=MAX_PARAMETERS_HELP)
        parser.add_argument("--import", type=str | None, metavar="PACKAGE", help=IMPORT_HELP)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_class_arguments(RunOptions, "run")
        for name, callback in (PICTURES | MEASURES).items():
            parser.add_lightning_class_args(callback, name)
        parser.add_lightning_class_args(callbacks.LastCheckpoint, "checkpoint")
        parser.add_argument("--init_from", type=str | None, metavar="CKPT", help=INIT_FROM_HELP)
        parser.add_argument("--init_strict", type=bool, default=True, help=INIT_STRICT_HELP)
        for target, source in SET_BY_DATA.items():
            parser.link_arguments(source, target.replace("model.", "model.init_args."), apply_on="instantiate")
        number = NUM_IMAGES.replace("model.", "model.init_args.")
        parser.link_arguments("data", number, lambda data: getattr(data, "num_images", 1), apply_on="instantiate")

    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any) -> LightningArgumentParser:
        parser: Any = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        arrange_help(parser, subcommand)
        if self._completes:
            completion.shorten(parser)
        return parser

    def _dump_config(self) -> None:
        """As LightningCLI's, without checking the parsed values again."""
        if not hasattr(self, "config_dump"):
            dump = self.parser.dump(self.config, skip_link_targets=False, skip_unset=False, skip_validation=True)
            self.config_dump = LOADER(dump).get_single_data()[self.subcommand]

    def _add_subcommands(self, parser: Any, **kwargs: Any) -> None:
        super()._add_subcommands(parser, **kwargs)
        describe_subcommands(parser)
        if self._completes:
            completion.add_other_commands(parser)

    @property
    def _completes(self) -> bool:
        """Whether a completion script is asked for."""
        return any(arg.startswith("--print_completion") for arg in self.args)

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        """The one that is asked for, as building a parser for each of them takes a third of a second."""
        offered = super().subcommands()
        asked = self.args[0] if self.args else ""
        return {asked: offered[asked]} if asked in offered else offered

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        trusted = is_trusted(self.args, read_configs(self.args))
        with contextlib.nullcontext() if trusted else only_our_packages():
            super().parse_arguments(parser, args)
        if not trusted:
            check_named(self.config[self.config.subcommand])

    def _parse_ckpt_path(self) -> None:
        """The run's own config.yaml is read instead (`prepare_args`), so that options given beside it count."""

    def _set_seed(self) -> None:
        check_seed(self._get(self.config, "seed_everything"))
        super()._set_seed()

    def before_instantiate_classes(self) -> None:
        refuse_what_data_set(self.args)
        seed = os.environ.get("PL_GLOBAL_SEED", "0")
        _map_references(self.config[self.subcommand], lambda reference: reference.replace("{seed}", seed))
        check_installed(self._get(self.config, "run"))
        if self._get(self.config, "run").wandb != "disabled":
            check_variables()
        if self.parse_only:
            raise Parsed(self)

    def instantiate_classes(self) -> None:
        """As LightningCLI's, but first weights are left out where a checkpoint brings the weights."""
        config = self.config.clone()
        self.options = RunOptions(**vars(config[self.subcommand].run))
        self._dump_config()  # once, of the command line as it was given
        swept = keys_swept_by_agent()
        self.home = run_folder(self.args, self.options, flatten(self.config_dump), swept)
        self.checkpoint = self._checkpoint()
        if self.checkpoint is not None:
            drop_initial_weights(config[self.subcommand].model)
            take_embedded_configs(config[self.subcommand].model, Path(self.checkpoint))
        self._download_checkpoints(config[self.subcommand])
        try:
            self.config_init = self._build(config)
            self.datamodule = self._get(self.config_init, "data")
            self.model = self._get(self.config_init, "model")
            self._load_initial_weights()
            self.trainer = self.instantiate_trainer()
        except (ValueError, TypeError) as error:  # a constructor's complaint about its arguments
            raise UsageError(one_line(str(error))) from error

    def _download_checkpoints(self, config: Any) -> None:
        """Replaces references to checkpoints on W&B by the downloaded files, and records their versions.

        A fit that goes on takes the versions that it began with.
        """
        versions: dict[str, str] = {}

        def download(reference: str) -> str:
            if self.subcommand == "fit" and self.checkpoint is not None:
                began_with = ResumePoint.read(Path(self.checkpoint)).config.values()
                versions[reference] = pinned(recorded_version(reference, began_with))
            else:
                versions[reference] = pinned(reference)
            return str(checkpoint_file(versions[reference]))

        _map_references(config, download)
        for recorded in (self.config[self.subcommand], self.config_dump):
            _map_references(recorded, lambda reference: versions.get(reference, reference))

    def _build(self, config: Any) -> Any:
        """Builds data, model and callbacks, unless the model has too many parameters."""
        bound = ParameterBound(config[self.subcommand].max_parameters)
        try:
            with bound:
                built = self.parser.instantiate_classes(config)
        except Exception:
            bound.check(None)  # not every constructor takes tensors without memory
            raise
        sized = "size" in inspect.signature(type(self._get(built, "data"))).parameters
        bound.check(self._get(built, "model"), sized)
        return built

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Checks the data, then claims the run folder, then builds the trainer that writes there."""
        settings = self.config_init[self.subcommand]
        settings.weights_only = True
        trial = trial_trainer(settings.trainer)
        check_images(self.model, self.datamodule)
        if self.subcommand != "predict":
            check_labels(self.model, self.datamodule)
        resumed = self._resume_point(trial)
        self.datamodule.prepare_data()
        self.datamodule.setup(self.subcommand)
        if self.subcommand == "fit":
            self.model.prepare_fit()
            check_training(trial, self.model, self.datamodule)
        if self.subcommand != "predict":
            self._prepare_measures(trial)
        self.run = RunSetup(
            str(self.subcommand),
            self.args,
            self.options,
            self.home,
            self.checkpoint,
            settings,
            self.model,
            self.datamodule,
            training_options(self.config_dump),
            self._write_config,
            {key: self.config_dump[key] for key in ("seed_everything", "data")},
            resumed,
            self.report,
        )
        return self.run.trainer(self._instantiate_trainer, self._recorded_config, **kwargs)

    def _prepare_measures(self, trial: Trainer) -> None:
        """Loads the evaluation classifier, after it is trained if that is asked for. Its checkpoint is recorded."""
        settings, model, data = self.config_init[self.subcommand], self.model, self.datamodule
        for name in ("quality", "translation"):
            measure = settings[name]
            if measure.classifier == TRAIN and measure.applies(model, data):
                check_trainable(data, f"--{name}.classifier")
                if selected_by_frechet(model):
                    check_validation(data)
                measure.classifier = self._trained_classifier(name, trial)
            measure.prepare(model, data, self.options.root)

    def _trained_classifier(self, name: str, trial: Trainer) -> str | EvaluationClassifier:
        data, root = self.datamodule, self.options.root
        if trial.fast_dev_run and ready_classifier(data, root) is None:  # type: ignore[attr-defined]
            return untrained_classifier(data)
        path = str(trained_classifier(data, self.config_dump, trial, root, lambda args: type(self)(prepare_args(args))))
        self.config[self.subcommand][name].classifier = self.config_dump[name]["classifier"] = path
        return path

    def _resume_point(self, trial: Trainer) -> ResumePoint | None:
        """The checkpoint that a fit goes on from. Options that cannot change are refused before data are read."""
        if self.subcommand != "fit" or self.checkpoint is None:
            return None
        resumed = ResumePoint.read(Path(self.checkpoint))
        resumed.changes(training_options(self.config_dump), trial.world_size)
        return resumed

    def _checkpoint(self) -> str | None:
        """The checkpoint that was asked for; `last` is that of the last run of this name, if there is one."""
        asked = self.config[self.subcommand].ckpt_path
        if asked != "last":
            return str(checkpoint_file(asked)) if is_reference(asked) else asked
        run = last_run(self.home)
        if run is None:
            others = sorted(self.home.parent.glob("*/checkpoints/last.ckpt"), key=lambda path: path.stat().st_mtime)
            advice = f" (the newest other run goes on by --ckpt_path {others[-1]})" if others else ""
            self.notes.append(
                f"there is no {self.home}/checkpoints/last.ckpt; training starts from the beginning{advice}"
            )
        return None if run is None else str(run / "checkpoints" / "last.ckpt")

    def _load_initial_weights(self) -> None:
        """Loads the weights of --init_from, which only begin a run: a resumed one has its own."""
        config = self.config[self.subcommand]
        if config.init_from is None or self.subcommand != "fit" or self.checkpoint is not None:
            return
        left = load_weights(self.model, checkpoint_file(config.init_from).expanduser(), config.init_strict)
        kept = f"; left at their first values: {some(left)}" if left else ""
        self.notes.append(f"training starts from the weights of {config.init_from}{kept}")

    def _recorded_config(self) -> dict[str, Any]:
        """The run's config under dotted keys, without what the data give."""
        return self._given_config() | self.model.derived_config()

    def _given_config(self) -> dict[str, Any]:
        """The part of the recorded config that options give."""
        config = recorded_config(self.config_dump, self._defaults(), self.args)
        return {key: value for key, value in config.items() if key not in (*SET_BY_DATA, NUM_IMAGES)}

    def _defaults(self) -> dict[str, Any]:
        return self._parser("fit").get_defaults().as_dict()

    def differing_options(self, recorded: dict[str, Any]) -> list[str]:
        """The options in which a run with this recorded config differs from this command line, once it is parsed."""
        self._dump_config()
        _map_references(self.config_dump, lambda reference: recorded_version(reference, recorded.values()))
        given, options = self._given_config(), flatten(self.config_dump)
        for key in [key for key, value in options.items() if key.endswith(".classifier") and value == TRAIN]:
            given[key] = options[key] = recorded.get(key, TRAIN)  # the run recorded the checkpoint
        return differing_keys(recorded, given, options, flatten(self._defaults()))

    def _run_subcommand(self, subcommand: str) -> None:
        """Runs it, and leaves the record and the W&B run in the state that it ended in."""
        try:
            super()._run_subcommand(subcommand)
        except BaseException as error:
            self.run.close(self.metrics, error)
            raise
        self.run.close(self.metrics)

    def fit(self, model: Any, **kwargs: Any) -> None:
        self._run_trainer("fit", model, **kwargs)

    def _run_trainer(self, subcommand: str, model: Any, **kwargs: Any) -> Any:
        """Runs Lightning's trainer; a checkpoint that it cannot restore, or a callback, is named in one line."""
        try:
            return getattr(self.trainer, subcommand)(model, **kwargs)
        except Exception as error:
            misfitting = misfit(Path(str(kwargs["ckpt_path"])), error, model) if kwargs.get("ckpt_path") else None
            reason = misfitting or training_refusal(error, self.datamodule)
            if reason is None:
                raise
            raise reason from error

    def _write_config(self) -> None:
        """Writes config.yaml, and says what is trained, in which folder."""
        write_atomically(self.run.folder / "config.yaml", self._config_yaml())
        parameters = count_parameters(self.model)
        print(f"{type(self.model).__name__} of {parameters:,} parameters, in {self.run.folder}", flush=True)
        for note in self.notes:
            print(note, flush=True)

    def after_fit(self) -> None:
        """Tests the best checkpoint; those numbers are the run's summary."""
        if not self.run.begun:  # nothing was left to train
            self.run.begin(self.trainer)
        record, best = self.run.record, self.run.best
        latest = self.trainer.callback_metrics if record is None else record.metrics
        found = {name: float(value) for name, value in latest.items() if "/" in name}
        path: Path = self.trainer.strategy.broadcast(self.run.folder) / "checkpoints" / "best.ckpt"
        self.test(self.model, datamodule=self.datamodule, ckpt_path=path if path.is_file() else None, weights_only=True)
        self.metrics = found | (best.metrics if best is not None else {}) | self.metrics
        if record is not None and first_process():
            record.finish(self.metrics)

    def validate(self, model: Any, **kwargs: Any) -> None:
        self._report(self._run_trainer("validate", model, **kwargs | {"verbose": False}))

    def test(self, model: Any, **kwargs: Any) -> None:
        self._report(self._run_trainer("test", model, **kwargs | {"verbose": False}))

    def predict(self, model: Any, **kwargs: Any) -> None:
        self._run_trainer("predict", model, **kwargs | {"return_predictions": False})

    def _report(self, found: list[Any]) -> None:
        self.metrics = {name: float(value) for name, value in found[0].items()} if found else {}
        if first_process():
            print(
                "nothing was measured"
                if not self.metrics
                else "  ".join(f"{name} {value:.4g}" for name, value in self.metrics.items()),
                flush=True,
            )

    def _config_yaml(self) -> str:
        """The resolved config, with the run's own name, so that `fit --config` on it repeats the run.

        A numbered run has the name without the number; a resumed one keeps its own, or that of its renamed folder.
        """
        config, folder = self.config[self.subcommand].clone(), self.run.folder
        names = filter(None, (self.home.name, self.options.name))
        numbered = (name for name in names if is_numbered(folder, folder.parent / name))
        config.run.name = next(numbered, folder.name)
        config.run.root, config.run.experiment = str(folder.parent.parent), folder.parent.name
        config.run.overwrite, config.ckpt_path = False, None
        return self._parser(self.subcommand).dump(config, skip_unset=False, skip_validation=True)


def _map_references(config: Any, function: Callable[[str], str]) -> None:
    """Applies a function to the references to checkpoints in a parsed config, in place."""
    for group in (dict(config) if isinstance(config, dict) else vars(config)).keys() - {"run", "ckpt_path"}:
        config[group] = map_references(config[group], function)
