import sys
from pathlib import Path

import pytest

from studies import gpu
from studies.gpu_work import MODELS, SAMPLED, TRAININGS


def test_the_page_has_what_was_measured_and_what_failed():
    measured = {
        "speed": {
            "VAE, 32-true": {"fit": 123.456, "bare": 1234.5, "ratio": 1.04},
            "GAN, 32-true": {"failed": "no|room"},
        },
        "trainings": {"a": {"seconds": 12.0, "metrics": {"test/mse": 0.01234}}},
    }
    page = gpu.page(measured, ["b", "c"], "python -m studies.gpu")
    assert "| VAE, 32-true | 123 | 1,234 | 1.04 |" in page
    assert "| GAN, 32-true | no/room | no/room | no/room |" in page
    assert "| a | 12 | test/mse 0.0123 |" in page and "## Samples" not in page
    assert page.endswith("would not have ended in time: b, c.\n")


def test_what_is_trained_is_there():
    assert set(SAMPLED) <= set(MODELS) and {training.speed for training in TRAININGS} <= {*MODELS, ""}
    assert len({training.label for training in TRAININGS}) == len(TRAININGS)
    configs = [option for options in MODELS.values() for option in options] + [t.args[0] for t in TRAININGS]
    assert all(Path(option.partition("=")[2]).is_file() for option in configs if option.startswith("--config="))


@pytest.mark.slow
def test_a_rehearsal_goes_on_where_it_stopped(data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.setitem(MODELS, "VAE", [*MODELS["VAE"], "--data.val_size=20"])
    page = tmp_path / "page.md"
    args = f"gpu --device cpu --steps 1 --root {tmp_path} --data-root {data_root} --output {page}".split()
    for minutes, parts in (("0", ["speed"]), ("9", ["samples", "packs"]), ("9", ["samples"])):
        monkeypatch.setattr(sys, "argv", [*args, "--minutes", minutes, "--models", "VAE", "--parts", *parts])
        gpu.main()
    said = capsys.readouterr().out
    assert said.count("samples: VAE") == 1 and "speed: VAE" not in said
    assert "## Samples" in page.read_text() and "failed" not in page.read_text()
