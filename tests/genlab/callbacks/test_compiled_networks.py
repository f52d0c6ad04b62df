import shutil
from pathlib import Path

import pytest
from torch import nn

from genlab.callbacks.compiled_networks import networks_in
from genlab.runs.folder import read_summary
from lit_models import GAN, VAE, CycleGAN
from tests.helpers import fit, weights


@pytest.mark.parametrize(
    ("model", "names"),
    [
        (VAE(latent_dim=2), {"encoder", "decoder"}),
        (GAN(latent_dim=2), {"generator", "discriminator"}),
        (CycleGAN(), {"generator.ab", "generator.ba", "discriminator.a", "discriminator.b"}),
    ],
)
def test_networks_are_compiled_and_not_the_model(model: nn.Module, names: set[str]):
    found = list(networks_in(model))
    assert {name for name, module in model.named_modules() if any(module is one for one in found)} == names


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU")
def test_a_compiled_run_has_the_weights_of_another(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    runs = {mode: fit(tmp_path, f"--run.compile={mode}", f"--run.name={mode}") for mode in ("none", "default")}
    plain, compiled = (weights(run.folder) for run in runs.values())
    assert plain.keys() == compiled.keys()
    assert runs["default"].metrics["test/mse"] == pytest.approx(runs["none"].metrics["test/mse"], rel=1e-3)
    assert read_summary(runs["default"].folder)["compile_seconds"] > 0
    assert "compiling the networks took" in capsys.readouterr().out
