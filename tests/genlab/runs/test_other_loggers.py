"""TensorBoard and MLflow beside W&B."""

import importlib.util
from pathlib import Path

import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from genlab.cli.parser import one_line
from genlab.runs.errors import UsageError
from genlab.runs.folder import RunOptions
from genlab.runs.other_loggers import check_installed, log_gif, log_picture, loggers_in


def log_in(folder: Path, options: RunOptions, batches: int, metrics: dict[int, float]) -> None:
    [logger] = loggers_in(folder, options, batches)
    for step, value in metrics.items():
        logger.log_metrics({"val/mse": value}, step)
        log_picture(logger, "media/samples", Image.new("RGB", (8, 8)), step)
    Image.new("RGB", (8, 8)).save(folder / "grid.gif")
    log_gif(logger, "media/grid", folder / "grid.gif", max(metrics))
    logger.finalize("success")


def test_tensorboard_shows_a_resumed_run_without_what_is_logged_again(tmp_path: Path):
    options = RunOptions(tensorboard=True)
    log_in(tmp_path, options, 0, {5: 3.0, 11: 2.0, 17: 9.0})  # killed after a checkpoint of 12 batches
    log_in(tmp_path, options, 12, {17: 1.0, 23: 0.5})
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    for found in (events.Scalars("val/mse"), events.Images("media/samples")):
        assert [event.step for event in found] == [5, 11, 17, 23]
    assert [event.value for event in events.Scalars("val/mse")] == [3.0, 2.0, 1.0, 0.5]
    assert events.Images("media/grid")[-1].encoded_image_string.startswith(b"GIF8")


def test_mlflow_has_one_run_in_the_run_folder(tmp_path: Path):
    mlflow = pytest.importorskip("mlflow", reason="needs the extra mlflow")
    folder = tmp_path / "exp" / "depth=1,lr=0.1"
    folder.mkdir(parents=True)
    log_in(folder, RunOptions(mlflow=True), 0, {5: 3.0})
    log_in(folder, RunOptions(mlflow=True), 6, {11: 2.0})
    client = mlflow.tracking.MlflowClient(f"sqlite:///{folder}/mlflow/mlflow.db")
    [run] = client.search_runs([client.get_experiment_by_name("exp").experiment_id])
    assert (run.info.run_name, run.info.status) == (folder.name, "FINISHED")
    assert [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, "val/mse")] == [(5, 3.0), (11, 2.0)]
    names = [
        Path(file.path).name for where in ("images", "media") for file in client.list_artifacts(run.info.run_id, where)
    ]
    assert "grid.gif" in names and any("samples" in name and name.endswith(".png") for name in names)
    assert {path.name for path in folder.iterdir()} == {"mlflow", "grid.gif"}


@pytest.mark.parametrize("name", ["tensorboard", "mlflow"])
def test_a_missing_package_is_named_with_the_command_that_installs_it(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=f"--run.{name} needs the package {name}: pip install 'genlab\\[{name}\\]'"):
        check_installed(RunOptions(**{name: True}))
    reason = {
        "tensorboard": "TensorBoardLogger': Neither `tensorboard`",
        "mlflow": "MLFlowLogger': Requirement 'mlflow",
    }
    said = one_line(f"Problem with given class_path 'lightning.pytorch.loggers.{reason[name]} ...")
    assert said.endswith(f"needs the package {name}: pip install 'genlab[{name}]'")
