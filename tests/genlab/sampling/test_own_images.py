"""Commands of sample.py for the user's own images, and folders of samples: encode, interpolate, score."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning import seed_everything
from PIL import Image

import sample
from genlab import latents
from genlab.latent_paths import spherical_path
from genlab.sampling.own_images import class_labels
from genlab.sampling.sample_folder import class_folders
from lit_models import VAE, Classifier, ConditionalGAN, GenerativeModule
from lit_models.common.discriminators import MLPDiscriminator
from lit_models.common.generators import MLPGenerator
from tests.helpers import saved


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    seed_everything(0, verbose=False)
    folder = tmp_path_factory.mktemp("models")
    networks = {"generator": MLPGenerator((16,)), "discriminator": MLPDiscriminator((4,))}
    made: dict[str, GenerativeModule] = {
        "vae": VAE(latent_dim=3),
        "cgan": ConditionalGAN(latent_dim=5, num_classes=3, **networks),
        "classifier": Classifier(channels=(4,), feature_dim=4, num_classes=3),
    }
    return {name: saved(model, folder / f"{name}.ckpt") for name, model in made.items()}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten images of each of two classes, one of which has a folder inside."""
    folder = tmp_path_factory.mktemp("own") / "photos"
    random = np.random.default_rng(0)
    for number in range(20):
        path = folder / ("cat/tabby", "dog")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (28, 28), dtype=np.uint8)).save(path)
    return folder


def run(*args: object) -> None:
    assert sample.main([*map(str, args)]) == 0


def pixels(paths: list[Path]) -> torch.Tensor:
    """Images as models take them."""
    return torch.from_numpy(np.stack([np.asarray(Image.open(path)) for path in paths]))[:, None] / 255


@torch.no_grad()
def test_samples_become_a_folder_in_batches_and_equal_those_of_a_file(models, tmp_path: Path, monkeypatch, capsys):
    run(models["vae"], "--count=10", f"--output={tmp_path / 'a.npz'}")
    monkeypatch.setattr(latents, "MAX_BATCH", 4)
    run(models["vae"], "--count=10", f"--output={tmp_path}/made.v1/")
    files = sorted((tmp_path / "made.v1").iterdir())
    assert [file.name for file in files] == [f"{number:05}.png" for number in range(10)]
    expected = np.load(tmp_path / "a.npz")
    expected = np.concatenate([expected["x_train"], expected["x_test"]])
    assert np.abs(pixels(files)[:, 0].numpy() * 255 - expected).max() <= 1
    assert sample.main([str(models["vae"]), f"--output={tmp_path / 'made.v1'}"]) == 2  # a folder, as it is there
    assert "made.v1 has files already; give another folder, or empty it" in capsys.readouterr().err


def test_classes_become_sub_folders(models, tmp_path: Path, capsys):
    run(models["cgan"], "--count=7", f"--output={tmp_path / 'all'}")
    found = sorted(str(path.relative_to(tmp_path / "all")) for path in (tmp_path / "all").rglob("*.png"))
    assert found == [f"{k}/0000{n}.png" for k in range(3) for n in range(3 - (k > 0))]
    run(models["vae"], "--count=9", f"--classifier={models['classifier']}", f"--output={tmp_path / 'labelled'}")
    classifier = Classifier.load(models["classifier"])
    for folder in (tmp_path / "labelled").iterdir():
        assert (classifier(pixels(sorted(folder.iterdir()))).argmax(dim=1) == int(folder.name)).all()
    assert "in folders of" in capsys.readouterr().out
    assert class_folders(["a/b", "..", "a_b", "A:B"]) == ["a_b", "_", "a_b_2", "A_B_3"]


def test_a_folder_of_samples_is_whole_or_not_there(models, tmp_path: Path, monkeypatch):
    save, written = Image.Image.save, []

    def stop(self: Image.Image, file, **options: object) -> None:
        if len(written) == 3:
            raise KeyboardInterrupt
        written.append(file)
        save(self, file, **options)

    monkeypatch.setattr(Image.Image, "save", stop)
    with pytest.raises(KeyboardInterrupt):
        sample.main([str(models["vae"]), f"--output={tmp_path / 'new' / 'made'}"])
    assert list((tmp_path / "new").iterdir()) == []


@torch.no_grad()
def test_codes_of_a_folder(models, photos: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(latents, "MAX_BATCH", 7)
    run("encode", models["vae"], "--input", photos, "--output", tmp_path / "codes.npz")
    run("encode", models["vae"], "--input", photos, "--output", tmp_path / "codes.csv")
    found = np.load(tmp_path / "codes.npz", allow_pickle=False)
    names = sorted(path.relative_to(photos).as_posix() for path in photos.rglob("*.png"))
    assert found["files"].tolist() == names and found["class_names"].tolist() == ["cat", "dog"]
    assert found["labels"].tolist() == [0] * 10 + [1] * 10 and found["labels"].dtype == np.int64
    expected = VAE.load(models["vae"]).encode(pixels([photos / name for name in names]))
    assert found["codes"] == pytest.approx(expected.numpy(), abs=1e-5) and found["codes"].dtype == np.float32
    with open(tmp_path / "codes.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["file"], row["label"]) for row in rows] == [(name, name.split("/")[0]) for name in names]
    codes = np.array([[row[f"code_{k}"] for k in range(3)] for row in rows], np.float32)
    assert (codes == found["codes"]).all()
    run("encode", models["vae"], "--input", photos / "dog" / "1.png", "--output", tmp_path / "one.npz")
    one = np.load(tmp_path / "one.npz")
    assert one["files"].tolist() == ["1.png"] and one["labels"].tolist() == [-1] and len(one["class_names"]) == 0


def test_labels_of_a_folder_with_parts_are_those_in_the_parts():
    paths = [Path("p") / name for name in ("train/cat/a.png", "train/dog/b.png", "val/cat/c.png", "d.png")]
    assert class_labels(paths, Path("p")) == ([0, 1, 0, -1], ["cat", "dog"])
    assert class_labels(paths[2:], Path("p")) == ([0, -1], ["val"])


@torch.no_grad()
def test_interpolation_between_two_files(models, photos: Path, tmp_path: Path):
    files = [photos / "dog" / "1.png", photos / "dog" / "3.png"]
    run("interpolate", models["vae"], "--input", *files, "--steps=4", "--compare", f"--output={tmp_path / 'a.png'}")
    drawn = np.asarray(Image.open(tmp_path / "a.png").convert("L"))[4:60:2]
    tiles = [drawn[:, 4 + 60 * k : 60 + 60 * k : 2] for k in range(6)]
    model, images = VAE.load(models["vae"]), pixels(files)
    starts, ends = model.encode(images).split(1)
    between = model.decode(spherical_path(starts, ends, torch.linspace(0, 1, 4))[0])
    assert between[[0, 3]] == pytest.approx(model.reconstruct(images), abs=1e-4)
    expected = torch.cat([images[:1], between, images[1:]])[:, 0] * 255
    assert all(np.abs(tile - image).max() < 1 for tile, image in zip(tiles, expected.numpy(), strict=True))
    run("interpolate", models["vae"], "--input", *files, "--steps=3", f"--output={tmp_path / 'a.gif'}")
    with Image.open(tmp_path / "a.gif") as animation:
        assert animation.n_frames == 6 and animation.size == (56, 56)


def test_scores_of_a_folder_against_a_folder_and_a_file(models, photos: Path, tmp_path: Path, capsys):
    files = sorted(photos.rglob("*.png"))
    np.savez(tmp_path / "made.npz", x_train=255 - np.stack([np.asarray(Image.open(file)) for file in files]))
    args = ["--features", models["classifier"]]
    run("score", photos, photos, *args, "--output", tmp_path / "same.json")
    same = json.loads((tmp_path / "same.json").read_text())
    assert same["real_images"] == same["sample_images"] == 20 and same["features"] == str(models["classifier"])
    assert abs(same["frechet_classifier"]) < 1e-6 and same["kernel_classifier_deviation"] > 0
    assert same["precision_classifier"] == same["recall_classifier"] == same["coverage_classifier"] == 1
    told = capsys.readouterr().out
    assert "real images" in told and "classifier" in told and "lower" in told and "higher" in told
    assert "subsets of 10 images" in told and "features:" not in told  # 20 images are enough for 4 features

    run("score", photos, tmp_path / "made.npz", *args, "--output", tmp_path / "a.csv")
    run("score", photos, tmp_path / "made.npz", *args, "--count", 8, "--output", tmp_path / "few.csv")
    [row], [few] = (list(csv.DictReader((tmp_path / name).read_text().splitlines())) for name in ("a.csv", "few.csv"))
    features = Classifier.load(models["classifier"]).features
    real, made = features(pixels(files)).double(), features(1 - pixels(files)).double()
    means = (real.mean(dim=0) - made.mean(dim=0)).square().sum().item()
    assert float(row["frechet_classifier"]) >= means > 0 and row.keys() == same.keys()
    assert few["real_images"] == few["sample_images"] == "8"


def test_inception_scores_have_names_of_their_own(photos: Path, tmp_path: Path, monkeypatch, capsys):
    class Network(torch.nn.Module):
        inception = property(lambda self: self)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            assert images.dtype == torch.uint8 and images.shape[1:] == (3, 28, 28)
            return images.float().flatten(1)[:, :2048]

    monkeypatch.setattr("genlab.evaluation.folder_scores.inception_distance", lambda *_: Network())
    monkeypatch.setattr("genlab.metrics.FrechetDistance.compute", lambda self: torch.zeros(()))  # of 2,048 features
    run("score", photos, photos, "--features=inception", "--output", tmp_path / "a.json")
    found = json.loads((tmp_path / "a.json").read_text())
    assert "frechet_inception" in found and not any(key.endswith("classifier") for key in found)
    assert "20 images are too few for 2,048 features: the Frechet distance is too large" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (["encode", "{cgan}", "--input={photos}", "--output=c.npz"], "ConditionalGAN does not encode images"),
        (["encode", "{vae}", "--input={photos}", "--output=c.txt"], "'c.txt' ends in none of .npz, .csv"),
        (["encode", "{vae}", "--input=none", "--output=c.csv"], "there is no folder or image none"),
        (["encode", "{vae}", "--inptu=x"], "the following arguments are required: --input, --output"),
        (["encode", "{vae}", "--input=x", "--output=c.csv", "--stps=3"], "there is no option --stps"),
        (["interpolate", "{cgan}", "--input", "a.png", "b.png"], "ConditionalGAN does not encode images"),
        (
            ["interpolate", "{vae}", "--input", "{photos}", "b.png"],
            "there is no image {photos}; give two image files with --input",
        ),
        (["interpolate", "{vae}", "--input", "a.png"], "--input: expected 2 arguments"),
        (["score", "{photos}", "none", "--features={classifier}"], "there is no folder or image none"),
        (["score", "{photos}", "{photos}", "--features={classifier}", "--count=3"], "--count 3: the scores need"),
        (
            ["score", "{photos}", "{photos}/dog/1.png", "--features={classifier}"],
            "has 1 image; the scores need at least 6",
        ),
        (["score", "{photos}", "{photos}", "--features={vae}"], "holds a VAE; features are those of a Classifier"),
        (["score", "{photos}", "{photos}", "--features={classifier}", "--size=9"], "--size: not with a classifier"),
        (["score", "{photos}", "{photos}"], "there are no weights of Inception"),
        (
            ["score", "{photos}", "bad.npz", "--features={classifier}"],
            "bad.npz is damaged or not an .npz or .npy file",
        ),
        (["reconstruct", "{cgan}", "--input={photos}"], "reconstructs images; give the checkpoint"),
        (["{vae}", "--output=made/", "--columns=3"], "--columns: not with a folder as --output"),
    ],
)
def test_bad_input_is_one_line_and_status_2(
    args: list[str], complaint: str, models, photos, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    if "bad.npz" in args:
        Path("bad.npz").write_bytes(b"no array")
    try:
        status = sample.main([arg.format(**models, photos=photos) for arg in args])
    except SystemExit as end:
        status = end.code
    [error] = capsys.readouterr().err.strip().splitlines()
    assert status == 2 and error.startswith("error: ") and complaint.replace("{photos}", str(photos)) in error
    assert [path.name for path in tmp_path.iterdir() if path.name != "bad.npz"] == []
