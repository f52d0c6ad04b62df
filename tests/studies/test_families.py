"""The table of all families of models: where its numbers come from."""

from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from datamodules import MNISTDataModule
from genlab.evaluation.classifier import EvaluationClassifier, find_evaluation_classifier
from genlab.report.compare.runs import Run
from genlab.runs.errors import UsageError
from genlab.runs.folder import write_summary
from genlab.sampling import sampler as sampling
from lit_models import GAN, VAE, Autoencoder, Classifier, GenerativeModule
from lit_models.common.adversarial import AdversarialRecipe
from lit_models.common.discriminators import DCGANDiscriminator
from lit_models.common.encoder_decoders import MLPNetworks
from lit_models.common.generators import DCGANGenerator
from studies import families
from studies.families import Family
from studies.page import README, RESULTS, replace_section
from studies.samplers import section
from studies.tables import MEASURED, SCORES, Record, scores_table
from tests.helpers import saved

COUNT = 60
QUALITY = {"frechet_classifier": 1.5, "precision": 0.5, "recall": 0.25, "modes": 9.0, "modes_kl": 0.125}
OF_VAE = Family("autoencoder", "VAE", "there", "vae_mnist/default", "its prior", "make the VAE")


def run(root: Path, name: str, model: GenerativeModule, metrics: dict[str, float], **config: object) -> Path:
    folder = root / name
    (folder / "checkpoints").mkdir(parents=True)
    config = {"trainer.max_epochs": 3, **{key.replace("__", "."): value for key, value in config.items()}}
    named = {f"test/{key}": value for key, value in metrics.items()}
    write_summary(folder, {"state": "finished", "seconds": 61.7, "config": config, "metrics": named})
    return saved(model, folder / "checkpoints" / "best.ckpt")


def scores_of(result: families.Result) -> dict[str, float]:
    return {name: result.run.metrics[metric] for name, metric in SCORES.items()}


def small_vae() -> VAE:
    return VAE(latent_dim=2, networks=MLPNetworks(hidden_dims=(8,)))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("runs")
    run(root, "classifier_mnist/default", Classifier(channels=(4, 4, 4), feature_dim=4), {})
    return root


@pytest.fixture(scope="module")
def data(data_root: Path) -> MNISTDataModule:
    return MNISTDataModule(str(data_root), val_size=50, seed=0)


@pytest.fixture(scope="module")
def classifier(root: Path, data: MNISTDataModule) -> EvaluationClassifier:
    found = find_evaluation_classifier(None, data, data.image_shape, root)
    assert found is not None
    return found


@pytest.fixture
def measurements(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of samples that were scored."""
    counted: list[int] = []
    score = families.score

    def counting(classifier: EvaluationClassifier, data: MNISTDataModule, samples: object) -> dict[str, float]:
        drawn: list[tuple[Tensor, int | None]] = list(samples)  # type: ignore[call-overload]
        counted.append(sum(len(images) for images, _ in drawn))
        return score(classifier, data, drawn)

    monkeypatch.setattr(families, "score", counting)
    return counted


def test_scores_of_a_runs_own_test_are_used(
    root: Path, data: MNISTDataModule, classifier: EvaluationClassifier, measurements: list[int]
) -> None:
    metrics = {**QUALITY, "bits_per_dim": 1.234}
    run(root, "tested/default", small_vae(), metrics, trainer__precision="bf16-mixed", quality__num_images=2000)
    found = families.load_result(replace(OF_VAE, run="tested/default"), root, data, classifier, COUNT)
    assert found is not None and not measurements
    assert scores_of(found) == QUALITY and found.run.config[families.COUNT_OPTION] == 2000
    row = "| autoencoder | [VAE](there) | its prior | 3 epochs in bf16 "
    row += "| 1.50 | 0.50 | 0.25 | 9 | 0.1250 | 1.23 | 7.08 k | 13.4 k | 61.7 | - |"
    assert row in scores_table([found.run], families.KEYS, families.COLUMNS, families.FACTS)
    fewer = replace(found.run, config={**found.run.config, families.COUNT_OPTION: 500})
    both = scores_table([found.run, fewer], families.KEYS, families.COLUMNS, families.FACTS)
    assert "only runs with the same test data, evaluation classifier and number of samples compare (no others)" in both


@pytest.mark.parametrize("option", ["quality__classifier", "trainer__limit_test_batches"])
def test_a_run_with_other_test_options_is_scored_again(
    root: Path, data: MNISTDataModule, classifier: EvaluationClassifier, measurements: list[int], option: str
) -> None:
    run(root, f"{option}/default", small_vae(), QUALITY, **{option: 5})
    found = families.load_result(replace(OF_VAE, run=f"{option}/default"), root, data, classifier, COUNT)
    assert found is not None and measurements == [COUNT]
    assert scores_of(found) != QUALITY and option.replace("__", ".") not in found.run.config


def test_scored_once_until_the_checkpoint_changes(
    root: Path, data: MNISTDataModule, classifier: EvaluationClassifier, measurements: list[int]
) -> None:
    checkpoint = run(root, "vae_mnist/default", small_vae(), {"loss": 1.0})
    first = families.load_result(OF_VAE, root, data, classifier, COUNT)
    again = families.load_result(OF_VAE, root, data, classifier, COUNT)
    assert first is not None and again is not None and measurements == [COUNT]
    assert scores_of(first) == scores_of(again)
    assert first.run.config[families.COUNT_OPTION] == COUNT
    assert first.run.facts["classifier"] == classifier.fingerprint
    saved(small_vae(), checkpoint)
    changed = families.load_result(OF_VAE, root, data, classifier, COUNT)
    assert changed is not None and measurements == [COUNT, COUNT]
    assert scores_of(changed) != scores_of(first)


def test_samples_of_an_autoencoder_come_from_a_mixture(
    root: Path, data: MNISTDataModule, classifier: EvaluationClassifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = torch.randn(COUNT, 2)
    monkeypatch.setattr(sampling, "sample_gaussian_mixture", lambda codes, parts, components, n, seed: drawn[:n])
    model = Autoencoder(latent_dim=2, depth=1, channel_factor=2, hidden_dim=8).eval()
    run(root, "ae/default", model, {})
    family = replace(OF_VAE, name="Autoencoder", run="ae/default", mixture=True)
    found = families.load_result(family, root, data, classifier, COUNT)
    assert found is not None  # and COUNT codes are used up
    again = torch.cat([found.source.sample(COUNT - 1), found.source.sample(2)])
    torch.testing.assert_close(again, model.decode(torch.cat([drawn, drawn[:1]])))


def test_a_missing_run_is_left_out_with_its_command(
    root: Path, data: MNISTDataModule, classifier: EvaluationClassifier, capsys: pytest.CaptureFixture[str]
) -> None:
    assert families.load_result(replace(OF_VAE, run="nowhere/default"), root, data, classifier, COUNT) is None
    assert "make the VAE" in capsys.readouterr().err


def test_an_ema_copy_is_not_counted_twice() -> None:
    generator, discriminator = DCGANGenerator(channels=4, depth=1), DCGANDiscriminator(channels=4, depth=1)
    with_ema, without = (
        families.count_parameters(
            GAN(
                latent_dim=3,
                generator=generator,
                discriminator=discriminator,
                recipe=AdversarialRecipe(ema_decay=decay),
            )
        )
        for decay in (0.9, 0.0)
    )
    assert with_ema == without
    assert 0 < without[0] < without[1]


def test_speeds_are_medians_over_rounds_in_which_the_models_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """One model draws an image in 1 s, the other in 2 s except in one slow round, on a clock that only they move."""
    now, turns = 0.0, []

    class Model:
        def __init__(self, name: str, seconds: list[float]) -> None:
            self.name = name
            self.seconds = [0.0, *seconds]  # for an image, of each draw, the one that warms up first

        def sample(self, n: int) -> Tensor:
            nonlocal now
            now += n * self.seconds.pop(0)
            turns.append(self.name)
            return torch.zeros(n, 1)

    monkeypatch.setattr(families, "time", SimpleNamespace(perf_counter=lambda: now))
    models = [Model("a", [1.0] * 6), Model("b", [2.0, 50.0, 2.0])]
    assert families.sampling_speeds(models, batch=10, rounds=3, seconds=15.0) == [1.0, 0.5]
    assert "".join(turns) == "ab" + 3 * "aab"


def test_the_picture_has_a_row_for_each_family(root: Path) -> None:
    rows = {name: torch.zeros(families.TILES, 1, 28, 28) for name in ("one", "another")}
    one, two = (families.picture(dict(list(rows.items())[:n])) for n in (1, 2))
    assert two.height - one.height == 60  # a row of images of 28 pixels and 2 between, twice as large


def test_only_the_text_between_the_comments_is_replaced(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- a -->\nold\n<!-- /a -->\nafter\n<!-- b -->\nkept\n<!-- /b -->\n")
    for _ in range(2):
        replace_section(page, "a", "| new |\n")
    assert page.read_text() == ("before\n<!-- a -->\n| new |\n<!-- /a -->\nafter\n<!-- b -->\nkept\n<!-- /b -->\n")


@pytest.mark.parametrize("text", ["nothing", "<!-- a -->", "<!-- /a -->\n<!-- a -->"])
def test_a_page_without_the_comments_is_refused_and_left_alone(tmp_path: Path, text: str) -> None:
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(UsageError, match="no place"):
        replace_section(page, "a", "new")
    assert page.read_text() == text


@pytest.mark.parametrize("page", [README, RESULTS], ids=lambda page: page.name)
def test_the_pages_have_a_place_for_the_table(page: Path) -> None:
    text = page.read_text()
    assert text.count("<!-- families -->") == text.count("<!-- /families -->") == 1


def test_a_record_gives_the_tables_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("README", "RESULTS"):
        page = tmp_path / f"{name}.md"
        page.write_text("<!-- families -->\n<!-- /families -->\n")
        monkeypatch.setattr(families, name, page)
    metrics = {metric: QUALITY[name] for name, metric in SCORES.items()}
    shown = dict(zip(families.KEYS, ("autoencoder", "[VAE](there)", "its prior", "3 epochs"), strict=True))
    facts = {"image network": 7080, "parameters": 13400, "seconds": 61.7, "samples/s": 12.0}
    reference = Run("", families.REAL, "finished", {"model": families.REAL}, metrics, {})
    record = Record(Record.read(families.RECORD).setting, [Run("", "a", "finished", shown, metrics, facts)], reference)
    record.write(tmp_path / "record.json")
    assert asdict(Record.read(tmp_path / "record.json")) == asdict(record)
    families.write_tables(record)
    short, full = ((tmp_path / f"{name}.md").read_text() for name in ("README", "RESULTS"))
    assert "| [VAE](there) | 3 epochs | 1.50 | 13.4 k | 61.7 |" in short and "docs/results.md" in short
    assert "| [VAE](there) | its prior | 3 epochs | 1.50 | 0.50 | 0.25 | 9 | 0.1250 | - | 7.08 k | 13.4 k |" in full
    assert "real images" in short and "**samples/s**" in full and families.PICTURE in full


def test_the_published_tables_are_those_of_the_records() -> None:
    published = RESULTS.read_text()
    for name, text in {
        "families": families.full_section(Record.read(families.RECORD)),
        "samplers": section(Record.read(MEASURED / "samplers.json")),
    }.items():
        assert f"<!-- {name} -->\n{text}\n<!-- /{name} -->" in published, f"python -m studies.{name} --recorded"
    with pytest.raises(UsageError, match="measure first"):
        Record.read(MEASURED / "nothing.json")
