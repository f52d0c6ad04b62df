"""A run that was stopped and resumed ends as the one that never stopped, to the last bit."""

import csv
import os
import signal
import subprocess
from pathlib import Path

import pytest
import torch

import train
from genlab.cli.train import command
from genlab.runs.errors import UsageError
from genlab.runs.folder import read_summary
from lit_models import CheckpointError
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
    assert summary["state"] == "finished" and summary["images_seen"] == expected["images_seen"]


@pytest.mark.parametrize("how", ["raise", "term"])
@pytest.mark.parametrize(
    ("batch", "every_n_steps"),
    [(1, 0), (4, 3), (BATCHES, 0), (BATCHES + 1, 0), (BATCHES + 5, 2), (2 * BATCHES, 2), (EPOCHS * BATCHES, 0)],
)
def test_resume_is_exact(batch: int, every_n_steps: int, how: str, config: Path, whole: train.Result, tmp_path: Path):
    with pytest.raises(BaseException):  # noqa: B017  (SystemExit's child, or the error)
        run(config, tmp_path, "--run.name=x", f"--checkpoint.every_n_steps={every_n_steps}", *stop_at(batch, how))
    folder = tmp_path / "resume" / "x"
    assert read_summary(folder)["state"] == ("killed" if how == "term" else "failed")
    if how == "raise" and batch <= BATCHES and not every_n_steps:
        assert not (folder / "checkpoints" / "last.ckpt").exists()
        return
    saved = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
    if how == "term":
        assert saved == batch  # the step in hand was finished and nothing was lost
    resumed = run(config, tmp_path, f"--ckpt_path={folder}/checkpoints/last.ckpt")
    assert resumed.folder == folder
    assert_equal(resumed, whole)


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


def test_last_starts_afresh_where_there_is_nothing_to_resume(config: Path, tmp_path: Path):
    assert run(config, tmp_path, "--ckpt_path=last", "--trainer.max_epochs=1").metrics


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
    more = train.main(["fit", f"--ckpt_path={short.folder}/checkpoints/last.ckpt", "--trainer.max_epochs=4"])
    saved = torch.load(more.folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert saved["global_step"] == 4 * BATCHES and saved["lr_schedulers"][0]["total_steps"] == 4 * BATCHES
    straight = run(config, tmp_path, "--trainer.max_epochs=4", "--run.name=y")
    expected = torch.load(straight.folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert saved["lr_schedulers"][0]["_last_lr"] == pytest.approx(expected["lr_schedulers"][0]["_last_lr"])


def test_weights_alone_cannot_be_resumed(whole: train.Result):
    with pytest.raises(UsageError, match=r"best.ckpt holds weights only; go on from the last.ckpt"):
        train.main(["fit", f"--ckpt_path={whole.folder}/checkpoints/best.ckpt"])


def test_a_checkpoint_of_more_epochs_than_asked_for_is_refused(whole: train.Result, capsys):
    last = whole.folder / "checkpoints" / "last.ckpt"
    files = [path for path in whole.folder.rglob("*") if path.is_file()]
    before = [path.read_bytes() for path in files]
    assert command(["fit", f"--ckpt_path={last}", "--trainer.max_epochs=2"]) == 2
    complaint = f"error: 3 epochs are done in {last}; give --trainer.max_epochs above 3\n"
    assert capsys.readouterr().err == complaint
    assert [path.read_bytes() for path in whole.folder.rglob("*") if path.is_file()] == before


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
