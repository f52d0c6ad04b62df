"""A run that was stopped and resumed ends as the one that never stopped, to the last bit."""

import csv
import os
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch.strategies import SingleDeviceStrategy

import train
from genlab.callbacks import RunRecord
from genlab.cli.resume import ResumePoint
from genlab.cli.train import command
from genlab.runs.checkpoint_io import AtomicCheckpointIO
from genlab.runs.errors import UsageError
from genlab.runs.folder import read_summary
from genlab.runs.history import MetricsCSV
from lit_models import CheckpointError, Classifier
from tests import HANG_SECONDS, wait_for
from tests.helpers import same, start_program, stop_at, weights

EPOCHS, BATCHES = 3, 9
# Dropout, shifts, batch norm and a one-cycle rate: anything that a resumed run could get wrong shows in the weights.
CONFIG = """
seed_everything: 0
trainer: {max_epochs: 3, log_every_n_steps: 4, accelerator: cpu}
model: {class_path: Classifier, init_args: {channels: [4, 8], dropout: 0.5}}
data: {class_path: DigitsDataModule, init_args: {batch_size: 128, shift: 1}}
run: {pictures: false}
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "resume.yaml"
    path.write_text(CONFIG)
    return path


def run(config: Path, root: Path, *args: str) -> train.Result:
    return train.main(["fit", f"--config={config}", f"--run.root={root}", *args])


@pytest.fixture(scope="module")
def whole(config: Path, tmp_path_factory: pytest.TempPathFactory) -> train.Result:
    return run(config, tmp_path_factory.mktemp("whole"))


def history(folder: Path) -> list[list[str]]:
    return list(csv.reader(open(folder / "metrics.csv")))


def assert_equal(resumed: train.Result, whole: train.Result) -> None:
    assert same(weights(resumed.folder), weights(whole.folder))
    assert same(weights(resumed.folder, "best.ckpt"), weights(whole.folder, "best.ckpt"))
    assert resumed.metrics == whole.metrics
    assert history(resumed.folder) == history(whole.folder)
    summary, expected = read_summary(resumed.folder), read_summary(whole.folder)
    assert summary["state"] == "finished"
    assert all(summary[key] == expected[key] for key in ("metrics", "images_seen"))
    assert loops(resumed.folder) == loops(whole.folder)


def loops(folder: Path) -> dict[str, Any]:
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["loops"]


@pytest.mark.parametrize("batch", [1, 4, BATCHES, BATCHES + 5, EPOCHS * BATCHES])
def test_resume_is_exact_after_a_signal(batch: int, config: Path, whole: train.Result, tmp_path: Path):
    with pytest.raises(SystemExit):
        run(config, tmp_path, "--run.name=x", *stop_at(batch, "term"))
    folder = tmp_path / "resume" / "x"
    assert read_summary(folder)["state"] == "killed"
    saved = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
    assert saved == batch  # the step in hand was finished and nothing was lost
    moved = folder.rename(tmp_path / "moved")
    resumed = run(config, tmp_path, f"--ckpt_path={moved}/checkpoints/last.ckpt")
    assert resumed.folder == moved
    assert yaml.safe_load((moved / "config.yaml").read_text())["run"]["name"] == "moved"
    assert_equal(resumed, whole)


class Killed(BaseException):
    """Ends a run where it is raised. Nothing that a run does about an error helps it to resume."""


@pytest.mark.parametrize(
    ("owner", "name", "call", "when"),
    [
        (AtomicCheckpointIO, "save_checkpoint", 5, "after"),  # last.ckpt, before its step is in metrics.csv
        (Classifier, "training_step", BATCHES + 8, "before"),
        (MetricsCSV, "log_metrics", 8, "before"),  # the metrics of the second validation, which is the best one
        (AtomicCheckpointIO, "save_checkpoint", 7, "after"),  # best.ckpt of that validation
        (
            Classifier,
            "validation_step",
            1 + EPOCHS,
            "after",
        ),  # the last validation; the first is Lightning's check
        (AtomicCheckpointIO, "save_checkpoint", 11, "after"),  # last.ckpt of the last epoch
        (Classifier, "test_step", 1, "after"),
        (RunRecord, "finish", 1, "before"),
    ],
)
def test_resume_is_exact_after_a_kill_at_any_moment(
    owner: type, name: str, call: int, when: str, config: Path, whole: train.Result, tmp_path: Path, monkeypatch
):
    function, calls = getattr(owner, name), []

    def killed(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if when == "before" and len(calls) == call:
            raise Killed
        result = function(*args, **kwargs)
        if when == "after" and len(calls) == call:
            raise Killed
        return result

    often = "--checkpoint.every_n_steps=3"
    monkeypatch.setattr(owner, name, killed)
    with pytest.raises(Killed):
        run(config, tmp_path, "--run.name=x", often)
    monkeypatch.undo()
    assert_equal(run(config, tmp_path, f"--ckpt_path={tmp_path}/resume/x/checkpoints/last.ckpt", often), whole)


def test_a_training_that_was_ended_early_does_not_go_on_after_a_kill(config: Path, tmp_path: Path, monkeypatch):
    args = ["fit", f"--config={config}", f"--run.root={tmp_path}"]
    whole = train.main([*args, "--run.name=whole"], lambda progress: True)

    def killed(self: RunRecord, metrics: dict[str, float]) -> None:
        raise Killed

    monkeypatch.setattr(RunRecord, "finish", killed)
    with pytest.raises(Killed):
        train.main([*args, "--run.name=x"], lambda progress: True)
    monkeypatch.undo()
    resumed = run(config, tmp_path, f"--ckpt_path={tmp_path}/resume/x/checkpoints/last.ckpt")
    assert_equal(resumed, whole)
    assert read_summary(resumed.folder)["ended_early"]


def test_a_signal_before_a_validation_within_an_epoch_ends_the_run_a_batch_later(config: Path, tmp_path: Path):
    often = ("--trainer.val_check_interval=4", "--trainer.max_epochs=1")
    whole = run(config, tmp_path, *often, "--run.name=whole")
    with pytest.raises(SystemExit):
        run(config, tmp_path, *often, "--run.name=x", *stop_at(4, "term"))
    last = tmp_path / "resume" / "x" / "checkpoints" / "last.ckpt"
    assert torch.load(last, weights_only=True)["global_step"] == 5
    assert_equal(run(config, tmp_path, *often, f"--ckpt_path={last}"), whole)


@pytest.mark.parametrize("batch", [2, 5, BATCHES + 3])
def test_resume_is_exact_in_the_middle_of_accumulated_gradients(batch: int, config: Path, tmp_path: Path):
    accumulate = "--trainer.accumulate_grad_batches=4"
    whole = run(config, tmp_path, accumulate, "--run.name=whole")
    with pytest.raises(SystemExit):
        run(config, tmp_path, accumulate, "--run.name=x", *stop_at(batch, "term"))
    folder = tmp_path / "resume" / "x"
    resumed = run(config, tmp_path, accumulate, f"--ckpt_path={folder}/checkpoints/last.ckpt")
    assert same(weights(resumed.folder), weights(whole.folder)) and resumed.metrics == whole.metrics


def start(config: Path, root: Path, *args: str) -> subprocess.Popen[str]:
    return start_program("train.py", "fit", f"--config={config}", f"--run.root={root}", *args)


def test_a_killed_process_resumes_exactly(config: Path, whole: train.Result, tmp_path: Path):
    """SIGKILL between two checkpoints: nothing that the process did about it can have helped."""
    killed = start(config, tmp_path, "--run.name=k", "--checkpoint.every_n_steps=3", *stop_at(BATCHES + 8, "kill"))
    killed.communicate(timeout=HANG_SECONDS)
    assert killed.returncode == -signal.SIGKILL
    folder = next((tmp_path / "resume").iterdir())
    assert read_summary(folder)["state"] == "running"
    resumed = start(config, tmp_path, "--run.name=k", "--ckpt_path=last")
    output, _ = resumed.communicate(timeout=HANG_SECONDS)
    assert resumed.returncode == 0, output
    assert same(weights(folder), weights(whole.folder))
    assert read_summary(folder)["metrics"]["test/accuracy"] == whole.metrics["test/accuracy"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_from_outside_saves_and_marks_the_run_killed(number: signal.Signals, config: Path, tmp_path: Path):
    process = start(config, tmp_path, "--trainer.max_epochs=100000")
    folder = tmp_path / "resume" / "max_epochs=100000"
    wait_for((folder / "checkpoints" / "last.ckpt").exists)
    process.send_signal(number)
    output, _ = process.communicate(timeout=HANG_SECONDS)
    assert process.returncode == 143, output
    assert "--ckpt_path last" in output and "Traceback" not in output
    assert read_summary(folder)["state"] == "killed"
    torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)


def test_last_starts_afresh_where_there_is_nothing_to_resume(config: Path, tmp_path: Path, capsys):
    folder = run(config, tmp_path, "--ckpt_path=last", "--trainer.max_epochs=1").folder
    assert (
        f"there is no {folder}/checkpoints/last.ckpt; training starts from the beginning\n" in capsys.readouterr().out
    )


def test_last_finds_the_newest_of_numbered_runs(config: Path, tmp_path: Path):
    for _ in range(2):
        with pytest.raises(SystemExit):
            run(config, tmp_path, "--run.name=n", *stop_at(3, "term"))
    assert run(config, tmp_path, "--run.name=n", "--ckpt_path=last").folder.name == "n-2"


def test_a_resumed_run_can_be_given_more_epochs(config: Path, whole: train.Result, tmp_path: Path):
    short = run(config, tmp_path, "--trainer.max_epochs=1", "--model.lr_schedule=constant", "--run.name=x")
    last = short.folder / "checkpoints" / "last.ckpt"
    more = train.main(["fit", f"--ckpt_path={last}", "--trainer.max_epochs=3", "--model.lr_schedule=constant"])
    straight = run(config, tmp_path, "--trainer.max_epochs=3", "--model.lr_schedule=constant", "--run.name=y")
    assert more.folder == short.folder and same(weights(more.folder), weights(straight.folder))


def test_a_one_cycle_run_that_is_given_more_epochs_goes_on_along_the_longer_cycle(config: Path, tmp_path: Path):
    short = run(config, tmp_path, "--trainer.max_epochs=1", "--run.name=x")
    options = ["--trainer.max_epochs=4", "--model.optimizer.lr=0.002"]
    more = train.main(["fit", f"--ckpt_path={short.folder}/checkpoints/last.ckpt", *options])
    saved = torch.load(more.folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert saved["global_step"] == 4 * BATCHES and saved["lr_schedulers"][0]["total_steps"] == 4 * BATCHES
    straight = run(config, tmp_path, *options, "--run.name=y")
    expected = torch.load(straight.folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert saved["lr_schedulers"][0]["_last_lr"] == pytest.approx(expected["lr_schedulers"][0]["_last_lr"])
    groups = [contents["optimizer_states"][0]["param_groups"][0] for contents in (saved, expected)]
    assert all(groups[0][name] == pytest.approx(groups[1][name]) for name in ("lr", "initial_lr", "max_lr", "min_lr"))


def snapshot(folder: Path) -> dict[str, tuple[bytes, int]]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


ADVICE = "leave the option out to continue the run, or start a new run from its weights with --init_from"
FIXED = " cannot change in a resumed run: the checkpoint has {}, the command {}; " + ADVICE
LONGER = "--trainer.max_epochs=4"


@pytest.mark.parametrize(
    ("checkpoint", "options", "complaint"),
    [
        ("best", [LONGER], "/last.ckpt, or start a new run from these weights with --init_from {}"),
        ("last", ["--trainer.max_epochs=2"], "3 epochs are done in {}; give --trainer.max_epochs above 3"),
        ("last", ["--run.name=new"], "nothing is left to train for a new run in"),
        ("last", ["--trainer.max_steps=26"], "27 steps are done in {}; give --trainer.max_steps above 27"),
        (
            "last",
            ["--model.dropout=0.1"],
            "--model.dropout has no effect, as nothing is left to train: 3 epochs are done",
        ),
        (
            "last",
            [LONGER, "--model.channels=[4, 6]"],
            "{} does not fit: it has --model.channels [4, 8], and the command [4, 6]; " + ADVICE,
        ),
        ("last", [LONGER, "--model.optimizer=SGD"], "--model.optimizer" + FIXED.format("Adam", "SGD")),
        (
            "last",
            [LONGER, "--model.optimizer.amsgrad=true"],
            "--model.optimizer.amsgrad" + FIXED.format("false", "true"),
        ),
        ("last", [LONGER, "--model.lr_schedule=constant"], "--model.lr_schedule" + FIXED.format("OneCycleLR", "none")),
        ("last", [LONGER, "--config=autoencoder_digits"], "--model" + FIXED.format("Classifier", "Autoencoder")),
        (
            "last",
            [LONGER, "--data=MNISTDataModule", "--data.root=nowhere"],  # whose images are not read
            "--data" + FIXED.format("DigitsDataModule", "MNISTDataModule"),
        ),
        ("last", [LONGER, "--seed_everything=1"], "--seed_everything" + FIXED.format("0", "1")),
        ("last", [LONGER, "--data.val_size=100"], "--data.val_size" + FIXED.format("200", "100")),
        ("last", [LONGER, "--data.batch_size=64"], "not under a learning-rate schedule"),
        ("last", [LONGER, "--init_from=x.ckpt"], "--init_from is for a new run, and --ckpt_path resumes one"),
    ],
)
def test_a_refused_resume_is_one_line_and_leaves_the_run_as_it_was(
    checkpoint: str, options: list[str], complaint: str, whole: train.Result, capsys, monkeypatch
):
    monkeypatch.setenv("WANDB_MODE", "offline")  # nothing goes to W&B either
    path = whole.folder / "checkpoints" / f"{checkpoint}.ckpt"
    before = snapshot(whole.folder.parent)
    assert command(["fit", f"--ckpt_path={path}", *options]) == 2
    (said,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert complaint.replace("{}", str(path)) in said
    assert snapshot(whole.folder.parent) == before


def test_machines_that_find_different_checkpoints_do_not_train(whole: train.Result, capsys, monkeypatch):
    """The first machine, which broadcasts, finds none."""
    monkeypatch.setattr(SingleDeviceStrategy, "broadcast", lambda strategy, found: "none")
    before = snapshot(whole.folder.parent)
    assert command(["fit", f"--ckpt_path={whole.folder}/checkpoints/last.ckpt", LONGER]) == 2
    assert f"different checkpoints of {whole.folder} (this machine: after 27 steps); copy" in capsys.readouterr().err
    assert snapshot(whole.folder.parent) == before


@pytest.mark.parametrize("subcommand", ["test", "predict"])
def test_an_evaluation_names_the_option_that_does_not_fit(subcommand: str, whole: train.Result):
    best = whole.folder / "checkpoints" / "best.ckpt"
    with pytest.raises(CheckpointError, match=r"it has --model.channels \[4, 8\], and the command \[4, 6\]"):
        train.main([subcommand, f"--ckpt_path={best}", "--model.channels=[4, 6]"])


def test_what_changes_on_resume_is_applied_said_and_recorded(config: Path, tmp_path: Path, capsys):
    constant = ["--model.lr_schedule=constant", "--run.name=x"]
    first = run(config, tmp_path, "--trainer.max_epochs=1", *constant)
    last = first.folder / "checkpoints" / "last.ckpt"
    changes = ["--model.optimizer.lr=0.0005", "--model.optimizer.weight_decay=0.1", "--data.batch_size=300"]
    capsys.readouterr()
    train.main(["fit", f"--ckpt_path={last}", "--trainer.max_epochs=2", *changes])
    said = capsys.readouterr().out
    assert f"resuming {last} after 1 epoch and 9 steps: " in said
    assert re.search(r"model.optimizer.lr [\d.]+ -> 0.0005", said) and "data.batch_size 128 -> 300" in said
    train.main(["fit", f"--ckpt_path={last}", "--trainer.max_epochs=3"])  # from config.yaml, without a change
    saved = torch.load(last, weights_only=True)
    (group,) = saved["optimizer_states"][0]["param_groups"]
    assert (group["lr"], group["weight_decay"], group["betas"]) == (0.0005, 0.1, (0.9, 0.999))
    assert saved["global_step"] == BATCHES + 2 * 4
    recorded = read_summary(first.folder)["config"]
    assert recorded["model.optimizer.lr"] == 0.0005 and recorded["data.batch_size"] == 300
    kept = yaml.safe_load((first.folder / "config.yaml").read_text())
    assert kept["run"]["name"] == "x" and kept["run"]["experiment"] == "resume"
    assert kept["model"]["init_args"]["optimizer"]["init_args"]["lr"] == 0.0005
    assert [path.name for path in first.folder.parent.iterdir()] == ["x"]


def test_an_adversarial_run_changes_its_learning_rates_and_keeps_its_networks(tmp_path: Path, capsys):
    networks = ["--model.generator=DCGANGenerator", "--model.discriminator=DCGANDiscriminator"]
    small = [
        "--model=GAN",
        *networks,
        "--model.generator.channels=4",
        "--model.discriminator.channels=4",
        "--run.pictures=false",
    ]
    limits = ["--trainer.limit_train_batches=1", "--trainer.limit_val_batches=0", "--trainer.limit_test_batches=0"]
    small += ["--data=DigitsDataModule", "--data.batch_size=20", *limits]
    recipe = ["--model.recipe.ema_decay=0.9", "--trainer.accelerator=cpu", f"--run.root={tmp_path}"]
    folder = train.main(["fit", *small, *recipe, "--trainer.max_epochs=1"]).folder
    last = folder / "checkpoints" / "last.ckpt"
    before = snapshot(folder)
    for option in ("--model.recipe.ema_decay=0", "--trainer.gradient_clip_val=1"):
        assert command(["fit", f"--ckpt_path={last}", "--trainer.max_epochs=2", option]) == 2
        assert option.partition("=")[0] in capsys.readouterr().err and snapshot(folder) == before
    faster = "--model.recipe.discriminator_lr_factor=4"
    train.main(["fit", f"--ckpt_path={last}", "--trainer.max_epochs=2", faster])
    rates = [state["param_groups"][0]["lr"] for state in torch.load(last, weights_only=True)["optimizer_states"]]
    assert rates == [8e-4, 2e-4]


def test_a_new_run_starts_from_the_weights_of_another(config: Path, whole: train.Result, tmp_path: Path, capsys):
    best = whole.folder / "checkpoints" / "best.ckpt"
    short = [f"--init_from={best}", "--trainer.max_epochs=1", "--run.name=x", "--trainer.limit_train_batches=1"]
    new = run(config, tmp_path, *short, "--model.optimizer.lr=0")
    old, first = (
        {name: value for name, value in weights(folder, "best.ckpt").items() if name.endswith(("weight", "bias"))}
        for folder in (whole.folder, new.folder)
    )
    assert same(old, first)
    assert f"training starts from the weights of {best}\n" in capsys.readouterr().out
    assert read_summary(new.folder)["config"]["init_from"] == str(best) and new.folder.name == "x"
    assert torch.load(new.folder / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 1

    other = [*short, "--model.channels=[4, 6]", "--run.name=y"]
    with pytest.raises(CheckpointError, match=r"is 6 x 4 x \d x \d in the model and 8 x 4 x \d x \d in the checkpoint"):
        run(config, tmp_path, *other)
    assert not (tmp_path / "resume" / "y").exists()
    run(config, tmp_path, *other, "--init_strict=false")
    assert "; left at their first values: " in capsys.readouterr().out
    with pytest.raises(UsageError, match="--init_from is for fit"):
        train.main(["test", f"--ckpt_path={best}", f"--init_from={best}"])


def damaged(contents: dict, part: str) -> None:
    match part:
        case "optimizer_states":
            contents["optimizer_states"][0]["state"] = {}
        case "loops":
            contents["loops"] = {}
        case "epoch":
            contents["epoch"] = "three"
        case "global_step":
            contents["global_step"] = -5
        case "callbacks":
            state = contents["callbacks"]["ExactResume"]["ranks"][0]
            state["torch"] = state["torch"][:-1]
            del contents["callbacks"]["ResumedOptions"]["config"]
        case "lr_schedulers":
            del contents["lr_schedulers"]


@pytest.mark.parametrize("part", ["optimizer_states", "loops", "epoch", "global_step", "callbacks", "lr_schedulers"])
def test_a_damaged_checkpoint_is_named_and_nothing_is_written(part: str, whole: train.Result, tmp_path: Path):
    contents = torch.load(whole.folder / "checkpoints" / "last.ckpt", weights_only=True)
    damaged(contents, part)
    bad = tmp_path / "last.ckpt"
    torch.save(contents, bad)
    with pytest.raises(CheckpointError, match=rf"last.ckpt is damaged .*: its {part} is not as it was saved"):
        ResumePoint.read(bad)


@pytest.mark.parametrize("change", [{"state_dict": "text"}, {"callbacks": {}}, {"hyper_parameters": None}], ids=str)
def test_a_checkpoint_of_another_program_is_one_line(change: dict, whole: train.Result, tmp_path: Path, capsys):
    contents = torch.load(whole.folder / "checkpoints" / "last.ckpt", weights_only=True)
    if "hyper_parameters" in change:
        contents["state_dict"] = {"layer.weight": torch.zeros(2, 2)}
    bad = tmp_path / "last.ckpt"
    torch.save(contents | change, bad)
    arguments = [f"--config={whole.folder}/config.yaml", f"--ckpt_path={bad}", f"--run.root={tmp_path / 'runs'}"]
    assert command(["fit", *arguments, LONGER]) == 2
    said = capsys.readouterr().err
    assert "error: " in said and str(bad) in said and "Traceback" not in said
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


def test_a_checkpoint_with_code_is_refused_on_resume(whole: train.Result, tmp_path: Path):
    bad = tmp_path / "last.ckpt"
    torch.save({"state_dict": {}, "optimizer_states": [], "code": os.system}, bad)
    with pytest.raises(CheckpointError, match="contains code"):
        train.main(["fit", f"--config={whole.folder}/config.yaml", f"--ckpt_path={bad}", f"--run.root={tmp_path}"])
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


def test_the_wandb_run_keeps_its_id(config: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    with pytest.raises(SystemExit):
        run(config, tmp_path, "--run.name=w", *stop_at(3, "term"))
    first = read_summary(tmp_path / "resume" / "w")["wandb_id"]
    resumed = run(config, tmp_path, "--run.name=w", f"--ckpt_path={tmp_path}/resume/w/checkpoints/last.ckpt")
    assert read_summary(resumed.folder)["wandb_id"] == first
    names = [path.name for path in (resumed.folder / "wandb").glob("offline-run-*")]
    assert len(names) == 2 and all(first in name for name in names)
