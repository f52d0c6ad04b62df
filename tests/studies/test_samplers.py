"""The comparison of samplers: its settings, its samples and its chart."""

import argparse
from pathlib import Path

import pytest
import torch

from genlab.random_state import isolated_rng
from genlab.runs.errors import UsageError
from lit_models import DDPM, EDM, FlowMatching
from lit_models.common.diffusion_base import DiffusionBase
from lit_models.common.module import GenerativeModule
from lit_models.common.noise_predictors import MLPNoisePredictor
from lit_models.common.samplers import DDIM, Ancestral
from studies import evaluations
from studies.sampler_settings import BATCH, KINDS, Setting, TimedSamples, load_model, parse_setting
from studies.samplers import as_record, chart, section
from tests.helpers import saved


@pytest.fixture(scope="module")
def model() -> DDPM:
    torch.manual_seed(0)
    return DDPM(network=MLPNoisePredictor(hidden_dims=(8,)), num_steps=50, image_shape=(1, 4, 4)).eval()


def test_settings_are_parsed(model: DDPM) -> None:
    ddim, ancestral = (parse_setting(name).sampler(model.process) for name in ("ddim-10", "ancestral-20"))
    assert isinstance(ddim, DDIM) and (ddim.steps, ddim.eta) == (10, 0)
    assert isinstance(ancestral, Ancestral) and ancestral.steps == 20


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("make", [DDPM, EDM, FlowMatching])
def test_a_setting_has_the_most_steps_for_its_evaluations(kind: str, make: type[DiffusionBase]) -> None:
    process = make(network=MLPNoisePredictor((8,)), image_shape=(1, 4, 4)).process  # type: ignore[call-arg]
    for most in (5, 10, 25):
        setting = parse_setting(f"{kind}-{most}")
        if make is DDPM and kind in ("euler", "midpoint", "heun"):
            with pytest.raises(UsageError, match=f"{kind}-{most}: .* needs a model of continuous time"):
                setting.sampler(process)
            continue
        sampler = setting.sampler(process)
        one_more = type(sampler)(sampler.steps + 1)  # type: ignore[call-arg]
        assert sampler.evaluations(process) <= most < one_more.evaluations(process)
    with pytest.raises(UsageError, match="midpoint-1: one step of Midpoint takes"):
        parse_setting("midpoint-1").sampler(EDM(network=MLPNoisePredictor((8,)), image_shape=(1, 4, 4)).process)


@pytest.mark.parametrize("name", ["ddim", "ddim-0", "ddim-", "eulers-10", "xddim-10"])
def test_other_settings_are_refused(name: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=name):
        parse_setting(name)


def test_each_setting_starts_from_the_same_noise(model: DDPM, monkeypatch: pytest.MonkeyPatch) -> None:
    started = []

    def keep(sampler: object, noisy: torch.Tensor, labels: object = None) -> torch.Tensor:
        started.append(noisy)
        torch.randn(len(started))  # as a sampler that draws its own noise does
        return noisy

    monkeypatch.setattr(model, "sample_with", keep)
    for name in ("ddim-2", "ancestral-5"):
        images = TimedSamples(model, parse_setting(name).sampler(model.process), BATCH + 3, bf16=False)
        with isolated_rng():
            assert [len(batch) for batch, _ in images] == [BATCH, 3] and len(images.seconds) == 2
    first, rest, again, rest_again = started
    assert torch.equal(first, again) and torch.equal(rest, rest_again)
    assert not torch.equal(first[:3], rest)


def test_bf16_applies_to_the_network_alone(model: DDPM) -> None:
    def images(bf16: bool) -> torch.Tensor:
        with isolated_rng():
            return torch.cat([batch for batch, _ in TimedSamples(model, DDIM(5), 10, bf16)])

    exact, rounded = images(False), images(True)
    assert rounded.dtype == torch.float32 and not torch.equal(exact, rounded)
    torch.testing.assert_close(rounded, exact, rtol=0, atol=0.1)  # in [0, 1]; bfloat16 has three digits


def test_the_points_of_the_chart_are_labelled_with_their_steps() -> None:
    values = {"frechet_classifier": 1.0, "precision": 0.5, "recall": 0.5, "images_per_second": 3.0}
    found = {parse_setting(name): values for name in ("ancestral-5", "ddim-2", "ddim-7")}
    left = chart(found, values).axes[0]
    assert sorted(text.get_text() for text in left.texts) == ["2", "5", "7"]


VALUES = {"frechet_classifier": 1.0, "precision": 0.5, "recall": 0.4, "modes": 10.0, "modes_kl": 0.1}


def test_the_table_has_the_evaluations_where_they_are_not_the_steps(model: DDPM) -> None:
    setting = {"count": 7, "run": "a", "precision": "float32", "batch": 1, "machine": "m"}
    timed = VALUES | {"images_per_second": 3.0}
    for names, shown in ((["ddim-5"], "| DDIM | 5 | "), (["ddim-5", "edm-10"], "| EDMSampler | 5 | ")):
        scores = {parse_setting(name): timed for name in names}
        text = section(as_record(setting, model.process, scores, VALUES))
        assert shown in text and ("| 9 |" in text) == ("evaluations |" in text) == (len(names) > 1)


class FakeMeasured:
    """Distances of 1 to 3 for the seeds 0 to 2, halved by ten times as many evaluations."""

    classifier = None

    def __init__(self, root: Path) -> None:
        self.root = root

    def scores(self, run: str, model: object, setting: Setting) -> dict[str, float]:
        return VALUES | {"frechet_classifier": (1 + int(run[-1])) * (1 if setting.evaluations < 10 else 0.5)}


def test_models_are_compared_over_seeds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("studies.sampler_settings.load_measured", lambda path, _: GenerativeModule.load(path))
    runs = [f"{name}/seed={seed}" for name in ("ddpm", "edm") for seed in range(3)]
    for name, make in (("ddpm", DDPM), ("edm", EDM)):
        made = saved(make(network=MLPNoisePredictor((8,)), image_shape=(1, 4, 4)), tmp_path / f"{name}.ckpt")
        for seed in range(3):
            folder = tmp_path / name / f"seed={seed}" / "checkpoints"
            folder.mkdir(parents=True)
            (folder / "best.ckpt").symlink_to(made)
    settings = [parse_setting(name) for name in ("ddim-5", "ddim-50", "midpoint-5")]
    found = evaluations.measure(runs, settings, FakeMeasured(tmp_path))  # type: ignore[arg-type]
    assert "ddpm/seed=0 is left out of midpoint-5" in capsys.readouterr().err
    lines = evaluations.lines(found)
    assert evaluations.table(lines).splitlines()[2:] == [
        "| DDPM | DDIM | **2.00 ± 1.00** | **1.00 ± 0.50** |",
        "| EDM | DDIM | **2.00 ± 1.00** | **1.00 ± 0.50** |",
        "| EDM | Midpoint | **2.00 ± 1.00** |  |",
    ]
    axes = evaluations.chart(lines, 0.1).axes[0]
    assert [text.get_text() for text in axes.get_legend().get_texts()][-3:] == [
        "DDPM, DDIM",
        "EDM, DDIM",
        "EDM, Midpoint",
    ]
    with pytest.raises(UsageError, match=r"there is no .*best.ckpt; give a run below --root"):
        load_model(tmp_path, "nothing", None)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="no setting fits a run"):
        evaluations.measure(runs[:1], settings[2:], FakeMeasured(tmp_path))  # type: ignore[arg-type]
