"""Each sweep definition is valid for W&B, and train.py accepts all values that it can send."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from torchvision.models import efficientnet_b0

import sweep
import train
from genlab.runs.folder import read_summary
from genlab.sweep.engine import Engine, Options
from genlab.sweep.parser import load_definition
from lit_models import VQVAE, Classifier, PoolingAutoencoder
from lit_models.common.map_networks import MapNetworks
from lit_models.common.quantizers import VectorQuantizer
from tests import HANG_SECONDS, preloaded, wait_for
from tests.helpers import saved

SWEEPS = sorted(Path("sweeps").glob("*.yaml"))


@pytest.fixture(autouse=True)
def preloaded_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the workers, which are started by `sys.executable`, use the preloaded Python."""
    monkeypatch.setattr(sys, "executable", preloaded.python())


def write_classifiers(root: Path) -> None:
    """Writes untrained evaluation classifiers to the paths where samples are evaluated."""
    for name, shape in (("mnist", (1, 28, 28)), ("cifar10", (3, 32, 32))):
        path = root / f"classifier_{name}" / "default" / "checkpoints" / "best.ckpt"
        path.parent.mkdir(parents=True)
        saved(Classifier(channels=(4,), feature_dim=8, lr_schedule="constant", image_shape=shape), path)


def replacements(folder: Path, args: list[str]) -> list[str]:
    """Returns options that replace the files of earlier runs that a sweep needs."""
    extra = []
    if "prior=Empirical" in " ".join(args):
        np.savez(folder / "codes.npz", codes=np.random.default_rng(0).normal(size=(20, 100)))
        extra.append(f"--model.prior.codes={folder / 'codes.npz'}")
    if "generator_checkpoint=runs" in " ".join(args):
        extra.append(f"--model.generator_checkpoint={saved(PoolingAutoencoder(), folder / 'pooling.ckpt')}")
    if any("autoregressivemodel_mnist" in arg for arg in args):
        vqvae = VQVAE(MapNetworks(2, 4), VectorQuantizer(8, 3))
        extra.append(f"--model.tokenizer={saved(vqvae, folder / 'vqvae.ckpt')}")
    if any("srgan" in arg for arg in args):
        classifier = folder / "classifier_mnist" / "default" / "checkpoints" / "best.ckpt"
        extra.append(f"--model.perceptual.checkpoint={classifier}")
    return extra


def efficientnet_weights(folder: Path) -> Path:
    """Writes a file of random weights that replaces that of ImageNet."""
    path = folder / "efficientnet_b0.pth"
    if not path.exists():
        torch.save(efficientnet_b0().state_dict(), path)
    return path


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_a_definition_follows_the_rules(path: Path):
    raw = yaml.safe_load(path.read_text())
    assert (
        raw["name"] == path.stem and raw["program"] == "train.py" and raw["metric"]["goal"] in ("minimize", "maximize")
    )
    command = raw["command"]
    assert command[:3] == ["${env}", "${interpreter}", "${program}"] and command[-1] == "${args}"
    assert "--config" in command and Path(command[command.index("--config") + 1]).is_file()
    assert f"--run.experiment={path.stem}" in command
    assert all("." in key or key in ("seed_everything", "model") for key in raw["parameters"])


def test_the_runs_that_are_named_by_other_sweeps_and_configs_exist_after_their_sweep():
    files = [*SWEEPS, *Path("configs").glob("*.yaml")]
    named = {found for file in files for found in re.findall(r"runs/([^/\s]+)/([^/\s]+)/checkpoints", file.read_text())}
    of_sweeps = [(path, run) for path in SWEEPS for sweep, run in named if sweep == path.stem]
    assert len(of_sweeps) > 3
    for path, run in of_sweeps:
        engine = Engine(load_definition(path), Options())
        made = [engine.folders.planned(point).name for point in engine.sweep.points()]
        pattern = re.sub(r"\\{.*?\\}", "[^,]+", re.escape(run))
        assert any(re.fullmatch(pattern, name) for name in made), (path, run, made)


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_every_value_parses_and_the_metric_is_logged(
    path: Path, data_root: Path, encoder_checkpoint: Path, tmp_path: Path
):
    definition = load_definition(path)
    write_classifiers(tmp_path)
    first, logged = {}, False
    for key, distribution in definition.distributions.items():
        first[key] = distribution.choices[0]
    varied = {key: d for key, d in definition.distributions.items() if key != "seed_everything"}
    points = [first] + [{**first, key: value} for key, d in varied.items() for value in d.choices[1:]]
    step = [f"--trainer.limit_{part}_batches={int(part == 'train')}" for part in ("train", "val", "test")]
    step.append("--trainer.max_epochs=1")
    for number, point in enumerate(points):
        args = definition.arguments(point)
        extra = [f"--data.root={data_root}", "--data.val_size=20", f"--run.root={tmp_path}", "--run.pictures=false"]
        extra += ["--quality.val_images=50", "--quality.batch_size=50", "--data.batch_size=20"]
        if "probe" in " ".join(args):
            extra += [f"--model.encoder_checkpoint={encoder_checkpoint}", "--model.latent_dim=3"]
        if definition.name in ("ddpm", "score", "flow_matching", "edm"):
            extra.append("--model.network.channels=[8, 8]")  # each sample takes many evaluations
        if definition.metric == "test/nll" and "configs/vae" in " ".join(args):
            extra.append("--model.importance_samples=2")
        if "efficientnet" in " ".join(args):
            extra.append(f"--model.networks.weights={efficientnet_weights(tmp_path)}")
        extra += replacements(tmp_path, args)
        if logged:
            train.main([*args, *extra, *step, f"--run.name={number}"])  # the other values: one step of training
            continue
        limits = [f"--trainer.limit_{part}_batches=1" for part in ("train", "test")]
        result = train.main([*args, *extra, *limits, "--trainer.max_epochs=1"])
        summary = read_summary(result.folder)
        assert definition.metric in summary["metrics"]
        assert set(point) <= set(summary["config"])
        logged = True


def quickstart(root: Path, *overrides: str) -> int:
    """Runs a shortened sweeps/quickstart.yaml."""
    short = ("trainer.max_epochs=1", "model.init_args.channel_factor=2", *overrides)
    return sweep.main(["run", "sweeps/quickstart.yaml", f"--root={root}", *(f"--override={text}" for text in short)])


def test_a_sweep_runs_keeps_finished_runs_and_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert quickstart(tmp_path, "model.latent_dim=2,3") == 0
    output = capsys.readouterr().out
    assert "quickstart: 4 runs finished" in output
    folder = tmp_path / "quickstart"
    runs = sorted(path.parent.name for path in folder.glob("*/summary.json"))
    assert "channel_factor=2,depth=1,latent_dim=2,max_epochs=1" in runs and len(runs) == 4
    for name in ("index.html", "runs.csv", "means.csv", "correlations.csv", "test_mse.png"):
        assert (folder / "report" / name).stat().st_size > 100 and str(folder / "report" / name) in output
    assert len({read_summary(folder / run)["pid"] for run in runs}) == 1  # one worker process
    assert len(list(folder.glob("*/wandb/offline-run-*/*.wandb"))) == 4
    capsys.readouterr()
    assert quickstart(tmp_path, "model.latent_dim=2,3") == 0
    assert "0 runs finished" in capsys.readouterr().out
    assert quickstart(tmp_path, "model.latent_dim=2,4") == 2
    assert "model.latent_dim" in capsys.readouterr().err


def test_a_sweep_that_train_cannot_run_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert quickstart(tmp_path, "model.depth=9", "model.latent_dim=2") == 2
    assert "its first run cannot start: UsageError: depth 9 is too deep" in capsys.readouterr().err
    assert quickstart(tmp_path, "model.latent_dims=2,3", "data.batch_size=big") == 2
    error = capsys.readouterr().err
    assert "has 2 errors" in error and "there is no option --model.latent_dims" in error and "batch_size" in error
    assert not list(tmp_path.iterdir())


def test_a_failing_run_does_not_stop_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert quickstart(tmp_path, "model.depth=1,9", "model.latent_dim=2") == 1
    output = capsys.readouterr().out
    assert "quickstart: 1 run finished, 1 failed" in output and "depth 9 is too deep" in output


def test_the_engine_knows_the_run_folder_in_advance(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """This includes integers for floats, fixed options in the command, and a command without an experiment."""
    (tmp_path / "own.yaml").write_text(
        """
method: grid
metric: {name: test/mse}
parameters: {model.optimizer.lr: {values: [1, 1.0e-4]}, trainer.precision: {value: null}}
command: ["${program}", fit, --config, configs/autoencoder_digits.yaml, --trainer.max_epochs=1, "${args}"]
"""
    )
    command = ["run", str(tmp_path / "own.yaml"), f"--root={tmp_path}"]
    assert sweep.main(command) == 0
    names = sorted(path.parent.name for path in (tmp_path / "own").glob("*/summary.json"))
    assert names == ["lr=0.0001", "lr=1"]
    (tmp_path / "own" / "sweep.db").unlink()
    capsys.readouterr()
    assert sweep.main(command) == 0
    assert "0 runs finished, 2 kept from before" in capsys.readouterr().out


def test_a_stopped_run_is_resumed(tmp_path: Path):
    """The run gets SIGTERM, which a cluster sends before it takes a machine away; then the command is repeated."""
    command = [preloaded.python(), "sweep.py", "run", "sweeps/quickstart.yaml", f"--root={tmp_path}"]
    more = ["trainer.max_epochs=60", "model.depth=1", "model.latent_dim=2", "model.channel_factor=2"]
    command += [f"--override={text}" for text in more]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    folder = tmp_path / "quickstart"
    wait_for(lambda: list(folder.glob("*/checkpoints/last.ckpt")))
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=HANG_SECONDS)
    assert process.returncode == 143 and "the same command goes on" in errors
    [run] = [path.parent for path in folder.glob("*/summary.json")]
    assert read_summary(run)["state"] == "killed"
    subprocess.run(command, check=True, timeout=HANG_SECONDS)
    assert [path.parent for path in folder.glob("*/summary.json")] == [run]
    summary = read_summary(run)
    assert summary["state"] == "finished" and summary["images_seen"] % 60 == 0
    history = pd.read_csv(run / "metrics.csv")
    assert history.loc[history["val/mse"].notna(), "epoch"].tolist() == list(range(1, 61))


def test_errors_are_clear_and_status_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert sweep.main(["run", str(tmp_path / "none.yaml")]) == 2
    assert sweep.main(["report", str(tmp_path)]) == 2
    assert sweep.main(["report"]) == 2
    for override in ("a=[1", "a=", "a"):
        assert sweep.main(["run", "sweeps/quickstart.yaml", f"--override={override}"]) == 2
    errors = capsys.readouterr().err.strip().splitlines()
    assert [line.startswith("error: ") for line in errors].count(True) == 6
    with pytest.raises(SystemExit, match="2"):
        sweep.main(["run", "sweeps/quickstart.yaml", "--workers=0"])
