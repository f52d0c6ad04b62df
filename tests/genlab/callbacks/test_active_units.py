from pathlib import Path

import pytest
import torch

import train
from genlab.evaluation.active_units import active_units
from genlab.metrics.latent_variance import LatentVariance
from lit_models.common.capabilities import LatentBlock


@pytest.mark.parametrize("model", ["VAE", "WAE"])
def test_a_code_of_one_dimension_is_measured(model: str, tmp_path: Path):
    short = ["--trainer.max_epochs=1", "--trainer.limit_train_batches=1", "--run.pictures=false"]
    where = ["--data=DigitsDataModule", f"--run.root={tmp_path}", "--trainer.accelerator=cpu"]
    result = train.main(["fit", f"--model={model}", "--model.latent_dim=1", *where, *short])
    assert result.metrics["test/active_units"] in (0, 1)


def test_the_variance_is_torchs_over_any_number_of_batches():
    codes = torch.randn(100, 4) * torch.tensor([0.1, 1.0, 5.0, 0.0]) + 1000
    metric = LatentVariance(4)
    for batch in codes.split(7):
        metric.update(batch)
    assert torch.allclose(metric.compute(), codes.double().var(dim=0, correction=0), rtol=1e-6, atol=1e-9)


def test_units_are_dimensions_and_variables():
    variances = torch.tensor([0.5, 0.009, 0.02, *[0.004] * 3, *[0.001] * 3])
    parts = [LatentBlock("continuous", 0, 3), LatentBlock("categorical", 3, 9, 3)]
    assert active_units(variances, parts, 0.01) == 2 + 1
