"""Every sweep definition is one that W&B takes, and every value that it can send is one that train.py takes."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

import sweep
import train
from harness.definition import load_definition
from harness.engine import run_grid
from harness.run_folder import read_summary

SWEEPS = sorted(Path("sweeps").glob("*.yaml"))


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_a_definition_follows_the_rules(path: Path):
    raw = yaml.safe_load(path.read_text())
    assert set(raw) <= {"name", "project", "program", "method", "metric", "parameters", "command", "description"}
    assert (
        raw["name"] == path.stem and raw["program"] == "train.py" and raw["metric"]["goal"] in ("minimize", "maximize")
    )
    command = raw["command"]
    assert command[:3] == ["${env}", "${interpreter}", "${program}"] and command[-1] == "${args}"
    assert "--config" in command and Path(command[command.index("--config") + 1]).is_file()
    assert f"--run.experiment={path.stem}" in command
    assert all("." in key or key == "seed_everything" for key in raw["parameters"])


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_every_value_parses_and_the_metric_is_logged(
    path: Path, data_root: Path, encoder_checkpoint: Path, tmp_path: Path
):
    definition = load_definition(path)
    first, logged = {}, False
    for key, values in definition.values.items():
        first[key] = values[0]
    points = [first] + [{**first, key: value} for key, values in definition.values.items() for value in values[1:]]
    for point in points:
        args = definition.arguments(point)
        extra = [f"--data.root={data_root}", "--data.val_size=20", f"--run.root={tmp_path}", "--run.pictures=false"]
        if "probe" in " ".join(args):
            extra += [f"--model.encoder_checkpoint={encoder_checkpoint}", "--model.latent_dim=3"]
        if logged:
            train.main([*args, *extra, "--trainer.fast_dev_run=true"])
            continue
        limits = [f"--trainer.limit_{part}_batches=1" for part in ("train", "test")]
        result = train.main([*args, *extra, *limits, "--trainer.max_epochs=1"])
        summary = read_summary(result.folder)
        assert definition.metric in summary["metrics"]
        assert set(point) <= set(summary["config"])
        logged = True


def test_a_sweep_runs_keeps_and_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    short = [
        "--override=trainer.max_epochs=1",
        "--override=model.channel_factor=2",
        "--override=model.latent_dim=2,3",
        f"--root={tmp_path}",
    ]
    assert sweep.main(["run", "sweeps/quickstart.yaml", *short]) == 0
    output = capsys.readouterr().out
    assert "4 runs finished, 0 kept from before, 0 failed" in output
    folder = tmp_path / "quickstart"
    runs = sorted(path.name for path in folder.iterdir() if path.name != "report")
    assert "channel_factor=2,depth=1,latent_dim=2,max_epochs=1" in runs and len(runs) == 4
    for name in ("runs.csv", "means.csv", "correlations.csv", "test_mse.png", "correlations.png"):
        assert (folder / "report" / name).stat().st_size > 100 and str(folder / "report" / name) in output
    assert "pictures of the best run" in output and "media/latent.png" in output

    assert sweep.main(["run", "sweeps/quickstart.yaml", *short]) == 0
    assert "0 runs finished, 4 kept from before, 0 failed" in capsys.readouterr().out


def test_a_failing_run_does_not_stop_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    status = sweep.main(
        [
            *("run", "sweeps/quickstart.yaml", f"--root={tmp_path}"),
            *("--override=model.depth=9,1", "--override=model.latent_dim=2", "--override=trainer.max_epochs=1"),
        ]
    )
    output = capsys.readouterr().out
    assert status == 1 and "1 runs finished, 0 kept from before, 1 failed" in output
    assert "depth 9 is too deep" in output


def test_a_run_that_failed_in_training_is_tried_again(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch):
    short = [f"--root={tmp_path}", "--override=trainer.max_epochs=1", "--override=model.depth=1"]
    short.append("--override=model.latent_dim=2")
    from lit_models import Autoencoder

    with monkeypatch.context() as broken:
        broken.setattr(Autoencoder, "loss_terms", lambda self, batch: 1 / 0)
        assert sweep.main(["run", "sweeps/quickstart.yaml", *short]) == 1
    folder = next((tmp_path / "quickstart").iterdir())
    assert "ZeroDivisionError" in (folder / "error.txt").read_text()
    assert sweep.main(["run", "sweeps/quickstart.yaml", *short]) == 0
    assert "1 runs finished" in capsys.readouterr().out and not (folder / "error.txt").exists()


def test_where_a_run_goes_is_known_beforehand(tmp_path: Path):
    """However the values are written: whole numbers for floats, fixed options in the command, no experiment named."""
    (tmp_path / "own.yaml").write_text(
        """
method: grid
metric: {name: test/mse}
parameters: {model.optimizer.lr: {values: [1, "1e-4"]}, trainer.precision: {value: null}}
command: ["${program}", fit, --config, configs/autoencoder_digits.yaml, --trainer.max_epochs=1, "${args}"]
"""
    )
    for count in (2, 0):
        capture = run_grid(load_definition(tmp_path / "own.yaml"), train.main, str(tmp_path))
        assert (capture.finished, capture.kept, capture.failed) == (count, 2 - count, 0)
    names = sorted(path.name for path in (tmp_path / "own").iterdir())
    assert names == ["lr=0.0001,max_epochs=1,precision=null", "lr=1,max_epochs=1,precision=null"]


@pytest.mark.parametrize(("how", "status"), [("term", 143), ("kill", 137)])
def test_a_signal_stops_the_sweep_and_not_only_the_run(how: str, status: int, tmp_path: Path):
    command = [sys.executable, "sweep.py", "run", "sweeps/quickstart.yaml", f"--root={tmp_path}"]
    more = ["trainer.max_epochs=2000", "model.depth=1", "model.latent_dim=2,3"]
    process = subprocess.Popen([*command, *(f"--override={text}" for text in more)], stderr=subprocess.PIPE, text=True)
    folder, deadline = tmp_path / "quickstart", time.monotonic() + 90
    while not list(folder.glob("*/checkpoints/last.ckpt")) and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM if how == "term" else signal.SIGKILL)
    _, errors = process.communicate(timeout=60)
    assert process.returncode % 256 in (status, -signal.SIGKILL % 256), errors
    assert len(list(folder.glob("*/summary.json"))) == 1
    if how == "term":
        assert "stopped; the same command goes on" in errors


def test_errors_are_one_line_and_status_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert sweep.main(["run", str(tmp_path / "none.yaml")]) == 2
    (tmp_path / "bad.yaml").write_text("method: bayes\nmetric: {name: x}\nparameters: {a: {value: 1}}\ncommand: [x]\n")
    assert sweep.main(["run", str(tmp_path / "bad.yaml")]) == 2
    assert sweep.main(["report", str(tmp_path)]) == 2
    for raw in ("metric: x", "metric: {name: x}\nparameters: [a]", "metric: {name: x}\nparameters: {a: {values: []}}"):
        (tmp_path / "bad.yaml").write_text(f"method: grid\nparameters: {{a: {{value: 1}}}}\ncommand: [x]\n{raw}\n")
        assert sweep.main(["run", str(tmp_path / "bad.yaml")]) == 2
    for override in ("a=[1", "a=", "a"):
        assert sweep.main(["run", "sweeps/quickstart.yaml", f"--override={override}"]) == 2
    errors = capsys.readouterr().err.strip().splitlines()
    assert len(errors) == 9 and all(line.startswith("error: ") for line in errors)
