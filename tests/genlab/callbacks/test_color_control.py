import math
from pathlib import Path

import pytest

from genlab.runs.folder import read_summary
from tests.helpers import fit

VAE = ["--config=configs/vae_colored_mnist.yaml", "--model.networks.hidden_dims=[16]", "--trainer.max_epochs=1"]


@pytest.mark.parametrize("distribution", ["Gaussian", "GumbelSoftmax", "Joint"])
def test_metrics_do_not_depend_on_pictures(distribution: str, data_root: Path, tmp_path: Path):
    """Neither the metrics nor the weights depend on the pictures: they use no random numbers of the run."""
    found = []
    for pictures in ("true", "false"):
        extra = [f"--run.pictures={pictures}", f"--run.name={pictures}", "--data.val_size=20"]
        folder = fit(
            tmp_path, *VAE, *extra, f"--model.latent_distribution={distribution}", f"--data.root={data_root}"
        ).folder
        assert (folder / "media" / "color_control.png").is_file() == (pictures == "true")
        assert (folder / "media" / "color_confusion.png").is_file() == (pictures == "true")
        metrics = read_summary(folder)["metrics"]
        found.append([metrics["test/color_agreement"], metrics["test/color_purity"]])
    assert found[0] == found[1] and all(0 <= share <= 1 and not math.isnan(share) for share in found[0])


@pytest.mark.parametrize(
    "args",
    [
        ["--config=configs/vae_mnist.yaml", "--data.val_size=20"],
        ["--config=configs/autoencoder_mnist.yaml", "--data=ColoredMNISTDataModule", "--data.val_size=20"],
        [*VAE, "--data.val_size=20", "--color_control.num_codes=0"],
    ],
    ids=["grey", "no_prior", "unwanted"],
)
def test_other_runs_do_not_log_color_control(args: list[str], data_root: Path, tmp_path: Path):
    short = ["--trainer.max_epochs=1", "--trainer.limit_train_batches=1", "--run.pictures=false"]
    folder = fit(tmp_path, *args, *short, f"--data.root={data_root}").folder
    assert not [name for name in read_summary(folder)["metrics"] if "color" in name]


def test_invalid_options_are_refused(data_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for option, words in (("clusters=0", "clusters is 0"), ("tolerance=0", "tolerance is 0"), ("mass=2", "mass 2")):
        with pytest.raises(Exception, match=words):
            fit(tmp_path, *VAE, f"--color_control.{option}", f"--data.root={data_root}", "--data.val_size=20")
