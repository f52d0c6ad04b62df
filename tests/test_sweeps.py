"""Every sweep definition is one that W&B takes, and every value that it can send is one that train.py takes."""

from pathlib import Path

import pytest
import yaml

import sweep
import train
from harness.definition import load_definition
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


def test_errors_are_one_line_and_status_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert sweep.main(["run", str(tmp_path / "none.yaml")]) == 2
    (tmp_path / "bad.yaml").write_text("method: bayes\nmetric: {name: x}\nparameters: {a: {value: 1}}\ncommand: [x]\n")
    assert sweep.main(["run", str(tmp_path / "bad.yaml")]) == 2
    assert sweep.main(["report", str(tmp_path)]) == 2
    errors = capsys.readouterr().err.strip().splitlines()
    assert len(errors) == 3 and all(line.startswith("error: ") for line in errors)
