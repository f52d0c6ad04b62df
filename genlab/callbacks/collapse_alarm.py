import math
import sys
from typing import Any, Literal

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch.nn.utils import get_total_norm

from genlab.callbacks.checkpoints import BestCheckpoint
from genlab.callbacks.run_record import RunRecord
from genlab.evaluation.collapse import (
    STEP_SCALARS,
    WEIGHTS,
    BestValue,
    CoverageHistory,
    describe_not_finite,
    describe_saturation,
)
from genlab.evaluation.step_scalars import StepScalars
from genlab.runs.wandb_run import RunLogger

Kind = Literal["collapsed", "saturated", "not_finite"]


class CollapseAlarm(Callback):
    """Prints a line to stderr when a training goes wrong, once for each time that it does.

    - not_finite, for every model: a loss, the discriminator's output, a weight or the validation metric that selects
      the best checkpoint is NaN or infinite. A step that the gradient scaler of fp16 skips for its gradients is no
      alarm.
    - collapsed, for adversarial models: the samples cover fewer modes, or cover them less evenly, than before
      (`val/modes`, `val/modes_kl`, which SampleQuality logs after validation).
    - saturated, for adversarial models: the discriminator is certain of every image, so that the generator gets almost
      no gradient (Arjovsky and Bottou 2017, arXiv 1701.04862). Only for a discriminator whose output is a probability.

    summary.json has the alarms under `alarms`, a list of {epoch, step, kind, what}, with epochs and steps (batches)
    counted from one. The W&B run is tagged with the kind, and the first alarm of a run is an alert (WARN) on W&B.

    Args:
        stop: End the training at an alarm. The best checkpoint is tested as after any training.
        coverage: Share of the largest number of modes so far, below which the samples have collapsed.
        kl: Nats by which `val/modes_kl` may exceed its lowest value so far.
        saturation: The discriminator is certain if its mean output over `every_n_steps` steps is above this for real
            images and below 1 minus this for generated ones.
        every_n_steps: Steps between two checks of the outputs of steps and of the weights, which are also checked at
            the end of each epoch. A check waits for the device once.

    Raises:
        ValueError: `coverage` is not in (0, 1], `kl` not positive, `saturation` not in [0.5, 1), or `every_n_steps`
            below 1.
    """

    def __init__(
        self,
        stop: bool = False,
        coverage: float = 0.7,
        kl: float = 0.5,
        saturation: float = 0.99,
        every_n_steps: int = 100,
    ) -> None:
        if not (0 < coverage <= 1 and kl > 0):
            raise ValueError(f"alarm.coverage is {coverage} and kl {kl}; they must be positive, and coverage at most 1")
        if not 0.5 <= saturation < 1:
            raise ValueError(f"alarm.saturation is {saturation}; it must be at least 0.5 and below 1")
        if every_n_steps < 1:
            raise ValueError(f"alarm.every_n_steps is {every_n_steps}; it must be at least 1")
        self.stop = stop
        self.saturation = saturation
        self.every_n_steps = every_n_steps
        self.alarms: list[dict[str, Any]] = []
        self._scalars = StepScalars(*STEP_SCALARS)
        self._steps = 0
        self._active: set[Kind] = set()
        self._history = CoverageHistory(coverage, kl)
        self._best: BestValue | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._scalars.to(pl_module.device)
        if self.alarms and trainer.is_global_zero:  # a resumed run
            self._record(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not self._scalars.add(outputs):
            return
        self._steps += 1
        if self._steps < self.every_n_steps:
            return
        means = self._means()
        self._check_finite(trainer, pl_module, means)
        if getattr(getattr(pl_module, "objective", None), "score_is_probability", False):
            self._check("saturated", trainer, describe_saturation(means, self.saturation, self.every_n_steps))
        self._scalars.clear()
        self._steps = 0

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        epoch = trainer.current_epoch + 1
        self._best = _best_checkpoint(trainer, epoch, self._best)
        self._check_finite(trainer, pl_module, self._means() if self._steps else {})
        metrics = trainer.callback_metrics
        if "val/modes" in metrics:
            kl = float(metrics["val/modes_kl"]) if "val/modes_kl" in metrics else 0.0
            self._check("collapsed", trainer, self._history.describe_collapse(float(metrics["val/modes"]), kl, epoch))

    def _means(self) -> dict[str, float]:
        """The mean of each scalar over the steps since the last check; waits for the device once."""
        means = {name: self._scalars.values(name).mean() for name in STEP_SCALARS if self._scalars.count(name)}
        return dict(zip(means, torch.stack(list(means.values())).tolist(), strict=True))

    def _check_finite(self, trainer: Trainer, module: LightningModule, means: dict[str, float]) -> None:
        values = means | {WEIGHTS: _norm(module)}
        selects = getattr(module, "monitor", None)
        if selects and selects[0] in trainer.callback_metrics:
            values[selects[0]] = float(trainer.callback_metrics[selects[0]])
        what = describe_not_finite(values)
        if means or what is not None:  # without a step since the last check, its alarm is still active
            self._check("not_finite", trainer, what)

    def _check(self, kind: Kind, trainer: Trainer, what: str | None) -> None:
        """Raises the alarm for a fault that was not there at the last check. All processes have the same values."""
        if what is None:
            self._active.discard(kind)
        elif kind not in self._active:
            self._active.add(kind)
            self._raise_alarm(kind, trainer, what)

    def _raise_alarm(self, kind: Kind, trainer: Trainer, what: str) -> None:
        epoch, step = trainer.current_epoch + 1, trainer.fit_loop.epoch_loop.total_batch_idx + 1
        best = "" if self._best is None else f"; best.ckpt is of epoch {self._best.epoch}"
        self.alarms.append({"epoch": epoch, "step": step, "kind": kind, "what": what})
        if trainer.is_global_zero:
            stops = "; training stops here" if self.stop else ""
            text = f"epoch {epoch}, step {step}: {what}{best}{stops}"
            print(f"alarm, {text}", file=sys.stderr, flush=True)
            self._record(trainer)
            if len(self.alarms) == 1:
                _alert(trainer, text)
        if self.stop:
            trainer.should_stop = True

    def _record(self, trainer: Trainer) -> None:
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, RunRecord):
                callback.update(alarms=self.alarms)
        for logger in trainer.loggers:
            if isinstance(logger, RunLogger):
                for alarm in self.alarms:
                    logger.tag(alarm["kind"])

    def state_dict(self) -> dict[str, Any]:
        return {
            "alarms": self.alarms,
            "active": sorted(self._active),
            "history": self._history.state_dict(),
            "best": None if self._best is None else list(self._best),
            "scalars": self._scalars.state_dict(),
            "steps": self._steps,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.alarms = state_dict["alarms"]
        self._active = set(state_dict["active"])
        self._history.load_state_dict(state_dict["history"])
        self._best = None if state_dict["best"] is None else BestValue(*state_dict["best"])
        self._scalars.load_state_dict(state_dict["scalars"])
        self._steps = state_dict["steps"]


def _norm(module: LightningModule) -> float:
    """A norm of the weights, which is NaN or infinite exactly if a weight is."""
    weights = list(module.parameters())
    norm = float(get_total_norm(weights))  # on a CPU many times faster than the largest weight, but it may overflow
    return norm if math.isfinite(norm) else float(get_total_norm(weights, norm_type=math.inf))


def _alert(trainer: Trainer, text: str) -> None:
    for logger in trainer.loggers:
        if isinstance(logger, RunLogger):
            logger.alert("The training goes wrong", text)


def _best_checkpoint(trainer: Trainer, epoch: int, before: BestValue | None) -> BestValue | None:
    """The score of best.ckpt and its epoch, which is the current one if the score has changed."""
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, BestCheckpoint):
            score = callback.score
            if score is not None and (before is None or score != before.value):
                return BestValue(score, epoch)
    return before
