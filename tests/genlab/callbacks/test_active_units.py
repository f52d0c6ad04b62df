from pathlib import Path

import pytest
import torch

import train
from genlab.metrics.latent_variance import LatentVariance


@pytest.mark.parametrize("model", ["VAE", "WAE"])
def test_a_one_dimensional_code_is_measured(model: str, tmp_path: Path):
    short = ["--trainer.max_epochs=1", "--trainer.limit_train_batches=1", "--run.pictures=false"]
    where = ["--data=DigitsDataModule", f"--run.root={tmp_path}", "--trainer.accelerator=cpu"]
    result = train.main(["fit", f"--model={model}", "--model.latent_dim=1", *where, *short])
    assert result.metrics["test/active_units"] in (0, 1)


def test_variance_over_batches_equals_torch():
    codes = torch.randn(100, 4) * torch.tensor([0.1, 1.0, 5.0, 0.0]) + 1000
    metric = LatentVariance(4)
    for batch in codes.split(7):
        metric.update(batch)
    assert torch.allclose(metric.compute(), codes.double().var(dim=0, correction=0), rtol=1e-6, atol=1e-9)
