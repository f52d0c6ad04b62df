"""Tables of sweeps in docs/results.md: they are those of `sweep.py compare`."""

from pathlib import Path

import pytest

from genlab.report.compare.runs import Run
from genlab.runs.folder import write_summary
from studies import pictures, translation
from studies.tables import averaged, compared


def a_run(d: int, n: int, seed: int, mse: float) -> Run:
    config = {"model": "lit_models.VAE", "data": "D", "model.d": d, "model.n": n, "seed_everything": seed}
    return Run("sweep", f"{d}{n}{seed}", "finished", config, {"test/mse": mse}, {})


def test_the_deviation_is_over_seeds_after_the_mean_over_other_parameters() -> None:
    runs = [a_run(d, n, seed, d + n + 0.1 * seed) for d in (10, 20) for n in (1, 3) for seed in (0, 1)]
    by_d = compared(averaged(runs, "model.d"), ["test/mse", "test/nothing"], "model.d")
    assert "| 1 | 10 | 2 | **12.050 ± 0.071** |" in by_d and "| 2 | 20 | 2 | 22.050 ± 0.071 |" in by_d
    by_both = compared(averaged(runs, "model.d", "model.n"), ["test/mse"], "model.d", "model.n")
    assert "| 1 | 10 | **11.050 ± 0.071 (2)** | 13.050 ± 0.071 (2) |" in by_both


def test_the_commands_print_the_tables_of_their_sweeps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in (0, 1):
        config = {"model": "lit_models.CycleGAN", "data": "D", "model.cycle_weight": 10, "seed_everything": seed}
        metrics = {"test/psnr": 20.0 + seed, "test/psnr_gain": 5.0}
        for sweep in ("cyclegan", "denoising"):
            folder = tmp_path / sweep / str(seed)
            folder.mkdir(parents=True)
            write_summary(folder, {"state": "finished", "config": config, "metrics": metrics})
    pictures.denoising(tmp_path)
    monkeypatch.setattr("sys.argv", ["translation", "--root", str(tmp_path)])
    translation.main()
    printed = capsys.readouterr()
    assert printed.out.count("**20.50 ± 0.71**") + printed.out.count("| 20.50 ± 0.71 |") == 2
    assert "pix2pix is left out" in printed.err
