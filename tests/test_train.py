"""train.py as a user meets it: folders, records, repeatability, errors."""

import csv
import json
import os
import shutil
import sys
from pathlib import Path

import pytest
import torch
import yaml
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities.rank_zero import rank_zero_only

import train
from datamodules import DataError, DigitsDataModule
from genlab.runs.errors import UsageError
from genlab.runs.folder import lock_run, read_summary, unlock_run
from genlab.sampling.run_data import training_data
from lit_models import Autoencoder, CheckpointError
from tests.helpers import fit, run_program, same, small_autoencoder, stop_at, weights


def history(folder: Path) -> list[dict[str, str]]:
    with open(folder / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_leaves_its_folder(tmp_path: Path):
    result = fit(tmp_path)
    folder = tmp_path / "autoencoder_digits" / result.folder.name
    assert result.folder == folder
    left = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert left == {
        "config.yaml",
        "metrics.csv",
        "seconds.csv",
        "summary.json",
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
    }
    summary = read_summary(folder)
    assert summary["state"] == "finished" and summary["images_seen"] == 2 * 6 * 200
    assert summary["config"]["model.latent_dim"] == 3 and summary["config"]["data.batch_size"] == 200
    assert summary["config"]["seed_everything"] == 0 and summary["config"]["model.optimizer.lr"] == 1e-3
    assert summary["parameters"] > 0 and summary["hardware"] and "classifier" not in summary
    assert len(summary["data_fingerprint"]) == 16
    assert summary["seconds"] > 0 and summary["versions"]["torch"] == torch.__version__.split("+")[0]
    assert result.metrics["test/mse"] == summary["metrics"]["test/mse"]


def test_the_best_checkpoint_is_tested(tmp_path: Path):
    """A learning rate that ruins the second epoch: the numbers are the first epoch's."""
    result = fit(tmp_path, "--model.optimizer.lr=0.5", "--trainer.max_epochs=3")
    rows = history(result.folder)
    scores = [float(row["val/mse"]) for row in rows if row["val/mse"]]
    assert read_summary(result.folder)["metrics"]["val/mse"] == pytest.approx(min(scores), rel=1e-6)
    again = train.main(["test", f"--ckpt_path={result.folder}/checkpoints/best.ckpt", "--trainer.accelerator=cpu"])
    assert again.metrics["test/mse"] == result.metrics["test/mse"]


def test_the_same_command_gives_the_same_numbers_to_the_last_bit(tmp_path: Path):
    a = fit(tmp_path)
    fit(tmp_path, "--model.latent_dim=5", "--seed_everything=9", "--trainer.precision=bf16-mixed")  # leaves no trace
    b = fit(tmp_path)
    assert a.metrics == b.metrics and same(weights(a.folder), weights(b.folder))
    assert b.folder.name == f"{a.folder.name}-2"


def test_another_process_gives_the_same_numbers(tmp_path: Path):
    here = fit(tmp_path)
    done = run_program(
        "train.py", "fit", *small_autoencoder(), f"--run.root={tmp_path / 'other'}", "--trainer.accelerator=cpu"
    )
    assert done.returncode == 0, done.stderr
    there = tmp_path / "other" / "autoencoder_digits" / here.folder.name
    assert same(weights(here.folder), weights(there))


def test_another_seed_gives_other_numbers(tmp_path: Path):
    a, b = fit(tmp_path), fit(tmp_path, "--seed_everything=1")
    assert a.metrics != b.metrics and b.folder.name.endswith("seed=1")


def test_a_run_leaves_nothing_behind_in_the_process(tmp_path: Path):
    import logging
    import random
    import signal

    def state() -> tuple:
        ignored = {"PL_GLOBAL_SEED", "PL_SEED_WORKERS"}  # set anew, or taken away, by each run
        return (
            {key: value for key, value in os.environ.items() if key not in ignored},
            os.getcwd(),
            list(sys.path),
            torch.get_default_dtype(),
            torch.get_num_threads(),
            torch.is_grad_enabled(),
            torch.are_deterministic_algorithms_enabled(),
            [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
            logging.getLogger("lightning.pytorch").level,
            rank_zero_only.rank,
        )

    before = state()
    fit(tmp_path)
    with pytest.raises(RuntimeError, match="stopped by the test"):
        fit(tmp_path, *stop_at(2, "raise"))
    assert state() == before
    random.seed()


def test_the_resolved_config_repeats_the_run(tmp_path: Path):
    first = fit(tmp_path, "--model.latent_dim=4")
    again = fit(tmp_path, f"--config={first.folder}/config.yaml")
    assert again.folder.parent == first.folder.parent and again.folder.name == f"{first.folder.name}-2"
    assert again.metrics == first.metrics
    changed = fit(tmp_path, f"--config={first.folder}/config.yaml", "--seed_everything=3")
    assert changed.folder.name == f"{first.folder.name},seed=3"


def test_a_run_is_kept_and_the_new_one_numbered_unless_told_otherwise(tmp_path: Path):
    first = fit(tmp_path, "--run.name=x").folder
    (first / "metrics.csv").write_text("mine")
    assert fit(tmp_path, "--run.name=x").folder.name == "x-2"
    assert (first / "metrics.csv").read_text() == "mine"
    assert fit(tmp_path, "--run.name=x", "--run.overwrite=true").folder == first
    assert (first / "metrics.csv").read_text() != "mine"
    (first / "notes.txt").write_text("not a run's")
    with pytest.raises(UsageError, match=r"notes.txt, which no run wrote"):
        fit(tmp_path, "--run.name=x", "--run.overwrite=true")
    assert (first / "notes.txt").exists() and (first / "config.yaml").exists()


def test_a_run_that_does_not_come_to_train_leaves_nothing_and_overwrites_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def fail(model: Autoencoder) -> None:
        raise MisconfigurationException("cannot start")

    first = fit(tmp_path, "--run.name=x").folder
    before = (first / "summary.json").read_bytes()
    monkeypatch.setattr(Autoencoder, "on_fit_start", fail)
    for options in (["--run.name=x", "--run.overwrite=true"], ["--run.name=y"], ["--run.experiment=other"]):
        with pytest.raises(MisconfigurationException, match="cannot start"):
            fit(tmp_path, *options)
    assert (first / "summary.json").read_bytes() == before
    assert [path.name for path in first.parent.iterdir()] == ["x"] and list(tmp_path.iterdir()) == [first.parent]


def test_a_running_run_is_neither_overwritten_nor_resumed(tmp_path: Path):
    first = fit(tmp_path, "--run.name=x").folder
    before = {path: path.read_bytes() for path in first.rglob("*") if path.is_file()}
    lock = lock_run(first)
    for option in ("--run.overwrite=true", "--ckpt_path=last"):
        with pytest.raises(UsageError, match=f"the run in .*x is still running .process {os.getpid()} on"):
            fit(tmp_path, "--run.name=x", option)
    assert train.main(["test", f"--ckpt_path={first}/checkpoints/last.ckpt", "--trainer.accelerator=cpu"]).metrics
    unlock_run(lock)
    assert {path: path.read_bytes() for path in first.rglob("*") if path.is_file()} == before
    fit(tmp_path, "--run.name=x", "--ckpt_path=last")


def test_without_a_progress_bar_nothing_is_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Options of W&B that do nothing are named."""
    of_wandb = ["--run.log_checkpoints=both", "--sample_table.num_images=4"]
    fit(tmp_path, "--trainer.enable_progress_bar=false", *of_wandb)
    said = capsys.readouterr().out
    assert "epoch " not in said
    for option in of_wandb:
        assert f"{option.replace('=', ' ')} has no effect: W&B is disabled\n" in said


@pytest.mark.parametrize("command", ["test", "validate", "predict"])
def test_evaluation_without_weights_is_refused_and_takes_no_folder(command: str, tmp_path: Path):
    with pytest.raises(UsageError, match=f"{command} needs trained weights: give --ckpt_path"):
        train.main([command, *small_autoencoder(), f"--run.root={tmp_path}"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "option",
    [
        "--data.val_size=0",
        "--trainer.limit_val_batches=0",
        "--data.labels_per_class=9",
        "--trainer.check_val_every_n_epoch=5",
    ],
)
def test_the_last_weights_are_the_best_where_nothing_may_choose(option: str, tmp_path: Path):
    folder = fit(tmp_path, option).folder
    assert same(weights(folder, "best.ckpt"), weights(folder, "last.ckpt"))


def test_labels_beyond_the_few_choose_nothing(tmp_path: Path):
    args = ["--model=Classifier", "--model.channels=[4]", "--data=DigitsDataModule", "--data.labels_per_class=3"]
    folder = train.main(["fit", *args, "--trainer.max_epochs=3", f"--run.root={tmp_path}"]).folder
    assert same(weights(folder, "best.ckpt"), weights(folder, "last.ckpt"))
    assert "checkpoints" in os.listdir(folder) and len(os.listdir(folder / "checkpoints")) == 2


def test_steps_may_end_a_run_between_two_saves(tmp_path: Path):
    folder = fit(tmp_path, "--trainer.max_steps=7", "--trainer.max_epochs=-1", "--checkpoint.every_n_epochs=100").folder
    assert torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 7


def test_an_earlier_runs_seed_does_not_leak_into_one_without(tmp_path: Path):
    fit(tmp_path, "--seed_everything=7")
    fit(tmp_path, "--seed_everything=false")
    assert "PL_GLOBAL_SEED" not in os.environ


def test_half_precision_weights_work_to_the_last_picture(tmp_path: Path):
    assert fit(tmp_path, "--trainer.precision=bf16-true", "--run.pictures=true").metrics["test/mse"] < 1


def test_a_sweeps_agent_gives_the_wandb_id(tmp_path: Path):
    agent = {"WANDB_MODE": "offline", "WANDB_SWEEP_ID": "s", "WANDB_RUN_ID": "fromagent", "WANDB_SILENT": "true"}
    done = run_program("train.py", "fit", *small_autoencoder(), f"--run.root={tmp_path}", "--run.name=x", **agent)
    assert done.returncode == 0, done.stderr
    assert read_summary(tmp_path / "autoencoder_digits" / "x")["wandb_id"] == "fromagent"


def test_no_command_is_one_line(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as caught:
        train.main([])
    assert caught.value.code == 2 and "choose from fit, validate, test, predict" in capsys.readouterr().err


def test_a_name_cannot_leave_the_root(tmp_path: Path):
    folder = fit(tmp_path / "runs", "--run.name=../../escape", "--run.experiment=../up").folder
    assert folder.resolve().is_relative_to((tmp_path / "runs").resolve())


def test_pictures_are_drawn(tmp_path: Path):
    """TensorBoard and a logger of the user's own get what metrics.csv has."""
    from PIL import Image
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    own = ["--trainer.logger=CSVLogger", f"--trainer.logger.save_dir={tmp_path}", "--trainer.logger.name=own"]
    args = ["--run.pictures=true", "--interpolation.pairs=[[1, 5], [3, 6]]", "--run.tensorboard=true", *own]
    folder = fit(tmp_path, *args, "--trainer.log_every_n_steps=4").folder
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    for name in ("train/mse", "val/mse", "test/mse", "epoch"):
        written = [(int(row["step"]), float(row[name])) for row in history(folder) if row[name]]
        assert [(event.step, pytest.approx(event.value)) for event in events.Scalars(name)] == written
    with open(tmp_path / "own" / "version_0" / "metrics.csv", newline="") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == [row["epoch"] for row in history(folder)]
    logged = {f"{name.removeprefix('media/')}.png": events.Images(name) for name in events.Tags()["images"]}
    for [image] in logged.values():
        assert image.step == 12 and image.encoded_image_string[:4] in (b"\x89PNG", b"GIF8")
    names = {path.name for path in (folder / "media").iterdir() if path.is_file()}
    encoded = {"latent.png", "latent_correlation.png", "latent_plane.png", "traversals.png", "samples_mixture.png"}
    gifs = {"autoencoder_grid.gif", "autoencoder_latent.gif"}
    assert names == {"reconstructions.png", "interpolation.png", "curves.png", "filters.png", *encoded, *gifs}
    assert {Path(name).stem for name in logged} == {Path(name).stem for name in names}
    for name in names:
        pixels = Image.open(folder / "media" / name).convert("L")
        assert pixels.width > 100 and len(set(pixels.tobytes())) > 10
    metrics = read_summary(folder)["metrics"]
    d = 3
    full = metrics["test/abs_correlation_full"]
    assert full == pytest.approx((metrics["test/abs_correlation"] * d * (d - 1) + d) / d**2, abs=1e-6)


def test_predict_writes_codes_in_the_order_of_the_data(tmp_path: Path):
    import numpy as np

    folder = fit(tmp_path).folder
    train.main(["predict", f"--ckpt_path={folder}/checkpoints/best.ckpt", "--data.predict_split=train"])
    with np.load(folder / "predict" / "predictions.npz") as file:
        assert file["codes"].shape == (1237, 3) and file["codes"].dtype == np.float32
        assert np.bincount(file["labels"]).min() > 100


def test_validate_and_test_print_and_leave_the_record_alone(
    encoder_checkpoint: Path, capsys: pytest.CaptureFixture[str]
):
    folder = encoder_checkpoint.parents[1]
    before = (folder / "summary.json").read_bytes(), (folder / "metrics.csv").read_bytes()
    metrics = train.main(["validate", f"--ckpt_path={encoder_checkpoint}"]).metrics
    assert set(metrics) == {"val/mse"} and "val/mse" in capsys.readouterr().out
    train.main(["test", f"--ckpt_path={encoder_checkpoint}"])
    assert before == ((folder / "summary.json").read_bytes(), (folder / "metrics.csv").read_bytes())


def test_a_checkpoint_outside_its_runs_folder_names_its_model_and_data(encoder_checkpoint: Path, tmp_path: Path):
    copied = tmp_path / "copied.ckpt"
    shutil.copy(encoder_checkpoint, copied)
    options = [f"--ckpt_path={copied}", f"--run.root={tmp_path}", "--run.pictures=false"]
    expected = read_summary(encoder_checkpoint.parents[1])["metrics"]
    for more in ([], ["--data.batch_size=50"]):
        found = train.main(["test", *options, *more])
        assert found.folder == tmp_path / "copied" / "default" / "test"
        assert found.metrics == pytest.approx({name: expected[name] for name in found.metrics}, rel=1e-5)
    sampled = training_data(copied, None, None)
    assert isinstance(sampled, DigitsDataModule) and sampled.batch_size == 200
    checkpoint = torch.load(copied, weights_only=True)
    for change, complaint in (
        ({"trained_on": None}, "copied.ckpt does not say which data it was trained on; name them with --data CLASS"),
        ({"trained_on": {"data": {"class_path": "os.system"}}}, "the data module os.system is not imported; add"),
        (
            {"hyper_parameters": {"_class_path": "mine.Model"}},
            "its class mine.Model is no imported model; add --import",
        ),
    ):
        torch.save(checkpoint | change, copied)
        with pytest.raises((UsageError, CheckpointError), match=complaint):
            train.main(["test", *options])
    torch.save(checkpoint | {"trained_on": None}, copied)
    assert train.main(["test", *options, "--data=DigitsDataModule"]).metrics.keys() == found.metrics.keys()


def test_a_failed_run_says_so(tmp_path: Path):
    with pytest.raises(RuntimeError):
        fit(tmp_path, *stop_at(2, "raise"), "--run.name=bad")
    summary = read_summary(tmp_path / "autoencoder_digits" / "bad")
    assert summary["state"] == "failed" and summary["error"] == "RuntimeError: stopped by the test"


def test_a_batch_of_one_image_that_batch_norm_cannot_take_is_one_line(tmp_path: Path):
    model = ["--model=GAN", "--model.generator=DCGANGenerator", "--model.generator.depth=4"]
    options = [*model, "--model.generator.channels=2", "--data=DigitsDataModule", "--run.pictures=false"]
    with pytest.raises(UsageError, match="one image, .* give --data.batch_size 2 or more"):
        train.main(["fit", *options, "--data.batch_size=1", "--trainer.max_steps=2", f"--run.root={tmp_path}"])


def test_fast_dev_run_leaves_no_run(tmp_path: Path):
    fit(tmp_path, "--trainer.fast_dev_run=true")
    assert list(tmp_path.iterdir()) == []


def test_metrics_csv_has_a_row_an_event(tmp_path: Path):
    folder = fit(tmp_path, "--trainer.log_every_n_steps=4").folder
    rows = history(folder)
    steps = [row["step"] for row in rows if row["train/mse"]]
    assert steps == ["3", "5", "7", "11"]  # every fourth, and the last of an epoch
    assert [row["epoch"] for row in rows if row["val/mse"]] == ["1", "2"] and rows[-1]["epoch"] == "2"
    assert [bool(row["test/mse"]) for row in rows][-1]


@pytest.mark.parametrize(
    ("args", "error", "complaint"),
    [
        (["--model.depth=9"], UsageError, "depth 9 is too deep"),
        (["--data.batch_size=0"], UsageError, "data.batch_size is 0"),
        (["--data.val_size=5000"], DataError, "val_size is 5000, but digits has"),
        (["--model=Probe", "--model.encoder_checkpoint=no.ckpt"], UsageError, "there is no checkpoint no.ckpt"),
        (["--ckpt_path=no.ckpt"], CheckpointError, "there is no checkpoint no.ckpt"),
        (
            ["--max_parameters=50000"],
            UsageError,
            "Autoencoder has 52,468 parameters, the most of them in .* of 32 x .*; --max_parameters is 50,000: use",
        ),
        (["--model.hidden_dim=2000000000"], UsageError, r"Autoencoder has 3,152,000,\d+,\d+ parameters"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(args, error, complaint: str, tmp_path: Path):
    with pytest.raises(error, match=complaint) as caught:
        base = [
            arg for arg in small_autoencoder() if not (args[0].startswith("--model=") and arg.startswith("--model"))
        ]
        train.main(["fit", *base, *args, f"--run.root={tmp_path}"])
    assert "\n" not in str(caught.value)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (
            ["--model.latent_dimm=9"],
            "there is no option --model.latent_dimm of Autoencoder; did you mean --model.latent_dim?",
        ),
        (["--model.latent_dim=4.5"], "model.latent_dim: expected a whole number, not 4.5"),
        (["--trainer.max_epoch=3"], "there is no option --trainer.max_epoch; did you mean --trainer.max_epochs?"),
        (["--model=MyAutoencoder"], "there is no model MyAutoencoder; did you mean Autoencoder?"),
    ],
)
def test_an_unknown_option_is_one_line_and_status_2(args, complaint: str, tmp_path: Path, capsys):
    with pytest.raises(SystemExit) as caught:
        train.main(["fit", *small_autoencoder(), *args, f"--run.root={tmp_path}"])
    errors = capsys.readouterr().err.strip().splitlines()
    assert caught.value.code == 2 and len(errors) == 1 and complaint in errors[0]
    assert list(tmp_path.iterdir()) == []


def test_the_shell_gets_status_2_and_one_line(tmp_path: Path):
    done = run_program("train.py", "fit", *small_autoencoder(), "--model.depth=9", f"--run.root={tmp_path}")
    assert done.returncode == 2 and done.stderr.strip().splitlines()[-1].startswith("error: depth 9 is too deep")
    assert "Traceback" not in done.stderr


def test_a_run_folder_that_cannot_be_made_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"cannot create the run folder .*--run.root"):
        fit(tmp_path / "file")


def test_every_logged_key_is_one_that_the_command_line_takes(tmp_path: Path):
    folder = fit(tmp_path).folder
    config = read_summary(folder)["config"]
    args = [f"--{key}={json.dumps(value) if not isinstance(value, str) else value}" for key, value in config.items()]
    again = train.main(["fit", *args, "--run.pictures=false", f"--run.root={tmp_path}", "--run.name=again"])
    assert same(weights(folder), weights(again.folder))


def test_the_saved_config_is_yaml_with_the_short_structure(tmp_path: Path):
    saved = yaml.safe_load((fit(tmp_path).folder / "config.yaml").read_text())
    assert saved["model"]["init_args"]["latent_dim"] == 3 and saved["seed_everything"] == 0
    assert saved["ckpt_path"] is None
