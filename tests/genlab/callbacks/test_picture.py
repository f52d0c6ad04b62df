"""A run that diverges goes on without its pictures."""

from pathlib import Path

import pytest

from genlab.runs.folder import read_summary
from tests.helpers import fit


@pytest.mark.parametrize(
    ("name", "metric", "callbacks"),
    [
        ("autoencoder_digits", "test/mse", {"LatentScatter", "SampleGrids", "TrainingGif"}),
        ("classifier_digits", "test/accuracy", {"LatentScatter", "Filters"}),
        ("gan_digits", "train/loss_g", {"SampleGrids", "PriorInterpolation"}),
    ],
)
def test_a_run_that_diverges_finishes_without_pictures(
    name: str, metric: str, callbacks: set[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    options = ["--model.optimizer.lr=1e30", "--trainer.limit_train_batches=2", "--trainer.log_every_n_steps=1"]
    result = fit(tmp_path, f"--config=configs/{name}.yaml", *options, "--alarm.stop=true")
    summary, said = read_summary(result.folder), capsys.readouterr().err.splitlines()
    assert summary is not None and summary["state"] == "finished" and summary["metrics"][metric] == "nan"
    assert [(alarm["kind"], alarm["epoch"]) for alarm in summary["alarms"]] == [("not_finite", 1)]
    assert said[0].startswith("alarm, epoch 1, step 2: ") and said[0].endswith("NaN or infinite; training stops here")
    assert callbacks <= {line.partition(" leaves a picture out: ")[0] for line in said}
    assert [path.name for path in (result.folder / "media").glob("*.png")] == ["curves.png"]
