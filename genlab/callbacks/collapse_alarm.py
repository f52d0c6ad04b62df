"""Tells when an adversarial training goes wrong."""

import math
import sys
from typing import Any, Literal, NamedTuple

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

from genlab.callbacks.run_record import RunRecord
from genlab.evaluation.step_scalars import StepScalars
from genlab.runs.wandb_run import RunLogger

Kind = Literal["collapsed", "saturated", "not_finite"]

FINITE = ("loss_d", "loss_g", "d_real")
WATCHED = (*FINITE, "d_fake")


class BestValue(NamedTuple):
    """The best value of a metric so far, and the epoch, counted from one, that it is of."""

    value: float
    epoch: int


class CollapseAlarm(Callback):
    """Says in one line on stderr when an adversarial training goes wrong, once for each time that it does.

    - collapsed: the samples cover fewer modes, or cover them less evenly, than they did (`val/modes`, `val/modes_kl`,
      which SampleQuality logs after validation).
    - saturated: the discriminator is sure of every image, and gives the generator next to nothing to learn from
      (Arjovsky and Bottou 2017, arXiv 1701.04862). Only where its output is a probability.
    - not_finite: a loss or the discriminator's output is NaN or infinite. A gradient that is not, on a step that
      fp16's scaler skips, is no alarm.

    The line is in the run's summary.json under `alarms`, a list of {epoch, step, kind, what} whose epochs and steps,
    which are batches, count from one; the kind is a tag of the run at W&B.

    Args:
        stop: end the training then; the best checkpoint is tested as after any training.
        coverage: the share of the most modes covered so far, below which samples have collapsed.
        kl: how many nats `val/modes_kl` may be above the lowest so far.
        saturation: D is sure when its mean output over `every_n_steps` steps is above this on real images and below 1
            minus this on generated ones.
        every_n_steps: how often the outputs of steps are looked at, which waits for the device once.

    Raises:
        ValueError: `coverage` is not in (0, 1], `kl` not positive, `saturation` not in [0.5, 1), or `every_n_steps`
            below one.
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
            raise ValueError(f"coverage is {coverage} and kl {kl}; they must be positive, and coverage at most 1")
        if not 0.5 <= saturation < 1:
            raise ValueError(f"saturation is {saturation}; it must be at least 0.5 and below 1")
        if every_n_steps < 1:
            raise ValueError(f"every_n_steps is {every_n_steps}; it must be at least 1")
        self.stop = stop
        self.coverage = coverage
        self.kl = kl
        self.saturation = saturation
        self.every_n_steps = every_n_steps
        self.alarms: list[dict[str, Any]] = []
        self._recent = StepScalars(*WATCHED)
        self._steps = 0
        self._ringing: set[Kind] = set()
        self._most_modes: BestValue | None = None
        self._least_kl: BestValue | None = None
        self._best: BestValue | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._recent.to(pl_module.device)
        if self.alarms and trainer.is_global_zero:  # of a run that goes on
            self._record(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not self._recent.add(outputs):
            return
        self._steps += 1
        if self._steps < self.every_n_steps:
            return
        readings = self._read()
        self._look_for("not_finite", trainer, _not_finite(readings))
        if getattr(getattr(pl_module, "objective", None), "score_is_probability", False):
            self._look_for("saturated", trainer, self._saturated(readings))
        self._recent.clear()
        self._steps = 0

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        epoch = trainer.current_epoch + 1
        self._best = _best_checkpoint(trainer, epoch, self._best)
        if self._steps:  # fewer than enough to tell of anything else
            self._look_for("not_finite", trainer, _not_finite(self._read()))
        metrics = trainer.callback_metrics
        if "val/modes" in metrics:
            kl = float(metrics["val/modes_kl"]) if "val/modes_kl" in metrics else 0.0
            self._look_for("collapsed", trainer, self._collapsed(float(metrics["val/modes"]), kl, epoch))

    def _read(self) -> dict[str, float]:
        """The mean of each watched scalar over the steps since the last look, by one wait for the device."""
        means = {name: self._recent.values(name).mean() for name in WATCHED if self._recent.count(name)}
        return dict(zip(means, torch.stack(list(means.values())).tolist(), strict=True))

    def _saturated(self, means: dict[str, float]) -> str | None:
        real, fake = means.get("d_real", 0.5), means.get("d_fake", 0.5)
        if not (real > self.saturation and fake < 1 - self.saturation):
            return None
        return (
            "the discriminator is sure of every image: over the last"
            f" {self.every_n_steps} steps it gave real ones {real:.4f} and generated ones {fake:.4f} on average"
        )

    def _collapsed(self, modes: float, kl: float, epoch: int) -> str | None:
        most, least = self._most_modes, self._least_kl
        if most is None or modes > most.value:
            self._most_modes = most = BestValue(modes, epoch)
        if least is None or kl < least.value:
            self._least_kl = least = BestValue(kl, epoch)
        seen = []
        if modes < self.coverage * most.value:
            now = "1 mode" if modes == 1 else f"{modes:.0f} modes"
            seen.append(f"the samples cover {now}, where they covered {most.value:.0f} after epoch {most.epoch}")
        if kl > least.value + self.kl:
            seen.append(
                f"the samples' shares of the modes are {kl:.2f} nats from equal ones,"
                f" where they were {least.value:.2f} after epoch {least.epoch}"
            )
        return " and ".join(seen) or None

    def _look_for(self, kind: Kind, trainer: Trainer, what: str | None) -> None:
        """Rings where something is seen that was not seen at the last look; all processes have the same numbers."""
        if what is None:
            self._ringing.discard(kind)
        elif kind not in self._ringing:
            self._ringing.add(kind)
            self._ring(kind, trainer, what)

    def _ring(self, kind: Kind, trainer: Trainer, what: str) -> None:
        epoch, step = trainer.current_epoch + 1, trainer.fit_loop.epoch_loop.total_batch_idx + 1
        best = "" if self._best is None else f"; best.ckpt is of epoch {self._best.epoch}"
        self.alarms.append({"epoch": epoch, "step": step, "kind": kind, "what": what})
        if trainer.is_global_zero:
            stops = "; training stops here" if self.stop else ""
            print(f"collapse alarm, epoch {epoch}, step {step}: {what}{best}{stops}", file=sys.stderr, flush=True)
            self._record(trainer)
        if self.stop:
            trainer.should_stop = True

    def _record(self, trainer: Trainer) -> None:
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, RunRecord):
                callback.note(alarms=self.alarms)
        for logger in trainer.loggers:
            if isinstance(logger, RunLogger):
                for alarm in self.alarms:
                    logger.tag(alarm["kind"])

    def state_dict(self) -> dict[str, Any]:
        return {
            "alarms": self.alarms,
            "ringing": sorted(self._ringing),
            "extremes": [None if e is None else list(e) for e in (self._most_modes, self._least_kl, self._best)],
            "recent": self._recent.state_dict(),
            "steps": self._steps,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.alarms = state_dict["alarms"]
        self._ringing = set(state_dict["ringing"])
        extremes = [None if e is None else BestValue(*e) for e in state_dict["extremes"]]
        self._most_modes, self._least_kl, self._best = extremes
        self._recent.load_state_dict(state_dict["recent"])
        self._steps = state_dict["steps"]


def _not_finite(means: dict[str, float]) -> str | None:
    names = [name for name in FINITE if not math.isfinite(means.get(name, 0.0))]
    if not names:
        return None
    *others, last = names
    return f"{', '.join(others)} and {last} are NaN or infinite" if others else f"{last} is NaN or infinite"


def _best_checkpoint(trainer: Trainer, epoch: int, before: BestValue | None) -> BestValue | None:
    """The score of best.ckpt and its epoch, which is this one where the score has changed."""
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, ModelCheckpoint) and callback.filename == "best":
            score = callback.best_model_score
            if score is not None and (before is None or float(score) != before.value):
                return BestValue(float(score), epoch)
    return before
