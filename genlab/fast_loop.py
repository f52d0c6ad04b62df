"""Lightning's loop over the training batches without the parts that do nothing in a run."""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.loops.fetchers import _DataFetcher, _PrefetchDataFetcher
from lightning.pytorch.loops.optimization.automatic import Closure, ClosureResult
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop
from lightning.pytorch.plugins.precision import MixedPrecision, Precision
from lightning.pytorch.profilers import PassThroughProfiler
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch import Tensor

from datamodules.loader import BatchLoader

BATCH_HOOKS = ("on_train_batch_start", "on_train_batch_end")
STEP_HOOKS = ("on_before_zero_grad", "on_before_backward", "on_after_backward", "on_before_optimizer_step")
STEP_METHODS = ("backward", "optimizer_step", "optimizer_zero_grad", "configure_gradient_clipping")


def use_fast_loop(trainer: Trainer) -> None:
    """Gives a trainer that has not begun yet a `FastEpochLoop`."""
    loop = trainer.fit_loop.epoch_loop
    trainer.fit_loop.epoch_loop = FastEpochLoop(trainer, loop.min_steps, loop.max_steps)


class FastEpochLoop(_TrainingEpochLoop):
    """Trains exactly as Lightning's loop does, but calls only the hooks that something defines.

    Lightning calls about a hundred hooks for a training step, nearly all of them empty, and computes the logged metrics
    again after a step that logged nothing. That takes about a millisecond, which is more than a step of a small network
    takes on a GPU. This loop looks once for each epoch which hooks the callbacks and the module define. Under automatic
    optimization it also executes the forward pass, the backward pass, the clipping and the optimizer's step itself.

    The order of the calls, the counters of the progress, the checkpoints and the logged values are those of Lightning.
    Lightning's own code is executed where a run needs more: in several processes, with a profiler and for the first
    batch of an epoch; and for the optimizer's step with accumulated gradients, with the fp16 gradient scaler, or if a
    callback or the module takes part in it.

    Examples:
        >>> trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
        >>> use_fast_loop(trainer)
        >>> type(trainer.fit_loop.epoch_loop).__name__
        'FastEpochLoop'
    """

    _is_fast = _steps_itself = _takes_index = False
    _hooks: Mapping[str, list[Callable[..., Any]]] = {}
    """The hooks of a batch that callbacks define, by name."""
    _complete: Callable[[Any, int], Any] | None = None
    """What is done with a batch that is on the device already; None if Lightning has to move it there."""
    _validates: bool | None = None
    """Whether validation belongs to this epoch; None before it begins and after its end."""

    def run(self, data_fetcher: _DataFetcher) -> None:
        try:
            super().run(data_fetcher)
        finally:
            self._validates = None

    def on_run_start(self, data_fetcher: _DataFetcher) -> None:
        super().on_run_start(data_fetcher)
        trainer: Any = self.trainer
        module = trainer.lightning_module
        self._hooks = {name: self._hooks_of_callbacks(name) for name in BATCH_HOOKS}
        self._complete = self._completion()
        self._validates = super()._should_check_val_epoch()
        self._takes_index = "batch_idx" in super()._build_kwargs(OrderedDict(), None, 0)
        self._is_fast = (
            type(trainer.strategy) is SingleDeviceStrategy
            and type(trainer.precision_plugin) in (Precision, MixedPrecision)
            and isinstance(trainer.profiler, PassThroughProfiler)
            and type(data_fetcher) is _PrefetchDataFetcher
        )
        self._steps_itself = (
            module.automatic_optimization
            and not isinstance(trainer.optimizers[0], LightningOptimizer)
            and not self.automatic_optimization._skip_backward
            and getattr(trainer.precision_plugin, "scaler", None) is None
            and not any(self._hooks_of_callbacks(name) for name in STEP_HOOKS)
            and not any(_defines(module, LightningModule, name) for name in (*STEP_HOOKS, *STEP_METHODS))
        )

    def _hooks_of_callbacks(self, name: str) -> list[Callable[..., Any]]:
        callbacks: list[Callback] = self.trainer.callbacks  # type: ignore[attr-defined]
        return [getattr(callback, name) for callback in callbacks if _defines(callback, Callback, name)]

    def _completion(self) -> Callable[[Any, int], Any] | None:
        """`on_after_batch_transfer`, if the loader makes the batches on the device and nobody moves them otherwise."""
        loader, hooks = self.trainer.train_dataloader, self.trainer._data_connector._datahook_selector
        assert hooks is not None
        if not isinstance(loader, BatchLoader) or loader.device != self.trainer.strategy.root_device:
            return None
        for name in ("on_before_batch_transfer", "transfer_batch_to_device"):
            if _defines(hooks.get_instance(name), LightningModule, name):
                return None
        return hooks.get_instance("on_after_batch_transfer").on_after_batch_transfer

    def _should_check_val_epoch(self) -> bool:
        return super()._should_check_val_epoch() if self._validates is None else self._validates

    def advance(self, data_fetcher: _DataFetcher) -> None:
        connector = self.trainer._logger_connector
        if not self._is_fast or self.restarting or connector._first_loop_iter is None:
            super().advance(data_fetcher)
            return
        if self.val_loop.restarting:
            self.val_loop.restarting = False
        batch, _, _ = next(data_fetcher)
        batch_idx = self.batch_idx + 1
        self.batch_progress.is_last_batch = data_fetcher.done
        batch = self._to_device(batch)
        self.batch_progress.increment_ready()
        connector.on_batch_start(batch)
        connector._current_fx = None  # until something is logged
        outputs = None
        if batch is None:
            self._warning_cache.warn("train_dataloader yielded None. If this was on purpose, ignore this warning...")
        elif self._call("on_train_batch_start", batch, batch_idx) == -1:
            self._skip_rest_of_epoch()
        else:
            self.batch_progress.increment_started()
            outputs = self._optimize(batch, batch_idx)
        self.batch_progress.increment_processed()
        self._update_lr_schedulers()
        self._call("on_train_batch_end", outputs, batch, batch_idx)
        if connector._current_fx is not None:
            connector.on_batch_end()
        self._results.batch = self._results.batch_size = None
        self.batch_progress.increment_completed()
        connector.update_train_step_metrics()

    def _to_device(self, batch: Any) -> Any:
        if self._complete is not None:
            return self._complete(batch, 0)
        batch = self.trainer.precision_plugin.convert_input(batch)
        batch = self.trainer.lightning_module._on_before_batch_transfer(batch)
        return self.trainer.strategy.batch_to_device(batch, dataloader_idx=0)

    def _call(self, name: str, *args: Any) -> Any:
        """Calls a hook of all callbacks that define it, then that of the module, whose result it returns."""
        trainer, module = self.trainer, self.trainer.lightning_module
        attributes = vars(module)  # setting one through the module takes longer than a hook
        attributes["_current_fx_name"] = name
        for hook in self._hooks[name]:
            hook(trainer, module, *args)
        result = getattr(module, name)(*args)
        attributes["_current_fx_name"] = None
        return result

    def _skip_rest_of_epoch(self) -> None:
        self.batch_progress.increment_by(0, is_last_batch=True)
        self.batch_progress.increment_processed()
        self._update_lr_schedulers()
        raise StopIteration

    def _update_lr_schedulers(self) -> None:
        if self.trainer.lr_scheduler_configs:
            self.update_lr_schedulers("step", update_plateau_schedulers=False)
            if self._num_ready_batches_reached():
                self.update_lr_schedulers("epoch", update_plateau_schedulers=False)

    def _build_kwargs(self, kwargs: "OrderedDict[str, Any]", batch: Any, batch_idx: int) -> "OrderedDict[str, Any]":
        kwargs["batch"] = batch
        if self._takes_index:
            kwargs["batch_idx"] = batch_idx
        return kwargs

    def _optimize(self, batch: Any, batch_idx: int) -> Any:
        """Forward pass, backward pass and optimizer's step; returns the outputs of the training step."""
        kwargs = self._build_kwargs(OrderedDict(), batch, batch_idx)
        if self._steps_itself and self.trainer.accumulate_grad_batches == 1:
            return self._step(*kwargs.values())
        if self.trainer.lightning_module.automatic_optimization:
            return self.automatic_optimization.run(self.trainer.optimizers[0], batch_idx, kwargs)
        return self.manual_optimization.run(kwargs)

    def _step(self, *batch: Any) -> dict[str, Any]:
        """As `_AutomaticOptimization.run`, for a step in which nobody else takes part."""
        trainer, module = self.trainer, self.trainer.lightning_module
        optimizer, progress = trainer.optimizers[0], self.automatic_optimization.optim_progress.optimizer

        def forward() -> ClosureResult:
            vars(module)["_current_fx_name"] = "training_step"
            with trainer.precision_plugin.train_step_context():
                made = module.training_step(*batch)
            vars(module)["_current_fx_name"] = None
            return ClosureResult(made) if isinstance(made, Tensor) else ClosureResult.from_training_step_output(made)

        def zero_grad() -> None:
            progress.zero_grad.increment_ready()
            progress.zero_grad.increment_started()
            optimizer.zero_grad()
            progress.zero_grad.increment_completed()

        def clipped() -> Tensor | None:
            loss = closure()
            if trainer.gradient_clip_val:
                module.clip_gradients(optimizer, trainer.gradient_clip_val, trainer.gradient_clip_algorithm)
            return loss

        closure = Closure(forward, Tensor.backward, zero_grad)
        progress.step.increment_ready()
        optimizer.step(closure=clipped)  # type: ignore[arg-type]
        progress.step.increment_completed()
        result = closure.consume_result()
        return {} if result.loss is None else result.asdict()


def _defines(own: object, kind: type, name: str) -> bool:
    """Whether an object's method is not the empty one of its kind."""
    return name in vars(own) or getattr(type(own), name) is not getattr(kind, name)
