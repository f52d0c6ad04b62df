"""sample.py as a user meets it: pictures, interpolations, labels, data files, errors."""

import csv
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning import seed_everything
from PIL import Image
from torch import Tensor, nn

import sample
from datamodules import DigitsDataModule, MNISTDataModule
from genlab.latent_paths import linear_path, spherical_path
from genlab.latents import sample_gaussian_mixture
from genlab.media import image_grid
from genlab.random_state import isolated_rng
from genlab.runs.errors import UsageError
from genlab.sampling.classes import class_numbers
from genlab.sampling.labels import PredictedLabels
from genlab.sampling.output import captioned_grid, grid_by_class
from genlab.sampling.run_data import training_data
from genlab.sampling.sampler import CheckpointSampler
from lit_models import (
    DDPM,
    VAE,
    AngleProbe,
    Autoencoder,
    Classifier,
    ConditionalGAN,
    FlowMatching,
    GenerativeModule,
    Probe,
)
from lit_models.common.capabilities import LatentBlock
from lit_models.common.discriminators import MLPDiscriminator
from lit_models.common.generators import MLPGenerator
from lit_models.common.latent_distributions import GumbelSoftmax, Joint
from lit_models.common.noise_predictors import MLPNoisePredictor
from lit_models.common.ode_samplers import Midpoint
from lit_models.common.samplers import DDIM
from tests.helpers import fit, saved


class Shades(GenerativeModule):
    """A model that can be asked for a class, which is how bright its images are; it has no codes."""

    def __init__(self, num_classes: int = 4) -> None:
        super().__init__(torch.optim.Adam)
        self.save_hyperparameters()
        self.num_classes = num_classes
        self.noise = nn.Parameter(torch.tensor(0.01))

    def sample(self, n: int, label: int | None = None) -> Tensor:
        shade = torch.randint(self.num_classes, (n, 1, 1, 1)) if label is None else torch.full((n, 1, 1, 1), label)
        return (shade / self.num_classes + self.noise * torch.rand(n, 1, 28, 28)).clamp(0, 1)


class Sky(DigitsDataModule):
    classes = ("sun", "moon", "star", "cloud")


@pytest.fixture(scope="module")
def vae(tmp_path_factory: pytest.TempPathFactory) -> Path:
    seed_everything(0, verbose=False)
    return saved(VAE(latent_dim=3), tmp_path_factory.mktemp("vae") / "vae.ckpt")


@pytest.fixture(scope="module")
def shades(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(Shades(), tmp_path_factory.mktemp("shades") / "shades.ckpt")


@pytest.fixture(scope="module")
def probe(encoder_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A probe on the frozen encoder of the small autoencoder."""
    args = ["--config=configs/probe_digits.yaml", f"--model.encoder_checkpoint={encoder_checkpoint}"]
    args += ["--model.latent_dim=3", "--trainer.max_epochs=20", "--run.pictures=false"]
    return fit(tmp_path_factory.mktemp("probe"), *args).folder / "checkpoints" / "best.ckpt"


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    args = ["--config=configs/classifier_digits.yaml", "--trainer.max_epochs=1", "--run.pictures=false"]
    return fit(tmp_path_factory.mktemp("classifier"), *args).folder / "checkpoints" / "best.ckpt"


@pytest.fixture(scope="module")
def cgan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ConditionalGAN of three classes, which its generator tells apart by brightness though it never learnt to."""
    seed_everything(0, verbose=False)
    networks = {"generator": MLPGenerator((16,)), "discriminator": MLPDiscriminator((4,))}
    model = ConditionalGAN(latent_dim=5, num_classes=3, **networks)
    model.generator.embedding.weight.data *= 3
    return saved(model, tmp_path_factory.mktemp("cgan") / "cgan.ckpt")


def run(*args: object, output: Path) -> Path:
    assert sample.main([*map(str, args), f"--output={output}"]) == 0
    return output


def read_csv(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("source", [[], ["--sample-from=gaussian"], ["--sample-from=mixture", "--components=3"]])
def test_a_seed_makes_the_same_images(source: list[str], encoder_checkpoint: Path, vae: Path, tmp_path: Path):
    for checkpoint in (encoder_checkpoint, vae):
        args = [checkpoint, *source, *([] if checkpoint is encoder_checkpoint else ["--data=DigitsDataModule"])]
        first = run(*args, "--seed=5", "--count=9", output=tmp_path / "a.png").read_bytes()
        assert run(*args, "--seed=5", "--count=9", output=tmp_path / "b.png").read_bytes() == first
        assert run(*args, "--seed=6", "--count=9", output=tmp_path / "c.png").read_bytes() != first


def test_the_grid_has_the_columns_asked_for(vae: Path, tmp_path: Path):
    sizes = [
        Image.open(run(vae, "--count=12", *more, output=tmp_path / "a.png")).size for more in ([], ["--columns=6"])
    ]
    assert sizes == [(2 * (3 * 30 + 2), 2 * (4 * 30 + 2)), (2 * (6 * 30 + 2), 2 * (2 * 30 + 2))]


def test_a_prior_is_drawn_from_where_there_is_one(vae: Path, tmp_path: Path):
    made = np.load(run(vae, "--count=30", "--seed=4", output=tmp_path / "a.npz"))
    model = VAE.load(vae)
    torch.manual_seed(4)
    with torch.no_grad():
        expected = model.sample(30)[:, 0]
    assert np.abs(np.concatenate([made["x_train"], made["x_test"]]) - 255 * expected.numpy()).max() <= 0.501


def test_the_mixture_has_the_distribution_of_the_codes():
    generator = torch.Generator().manual_seed(0)
    centre = torch.tensor([[-4.0, 100.0, 0.0], [4.0, 300.0, 0.0]])[torch.arange(4000) % 4 // 3]
    spread = torch.tensor([[1.0, 20.0, 0.0], [0.0, 15.0, 0.0], [0.0, 0.0, 0.0]])  # the last dimension is dead
    codes = centre + torch.randn(4000, 3, generator=generator) @ spread
    drawn = sample_gaussian_mixture(codes, [LatentBlock("continuous", 0, 3)], 2, 20000, seed=1)
    assert (drawn[:, 0] > 0).float().mean().item() == pytest.approx(0.25, abs=0.02)
    for sign in (-1, 1):
        one, other = codes[codes[:, 0] * sign > 0][:, :2], drawn[drawn[:, 0] * sign > 0][:, :2]
        assert torch.allclose(other.mean(dim=0), one.mean(dim=0), rtol=0.03)
        assert torch.allclose(torch.cov(other.T), torch.cov(one.T), rtol=0.1)
    assert drawn[:, 2].abs().max() < 1e-3
    assert 0.1 < (drawn[:100, 0] > 0).float().mean() < 0.4  # in no order


def test_categories_of_a_mixture_are_one_hot():
    parts = [LatentBlock("continuous", 0, 2), LatentBlock("categorical", 2, 8, categories=3)]
    chosen = torch.eye(3)[torch.randint(3, (500, 2), generator=torch.Generator().manual_seed(0))].flatten(1)
    drawn = sample_gaussian_mixture(torch.cat([torch.randn(500, 2), chosen], dim=1), parts, 3, 100, seed=0)
    assert set(drawn[:, 2:].flatten().tolist()) == {0.0, 1.0}
    assert torch.equal(drawn[:, 2:].unflatten(1, (2, 3)).sum(dim=2), torch.ones(100, 2))


def test_one_class_is_fitted_to_its_own_images(encoder_checkpoint: Path):
    model, data = Autoencoder.load(encoder_checkpoint), training_data(encoder_checkpoint, None, None)
    images, labels = data.examples("train", 2000)
    with torch.no_grad():
        codes = model.encode(images)
    for label in (0, 7):
        drawn = CheckpointSampler(model, "gaussian", lambda: data).sample_codes(4000, label)
        of_class = codes[labels == label]
        error = (drawn.mean(dim=0) - of_class.mean(dim=0)) / of_class.std(dim=0)
        assert error.abs().max() < 0.1


def test_the_data_are_those_of_the_run(encoder_checkpoint: Path):
    data = training_data(encoder_checkpoint, None, None)
    assert isinstance(data, DigitsDataModule) and data.batch_size == 200 and data.seed == 0


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        (
            "data: {class_path: datamodules.DigitsDataModule, init_args: {batch_size: 0}}",
            "cannot make DigitsDataModule",
        ),
        (
            "data: {class_path: os.system, init_args: {command: ls}}",
            "the data module os.system is not imported; add --import os",
        ),
        ("data: [}", r"config.yaml \(line 1: "),
        ("seed_everything: 0", "does not say which data it was trained on; name"),
    ],
)
def test_data_that_a_run_names_badly_are_refused(config: str, complaint: str, encoder_checkpoint: Path, tmp_path: Path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "config.yaml").write_text(config)
    with pytest.raises(UsageError, match=complaint):
        training_data(tmp_path / "checkpoints" / "best.ckpt", None, None)


def test_classes_of_a_model_that_can_be_asked(shades: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    made = np.load(run(shades, "--class=3,1", "--count=21", output=tmp_path / "a.npz"))
    means = np.concatenate([made["x_train"], made["x_test"]]).mean(axis=(1, 2))
    labels = np.concatenate([made["y_train"], made["y_test"]])
    assert labels.tolist() == [3] * 11 + [1] * 10
    assert np.abs(means - 255 * (labels / 4)).max() < 4
    assert "a.npz: 21 images, 3 of them as x_test\n" in capsys.readouterr().out
    rows = Image.open(run(shades, "--class=3,1", "--count=20", output=tmp_path / "a.png"))
    assert rows.size == (2 * (10 * 30 + 2), 2 * (2 * 30 + 2))  # a class a row


def test_a_classifier_that_learned_other_data_is_refused(encoder_checkpoint: Path, classifier: Path, tmp_path, capsys):
    checkpoint = torch.load(classifier, weights_only=True) | {"data_fingerprint": "of other images"}
    torch.save(checkpoint, tmp_path / "other.ckpt")
    args = [str(encoder_checkpoint), f"--classifier={tmp_path / 'other.ckpt'}", f"--output={tmp_path / 'a.png'}"]
    assert sample.main(args) == 2
    error = capsys.readouterr().err
    assert f"other.ckpt learned other images than those of {encoder_checkpoint}" in error and error.count("\n") == 1
    assert not (tmp_path / "a.png").exists()


@pytest.mark.parametrize(
    ("given", "numbers"),
    [
        (["t-shirt", "Star"], [0, 2]),
        (["A", "a"], [3, 4]),
        (["3"], [5]),  # a name before a number
        (["4", "0"], [4, 0]),
    ],
)
def test_classes_are_given_by_name_or_number(given: list[str], numbers: list[int]):
    assert class_numbers(given, ["T-shirt", "moon", "star", "A", "a", "3"]) == numbers


def test_a_class_of_a_near_name_is_suggested():
    with pytest.raises(UsageError, match="there is no class stra; did you mean star"):
        class_numbers(["stra"], ["moon", "star"])
    with pytest.raises(UsageError, match="there is no class x; the classes are 000 to 999$"):
        class_numbers(["x"], [f"{number:03}" for number in range(1000)])


def test_names_of_classes_are_those_of_the_runs_data(shades: Path, tmp_path: Path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "config.yaml").write_text(f"data: {{class_path: {__name__}.Sky}}")
    checkpoint = shutil.copy(shades, tmp_path / "checkpoints")
    made = np.load(run(checkpoint, "--class=star,Sun", "--count=8", output=tmp_path / "a.npz"))
    assert np.concatenate([made["y_train"], made["y_test"]]).tolist() == [2] * 4 + [0] * 4


def held_codes(count: int, places: int, label: int | None, path: Path) -> Tensor:
    """Codes as sample.py samples them with seed 0; each interpolation has the class asked for, or that of its start."""
    model = ConditionalGAN.load(path)
    with isolated_rng(0):
        codes = model.sample_prior(places * count).unflatten(0, (places, count))
    classes = codes[0, :, 5:].argmax(dim=1) if label is None else torch.full((count,), label)
    return torch.cat([codes[..., :5], torch.eye(3)[classes].expand(places, -1, -1)], dim=2)


@torch.no_grad()
@pytest.mark.parametrize("label", [None, 2])
def test_interpolations_of_a_model_with_labels_keep_to_a_class(label: int | None, cgan: Path, tmp_path: Path):
    asked = [] if label is None else [f"--class={label}"]
    drawn = Image.open(run(cgan, "--interpolate", "--count=3", "--steps=5", *asked, output=tmp_path / "a.png"))
    starts, stops = held_codes(3, 2, label, cgan)
    z = spherical_path(starts[:, :5], stops[:, :5], torch.linspace(0, 1, 5))
    codes = torch.cat([z, starts[:, None, 5:].expand(-1, 5, -1)], dim=2).flatten(0, 1)
    expected = image_grid(ConditionalGAN.load(cgan).decode(codes), 5)
    assert np.abs(np.asarray(drawn).astype(int) - np.asarray(expected)).max() <= 1
    if label is None:
        assert len(set(starts[:, 5:].argmax(dim=1).tolist())) > 1
    training_gif = Image.open(run(cgan, "--count=4", "--steps=3", *asked, output=tmp_path / "a.gif"))
    assert training_gif.size == (2 * (2 * 30 + 2), 2 * (2 * 30 + 2))


@torch.no_grad()
def test_classes_of_a_model_with_codes_are_asked_for_by_their_label(cgan: Path, tmp_path: Path):
    made = np.load(run(cgan, "--class=2,0", "--count=8", "--seed=3", output=tmp_path / "a.npz"))
    model = ConditionalGAN.load(cgan)
    torch.manual_seed(3)
    expected = []
    for label in (2, 0):
        codes = model.sample_prior(4)
        expected.append(model.decode(torch.cat([codes[:, :5], torch.eye(3)[[label] * 4]], dim=1))[:, 0])
    images = np.concatenate([made["x_train"], made["x_test"]])
    assert np.concatenate([made["y_train"], made["y_test"]]).tolist() == [2] * 4 + [0] * 4
    assert np.abs(images - 255 * torch.cat(expected).numpy()).max() <= 0.501
    with pytest.raises(UsageError, match="is not a class of the model; its classes are 0 to 2"):
        CheckpointSampler(model, None, DigitsDataModule).sample(1, 3)


def test_interpolations_under_a_normal_prior_are_arcs_and_others_straight(vae: Path, encoder_checkpoint: Path):
    starts, stops = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0))
    half = torch.tensor([0.5])
    routes = {
        CheckpointSampler(VAE.load(vae), None, DigitsDataModule).path(): spherical_path,
        CheckpointSampler(VAE.load(vae), "mixture", DigitsDataModule).path(): linear_path,
        CheckpointSampler(Autoencoder.load(encoder_checkpoint), None, DigitsDataModule).path(): linear_path,
    }
    for route, expected in routes.items():
        assert torch.equal(route(starts, stops, half), expected(starts, stops, half))


def test_interpolations_are_pictures_and_animations(encoder_checkpoint: Path, vae: Path, tmp_path: Path):
    picture = Image.open(run(encoder_checkpoint, "--interpolate", "--count=3", "--steps=7", output=tmp_path / "a.png"))
    assert picture.size == (2 * (7 * 30 + 2), 2 * (3 * 30 + 2))
    with Image.open(run(vae, "--count=4", "--steps=5", output=tmp_path / "a.gif")) as training_gif:
        assert training_gif.n_frames == 4 * 5 and training_gif.info["loop"] == 0 and training_gif.size == (124, 124)
        assert training_gif.info["duration"] == 80
        shown = np.asarray(training_gif.convert("RGB")).astype(float)
    model, stops = VAE.load(vae), CheckpointSampler(VAE.load(vae), None, DigitsDataModule)
    with isolated_rng(0):
        codes = stops.sample_codes(4 * 4).unflatten(0, (-1, 4))
    expected = np.asarray(image_grid(model.decode(codes[0]).detach(), 2)).astype(float)
    assert np.abs(shown - expected).max() < 10  # grey levels are few, but not as few as colours would be
    run(encoder_checkpoint, "--class=3", output=tmp_path / "b.gif")


@torch.no_grad()
def test_a_probe_on_the_models_encoder_reads_the_codes(encoder_checkpoint: Path, probe: Path, tmp_path: Path, capsys):
    run(encoder_checkpoint, f"--classifier={probe}", "--count=40", "--seed=2", output=tmp_path / "a.png")
    model, head = Autoencoder.load(encoder_checkpoint), Probe.load(probe)
    codes = CheckpointSampler(model, None, lambda: training_data(encoder_checkpoint, None, None), seed=2).sample_codes(
        40
    )
    expected = head.classifier(codes).softmax(dim=1).max(dim=1)
    rows = read_csv(tmp_path / "a.csv")
    assert [int(row["index"]) for row in rows] == list(range(40))
    assert [int(row["label"]) for row in rows] == expected.indices.tolist()
    assert [float(row["probability"]) for row in rows] == pytest.approx(expected.values.tolist(), abs=1e-4)
    said = capsys.readouterr().out
    assert "labels were read from the codes\n" in said
    assert sum(int(line.split("│")[2]) for line in said.splitlines() if line.startswith("│")) == 40


@torch.no_grad()
def test_every_other_classifier_looks_at_the_images(
    encoder_checkpoint: Path, vae: Path, probe: Path, classifier: Path, tmp_path: Path, capsys
):
    tuned = Probe(str(encoder_checkpoint), freeze_encoder=False)
    next(tuned.encoder.parameters()).add_(1e-3)
    cases = {
        classifier: (encoder_checkpoint, "labels were read from the images\n"),
        saved(tuned, tmp_path / "tuned.ckpt"): (
            encoder_checkpoint,
            "images, as the probe's encoder is not the model's",
        ),
        probe: (vae, "images, as the probe's encoder is not the model's"),
    }
    for classifier_path, (model, said) in cases.items():
        made = np.load(run(model, f"--classifier={classifier_path}", "--count=30", output=tmp_path / "a.npz"))
        assert said in capsys.readouterr().out
        images = torch.from_numpy(np.concatenate([made["x_train"], made["x_test"]]))[:, None] / 255
        expected = GenerativeModule.load(classifier_path)(images).argmax(dim=1)
        assert np.concatenate([made["y_train"], made["y_test"]]).tolist() == expected.tolist()


def test_agreement_with_the_class_asked_for_is_told(shades: Path, classifier: Path, tmp_path: Path, capsys):
    run(shades, f"--classifier={classifier}", "--class=2", "--count=10", output=tmp_path / "a.png")
    labels = [int(row["label"]) for row in read_csv(tmp_path / "a.csv")]
    assert f"class agreement {labels.count(2) / 10:.4f}" in capsys.readouterr().out


def test_a_file_of_images_can_be_trained_on(encoder_checkpoint: Path, probe: Path, tmp_path: Path):
    run(encoder_checkpoint, f"--classifier={probe}", "--count=70", output=tmp_path / "made" / "mnist.npz")
    data = MNISTDataModule(str(tmp_path / "made"), val_size=10)
    images, labels = data.examples("test", 100)
    assert images.shape == (10, 1, 28, 28) and labels.shape == (10,)
    assert len(data.examples("train", 100)[0]) == 50


def test_colour_images_keep_their_colours(tmp_path: Path):
    seed_everything(0, verbose=False)
    path = saved(VAE(latent_dim=2, image_shape=(3, 32, 32)), tmp_path / "colour.ckpt")
    made = np.load(run(path, "--count=14", output=tmp_path / "a.npz"))
    assert made["x_train"].shape == (12, 32, 32, 3) and made["x_test"].dtype == np.uint8
    model = VAE.load(path)
    torch.manual_seed(0)
    with torch.no_grad():
        expected = model.sample(14)[0].permute(1, 2, 0)
    assert np.abs(made["x_train"][0] - 255 * expected.numpy()).max() <= 0.501


def test_captions_stand_below_their_images():
    images = torch.arange(3, dtype=torch.uint8).mul(60).view(3, 1, 1, 1).expand(3, 1, 28, 28)
    picture = np.asarray(captioned_grid(images, ["0", "ship 100%", "a very long name of a class"], 2).convert("L"))
    assert picture.shape == (2 * (56 + 17), 2 * (56 + 4))
    assert [int(picture[28, 28]), int(picture[28, 88]), int(picture[101, 28])] == [0, 60, 120]
    captions = [picture[56:73, :60], picture[56:73, 60:], picture[129:, :60]]
    assert all((caption < 100).any() for caption in captions)
    assert (picture[73:, 60:] == 255).all()  # no fourth image


def test_rows_of_classes_begin_with_the_most_probable():
    images = torch.arange(5, dtype=torch.uint8).mul(50).view(5, 1, 1, 1).expand(5, 1, 28, 28)
    labels = PredictedLabels(torch.tensor([0, 2, 0, 0, 2]), torch.tensor([0.5, 0.6, 0.9, 0.7, 0.8]), "image")
    picture = np.asarray(grid_by_class(images, labels, ["zero", "one", "two"], 2).convert("L"))
    left, top = 12 + 7 * len("zero"), picture.shape[0] - 12 - 184
    found = [[int(picture[top + 30 + 60 * row, left + 30 + 60 * column]) for column in range(2)] for row in range(3)]
    assert found == [[100, 150], [255, 255], [200, 50]]


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (["nowhere.ckpt"], "there is no checkpoint nowhere.ckpt"),
        (["{ae}", "--sample-from=prior"], "Autoencoder has no prior; use --sample-from mixture"),
        (["{ae}", "--class=11"], "0 training images of class 11; the classes are 0 to 9"),
        (["{ae}", "--class=star"], "there is no class star; the classes are 0, 1, 2"),
        (["{ae}", "--class=3,3"], "--class 3,3 gives class 3 twice; give each class once"),
        (["{vae}", "--class=star"], "VAE cannot be conditioned on a class; use --sample-from mixture"),
        (["{shades}", "--class=star"], "the names of the classes are not known, so there is no class star; give the"),
        (["{shades}", "--class=star", "--data=NoData"], "there is no data module NoData"),
        (["{ae}", "--data=NoData"], "there is no data module NoData; `genlab data` lists them"),
        (["{ae}", "--data=CIFAR10DataModule"], "the model's images are 1 x 28 x 28, those of CIFAR10DataModule 3 x 32"),
        (["{ae}", "--sort"], "--sort needs labels"),
        (["{ae}", "--interpolate", "--classifier={classifier}"], "interpolations have no labels"),
        (["{ae}", "--classifier={vae}"], "--classifier holds a VAE; it needs a Probe or a Classifier"),
        (["{ae}", "--classifier={angle}"], "--classifier holds a AngleProbe"),
        (
            ["{ae}", "--classifier={colour}"],
            "--classifier takes images of 3 x 32 x 32, but the model's are 1 x 28 x 28",
        ),
        (["{ae}", "--output={out}/a.npz", "--count=1"], "an .npz data set has at least 2 images"),
        (["{ae}", "--device=nonsense"], "--device nonsense cannot be used"),
        (["{vae}", "--sample-from=mixture"], "does not say which data it was trained on; name"),
        (["{vae}", "--class=3"], "VAE cannot be conditioned on a class; use --sample-from mixture"),
        (["{vae}", "--class=3", "--interpolate"], "VAE cannot be conditioned on a class; use --sample-from mixture"),
        (["{cgan}", "--class=3", "--interpolate"], "--class 3 is not a class of the model; its classes are 0 to 2"),
        (
            ["{cgan}", "--sample-from=mixture"],
            "ConditionalGAN has no codes to fit a mixture to; use --sample-from prior",
        ),
        (["{discrete}", "--sample-from=mixture", "--data=DigitsDataModule"], "categorical codes have no mixture"),
        (["{shades}", "--class=4"], "--class 4 is not a class of the model; its classes are 0 to 3"),
        (["{shades}", "--sample-from=mixture"], "Shades has no codes to fit a mixture to"),
        (["{shades}", "--interpolate"], "Shades has no codes to interpolate"),
        (["{classifier}"], "Classifier generates no images"),
        (["{ruined}"], "images are not finite"),
        (["{ruined}", "--sample-from=mixture", "--data=DigitsDataModule"], "codes are not finite"),
    ],
)
def test_bad_input_is_one_line_and_status_2(
    args: list[str],
    complaint: str,
    encoder_checkpoint: Path,
    vae: Path,
    shades: Path,
    classifier: Path,
    cgan: Path,
    tmp_path,
    capsys,
):
    made: dict[str, GenerativeModule] = {}
    text = " ".join(args)
    if "{discrete}" in text:
        made["discrete"] = VAE(latent_dim=2, latent_distribution=GumbelSoftmax(3))
    if "{colour}" in text:
        made["colour"] = Classifier(channels=(4,), feature_dim=4, image_shape=(3, 32, 32))
    if "{angle}" in text:
        made["angle"] = AngleProbe(str(encoder_checkpoint))
    if "{ruined}" in text:
        made["ruined"] = VAE(latent_dim=2)
        for parameter in made["ruined"].parameters():
            nn.init.constant_(parameter, float("nan"))
    paths = {name: saved(model, tmp_path / f"{name}.ckpt") for name, model in made.items()}
    paths |= {"ae": encoder_checkpoint, "vae": vae, "shades": shades, "classifier": classifier, "cgan": cgan}
    output = tmp_path / "out" / "a.png"
    given = [arg.format(**paths, out=output.parent) for arg in args]
    assert sample.main([f"--output={output}", *given]) == 2
    errors = capsys.readouterr().err.strip().splitlines()
    assert len(errors) == 1 and errors[0].startswith("error: ") and complaint in errors[0]
    assert not output.parent.exists()


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (["--output=a.jpg"], "'a.jpg' ends in none of .png, .gif, .npz"),
        (["--count=0"], "'0' is not a whole number above 0"),
        (["--steps=1"], "an interpolation has at least 2 steps"),
        (["--class=3,"], "'3,' is not a class"),
        (["--seed=-1"], "--seed"),
        (["--sample-from=flat"], "there is no flat; choose from prior, mixture, gaussian"),
        (["--what"], "there is no option --what"),
    ],
)
def test_an_option_that_cannot_be_read_is_one_line_and_status_2(args: list[str], complaint: str, capsys):
    with pytest.raises(SystemExit) as caught:
        sample.main(["a.ckpt", *args])
    errors = capsys.readouterr().err.strip().splitlines()
    assert caught.value.code == 2 and len(errors) == 1 and complaint in errors[0]


def test_data_that_are_not_there_are_asked_for(encoder_checkpoint: Path, tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setattr(
        "torchvision.datasets.MNIST", lambda *_, **__: (_ for _ in ()).throw(RuntimeError("no network"))
    )
    args = [str(encoder_checkpoint), "--data=MNISTDataModule", f"--data-root={tmp_path / 'd'}"]
    assert sample.main([*args, f"--output={tmp_path / 'a.png'}"]) == 2
    [error] = capsys.readouterr().err.strip().splitlines()
    assert "--data-root" in error and f"put {tmp_path / 'd' / 'mnist.npz'} there" in error


def test_a_place_that_cannot_be_written_is_one_line(vae: Path, tmp_path: Path, capsys):
    (tmp_path / "file").write_text("")
    assert sample.main([str(vae), f"--output={tmp_path / 'file' / 'a.png'}"]) == 2
    assert f"error: cannot write {tmp_path / 'file' / 'a.png'}" in capsys.readouterr().err


def test_a_picture_is_not_written_without_its_labels(
    encoder_checkpoint: Path, classifier: Path, tmp_path: Path, capsys
):
    (tmp_path / "a.csv").mkdir()
    args = [str(encoder_checkpoint), f"--classifier={classifier}", "--count=4"]
    assert sample.main([*args, f"--output={tmp_path / 'a.png'}"]) == 2
    assert capsys.readouterr().err == f"error: cannot write {tmp_path / 'a.csv'} (Is a directory)\n"
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


def test_a_file_that_cannot_be_read_is_named(vae: Path, tmp_path: Path, monkeypatch, capsys):
    def broken(path: Path) -> None:
        raise OSError(5, "Input/output error", "data/mnist.npz")

    monkeypatch.setattr(GenerativeModule, "load", broken)
    assert sample.main([str(vae), f"--output={tmp_path / 'a.png'}"]) == 2
    assert capsys.readouterr().err == "error: data/mnist.npz: Input/output error\n"


def test_the_smallest_data_file_has_an_image_to_train_on(vae: Path, tmp_path: Path):
    made = np.load(run(vae, "--count=2", output=tmp_path / "a.npz"))
    assert len(made["x_train"]) == len(made["x_test"]) == 1


def test_a_full_disk_leaves_the_old_file(vae: Path, tmp_path: Path, monkeypatch, capsys):
    old = run(vae, output=tmp_path / "a.png").read_bytes()

    def half(self: Image.Image, file, **options: object) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", half)
    assert sample.main([str(vae), "--seed=9", f"--output={tmp_path / 'a.png'}"]) == 2
    assert "No space left on device" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"] and (tmp_path / "a.png").read_bytes() == old


def test_joint_codes_can_be_fitted(tmp_path: Path):
    seed_everything(0, verbose=False)
    model = VAE(latent_dim=2, latent_distribution=Joint(3)).eval()
    codes = CheckpointSampler(model, "mixture", DigitsDataModule, components=2).sample_codes(20)
    [discrete] = [part for part in model.latent_blocks() if part.kind == "categorical"]
    block = codes[:, discrete.start : discrete.stop]
    assert torch.equal(block.sum(dim=1), torch.full((20,), float(discrete.num_variables)))
    with pytest.raises(UsageError, match="too few"):
        CheckpointSampler(model, "mixture", DigitsDataModule).sample_codes(5, label=10)


def test_help_says_how_without_waiting_for_torch():
    program = "import sys, sample; sample.main(sys.argv[1:])"
    check = "import sys; from genlab.sampling.cli import parser; parser(); assert 'torch' not in sys.modules"
    told = subprocess.run([sys.executable, "-c", program, "--help"], capture_output=True, text=True, check=True)
    assert "examples:" in told.stdout and "--classifier" in told.stdout
    subprocess.run([sys.executable, "-c", check], check=True)


def test_a_sampler_and_its_steps_are_chosen(tmp_path: Path):
    model = DDPM(
        MLPNoisePredictor((8,)), num_steps=30, sampler=DDIM(2, eta=0.5), conditional=True, image_shape=(1, 28, 28)
    )
    with torch.no_grad():
        nn.init.normal_(model.ema_network.layers[-1].weight)  # a network that sees no noise makes the same in any way
    path = saved(model, tmp_path / "ddpm.ckpt")
    made = {
        name: run(path, "--count", 2, *options, output=tmp_path / f"{name}.png").read_bytes()
        for name, options in {
            "own": [],
            "again": ["--sampler", "DDIM", "--sampler-steps", 2],
            "fewer": ["--sampler-steps", 1],
            "ancestral": ["--sampler", "Ancestral"],
            "dpm": ["--sampler", "DPMSolver", "--sampler-steps", 3],
            "edm": ["--sampler", "EDMSampler", "--sampler-steps", 3],
            "guided": ["--guidance-scale", 3],
        }.items()
    }
    assert made["own"] == made["again"] and len(set(made.values())) == 6


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--sampler", "DDIM"], "VAE has no sampler; leave --sampler and --sampler-steps out"),
        (["--guidance-scale", "1"], "VAE was not trained with classifier-free guidance"),
        (["--temperature", "1"], "VAE has no temperature"),
    ],
)
def test_a_model_without_a_sampler_is_not_drawn_by_one(options: list[str], complaint: str, vae: Path, tmp_path, capsys):
    assert sample.main([str(vae), f"--output={tmp_path / 'x.png'}", *options]) == 2
    assert complaint in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_more_steps_than_levels_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = saved(DDPM(MLPNoisePredictor((8,)), num_steps=30, sampler=DDIM(2)), tmp_path / "ddpm.ckpt")
    assert sample.main([str(path), f"--output={tmp_path / 'x.png'}", "--sampler-steps=31"]) == 2
    assert "a sampler of 31 steps needs as many timesteps, and the model has 30" in capsys.readouterr().err
    assert sample.main([str(path), f"--output={tmp_path / 'x.png'}", "--sampler=Heun"]) == 2
    assert "Heun needs a model of continuous time" in capsys.readouterr().err


def test_samplers_of_continuous_time_are_chosen(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    model = FlowMatching(MLPNoisePredictor((8,)), sampler=Midpoint(2))
    with torch.no_grad():
        nn.init.normal_(model.ema_network.layers[-1].weight)
    path = saved(model, tmp_path / "flow.ckpt")
    made = {
        name: run(path, "--count", 2, *options, output=tmp_path / f"{name}.png").read_bytes()
        for name, options in {
            "own": [],
            "again": ["--sampler", "Midpoint", "--sampler-steps", 2],
            "usual": ["--sampler", "DDIM"],
            "adaptive": ["--sampler", "AdaptiveODE"],
        }.items()
    }
    assert made["own"] == made["again"] and len(set(made.values())) == 3
    options = ["--sampler=AdaptiveODE", "--sampler-steps=3"]
    assert sample.main([str(path), f"--output={tmp_path / 'x.png'}", *options]) == 2
    assert "AdaptiveODE chooses its steps itself; leave --sampler-steps out" in capsys.readouterr().err
