import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from genlab.callbacks.collapse_alarm import CollapseAlarm
from genlab.runs.folder import read_summary
from genlab.runs.wandb_run import RunLogger
from tests.genlab.callbacks.scripted_training import HEALTHY, Script, train

CERTAIN = HEALTHY | {"d_real": 0.999, "d_fake": 0.002}
NAN = HEALTHY | {"loss_g": math.nan}


def scores(*modes: int, kl: float = 0.01) -> list[dict[str, float]]:
    """The validation metrics of each epoch; more modes have a smaller distance."""
    return [{"val/modes": float(m), "val/modes_kl": kl, "val/distance": 20.0 - m} for m in modes]


def alarms(folder: Path) -> list[tuple[str, int, int]]:
    summary = read_summary(folder)
    assert summary is not None and summary["state"] == "finished"
    return [(alarm["kind"], alarm["epoch"], alarm["step"]) for alarm in summary.get("alarms", [])]


def between(first: int, last: int, step_in: dict[str, float]) -> Any:
    return lambda step: step_in if first <= step < last else HEALTHY


def test_no_alarm_for_a_healthy_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Coverage grows and varies a little, a gradient is infinite, and D is saturated for less than a window."""

    def step_of(step: int) -> dict[str, float]:
        return (CERTAIN if step % 10 < 5 else HEALTHY) | {"grad_norm_g": math.inf if step == 3 else 1.0}

    model = Script(step_of, scores(2, 8, 10, 7, 9))
    train(tmp_path, model, [CollapseAlarm(every_n_steps=10)], epochs=5, steps=12)
    assert alarms(tmp_path) == [] and "alarm" not in capsys.readouterr().err


def test_falling_coverage_raises_one_alarm_a_fall(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    model = Script(lambda step: HEALTHY, scores(4, 10, 9, 3, 2, 10, 6))
    train(tmp_path, model, [CollapseAlarm()], epochs=7, steps=4)
    assert alarms(tmp_path) == [("collapsed", 4, 16), ("collapsed", 7, 28)]
    first, second = capsys.readouterr().err.splitlines()
    what = "the samples cover 3 modes, down from 10 after epoch 2"
    assert first == f"alarm, epoch 4, step 16: {what}; best.ckpt is of epoch 2"
    assert "cover 6 modes" in second
    summary = read_summary(tmp_path)
    assert summary is not None and summary["alarms"][0]["what"] == what


def test_uneven_coverage_raises_an_alarm(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    model = Script(lambda step: HEALTHY, [*scores(10), *scores(10, kl=0.5), *scores(10, kl=0.9)])
    train(tmp_path, model, [CollapseAlarm()], epochs=3, steps=2)
    assert alarms(tmp_path) == [("collapsed", 3, 6)]
    wanted = "the KL divergence of the samples' modes from uniform is 0.90 nats, up from 0.01 after epoch 1"
    assert wanted in capsys.readouterr().err


def test_a_saturated_discriminator_raises_one_alarm_an_episode(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Windows of ten steps, epochs of 25: saturated in steps 10 to 40 and 50 to 60, with a healthy window between."""

    def step_of(step: int) -> dict[str, float]:
        return CERTAIN if 10 <= step < 40 or 50 <= step < 60 else HEALTHY

    train(tmp_path, Script(step_of), [CollapseAlarm(every_n_steps=10)], epochs=3, steps=25)
    assert alarms(tmp_path) == [("saturated", 1, 20), ("saturated", 3, 60)]
    said = capsys.readouterr().err.splitlines()
    assert "over the last 10 steps its mean output was 0.9990 for real images and 0.0020 for generated ones" in said[0]
    assert "best.ckpt" not in said[0]


@pytest.mark.parametrize("step", [HEALTHY | {"d_real": 0.999}, HEALTHY | {"d_fake": 0.001}, {"loss_d": 1.0}])
def test_no_alarm_if_only_one_mean_output_is_saturated(step: dict[str, float], tmp_path: Path):
    train(tmp_path, Script(lambda _: step), [CollapseAlarm(every_n_steps=5)], epochs=1, steps=20)
    assert alarms(tmp_path) == []


def test_no_saturation_without_probabilities(tmp_path: Path):
    step = HEALTHY | {"d_real": 40.0, "d_fake": -40.0}
    train(tmp_path, Script(lambda _: step, probability=False), [CollapseAlarm(every_n_steps=5)], epochs=1, steps=20)
    assert alarms(tmp_path) == []


@pytest.mark.parametrize("name", ["loss", "loss_d", "loss_g", "d_real"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_one_step_that_is_not_finite_raises_an_alarm(
    name: str, value: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    model = Script(between(13, 14, HEALTHY | {name: value}))
    train(tmp_path, model, [CollapseAlarm(every_n_steps=10)], epochs=1, steps=30)
    assert alarms(tmp_path) == [("not_finite", 1, 20)]
    assert capsys.readouterr().err == f"alarm, epoch 1, step 20: {name} is NaN or infinite\n"


def test_the_end_of_a_short_training_is_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    train(tmp_path, Script(between(2, 9, NAN | {"loss_d": math.inf})), [CollapseAlarm()], epochs=3, steps=3)
    assert alarms(tmp_path) == [("not_finite", 1, 3)]
    assert "loss_d and loss_g are NaN or infinite" in capsys.readouterr().err


@pytest.mark.parametrize("stop", [False, True])
def test_the_alarm_stops_the_training_if_set(stop: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    alarm = CollapseAlarm(stop=stop, every_n_steps=10)
    trainer = train(tmp_path, Script(between(12, 100, NAN)), [alarm], epochs=2, steps=40)
    assert trainer.fit_loop.epoch_loop.total_batch_idx + 1 == (20 if stop else 80)
    assert alarms(tmp_path) == [("not_finite", 1, 20)]
    assert capsys.readouterr().err.endswith("; training stops here\n") == stop


def test_a_collapse_stops_the_training_and_keeps_the_best_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    trainer = train(tmp_path, Script(lambda _: HEALTHY, scores(9, 10, 1, 1)), [CollapseAlarm(stop=True)], 4, 3)
    assert trainer.current_epoch == 3 and alarms(tmp_path) == [("collapsed", 3, 9)]
    assert "cover 1 mode, down from 10 after epoch 2; best.ckpt is of epoch 2;" in capsys.readouterr().err
    best = torch.load(tmp_path / "checkpoints" / "best.ckpt", weights_only=True)
    assert best["epoch"] == 1
    assert (tmp_path / "checkpoints" / "last.ckpt").is_file()


def test_a_resumed_run_keeps_its_alarms_and_history(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """The alarms stay in the summary, an active one is not raised again, and the best coverage is the earlier one."""
    model = Script(between(0, 100, CERTAIN), scores(10, 9, 9, 3))
    train(tmp_path, model, [CollapseAlarm(every_n_steps=8)], epochs=2, steps=10)
    assert alarms(tmp_path) == [("saturated", 1, 8)]
    capsys.readouterr()
    last = tmp_path / "checkpoints" / "last.ckpt"
    train(tmp_path, model, [CollapseAlarm(every_n_steps=8)], epochs=4, steps=10, checkpoint=last)
    assert alarms(tmp_path) == [("saturated", 1, 8), ("collapsed", 4, 40)]
    what = "the samples cover 3 modes, down from 10 after epoch 1; best.ckpt is of epoch 1"
    assert capsys.readouterr().err == f"alarm, epoch 4, step 40: {what}\n"


def test_windows_continue_in_a_resumed_run(tmp_path: Path):
    """Steps 0 to 4 are healthy, so that a window of 15 steps is saturated only from step 15 on."""
    train(tmp_path, Script(between(5, 100, CERTAIN)), [CollapseAlarm(every_n_steps=15)], epochs=1, steps=10)
    last = tmp_path / "checkpoints" / "last.ckpt"
    train(tmp_path, Script(between(15, 30, CERTAIN)), [CollapseAlarm(every_n_steps=15)], 3, 10, checkpoint=last)
    assert alarms(tmp_path) == [("saturated", 3, 30)]


class Diverging(Script):
    """Its losses are finite, and its weights are not."""

    def on_train_batch_end(self, *_: Any) -> None:
        self.weight.data.fill_(math.nan)


def test_weights_that_are_not_finite_raise_an_alarm(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    train(tmp_path, Diverging(lambda _: HEALTHY), [CollapseAlarm(stop=True)], epochs=3, steps=4)
    assert alarms(tmp_path) == [("not_finite", 1, 4)]
    assert capsys.readouterr().err == "alarm, epoch 1, step 4: the weights are NaN or infinite; training stops here\n"


def test_a_selecting_metric_that_is_not_finite_raises_an_alarm(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    model: Any = Script(lambda _: HEALTHY, [{"val/distance": value} for value in (1.0, math.inf, math.nan, 2.0)])
    model.monitor = ("val/distance", "min")
    train(tmp_path, model, [CollapseAlarm(every_n_steps=2)], epochs=4, steps=3)
    assert alarms(tmp_path) == [("not_finite", 2, 6)]
    what = "val/distance is NaN or infinite; best.ckpt is of epoch 1"
    assert capsys.readouterr().err == f"alarm, epoch 2, step 6: {what}\n"


def test_the_wandb_run_is_tagged_and_alerts_once(tmp_path: Path):
    alerts: list[tuple[str, str]] = []
    run = SimpleNamespace(tags=("small",), alert=lambda title, text, level: alerts.append((text, level)))
    logger = RunLogger(tmp_path, "offline", {})
    logger._experiment = run
    progress = SimpleNamespace(epoch_loop=SimpleNamespace(total_batch_idx=4))
    trainer: Any = SimpleNamespace(
        callbacks=[], loggers=[logger], current_epoch=1, fit_loop=progress, is_global_zero=True
    )
    alarm = CollapseAlarm()
    for kind in ("saturated", "not_finite", "saturated"):
        alarm._raise_alarm(kind, trainer, f"it is {kind}")  # type: ignore[arg-type]
    assert run.tags == ("small", "saturated", "not_finite")
    assert alerts == [("epoch 2, step 5: it is saturated", "WARN")]
    del run.alert
    CollapseAlarm()._raise_alarm("saturated", trainer, "W&B fails")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"coverage": 0.0}, "coverage is 0.0"),
        ({"kl": 0.0}, "kl 0.0"),
        ({"saturation": 1.0}, "saturation is 1.0"),
        ({"every_n_steps": 0}, "every_n_steps is 0"),
    ],
)
def test_invalid_arguments_are_refused(arguments: dict[str, Any], words: str):
    with pytest.raises(ValueError, match=words):
        CollapseAlarm(**arguments)
