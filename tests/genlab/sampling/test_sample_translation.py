"""sample.py --input as a user meets it: a folder of images in, their translations out, errors."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torch import Tensor, nn
from torch.nn import functional as F

import sample
from genlab.sampling import translate_files
from genlab.sampling.translate_files import FileTranslator
from lit_models import VAE, Classifier, GenerativeModule
from lit_models.common.module import ImageShape
from tests.helpers import saved


class Negative(GenerativeModule):
    """Translates RGB to negatives with a little noise, and back to their grey values."""

    directions = ("ab", "ba")

    def __init__(
        self, noise: float = 0.0, source_shape: ImageShape = (3, 12, 16), image_shape: ImageShape = (3, 12, 16)
    ) -> None:
        super().__init__(torch.optim.Adam)
        self.save_hyperparameters()
        self.noise = noise
        self.one = nn.Parameter(torch.ones(()))
        self.seen: list[tuple[int, ...]] = []

    def translate(self, images: Tensor, direction: str = "ab") -> Tensor:
        self.seen.append(tuple(images.shape))
        if direction == "ba":
            return images.mean(dim=1, keepdim=True).expand_as(images)
        return (self.one - images + self.noise * torch.randn_like(images)).clamp(0, 1)


class Twice(GenerativeModule):
    """Enlarges grey images of even sides."""

    directions = ("ab",)

    def __init__(self, source_shape: ImageShape = (1, 4, 4), image_shape: ImageShape = (1, 8, 8)) -> None:
        super().__init__(torch.optim.Adam)
        self.save_hyperparameters()
        self.one = nn.Parameter(torch.ones(()))

    def translate(self, images: Tensor, direction: str = "ab") -> Tensor:
        assert direction == "ab"
        if images.shape[2] % 2 or images.shape[3] % 2:
            raise RuntimeError("Sizes of tensors must match\nand so on")
        return self.one * F.interpolate(images, scale_factor=2)


@pytest.fixture(scope="module")
def negative(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(Negative(), tmp_path_factory.mktemp("negative") / "negative.ckpt")


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(Twice(), tmp_path_factory.mktemp("twice") / "twice.ckpt")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two shapes, some file types, and what is no image."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    noise(1, (12, 16)).save(folder / "b.png")
    noise(2, (24, 20)).save(folder / "a.BMP")
    noise(3, (12, 16)).save(folder / "c.webp", lossless=True)
    (folder / "notes.txt").write_text("mine")
    (folder / ".hidden.png").write_text("none")
    return folder


def noise(seed: int, size: tuple[int, int], channels: int = 3) -> Image.Image:
    """Height and width."""
    levels = np.random.default_rng(seed).integers(0, 256, (*size, channels), dtype=np.uint8)
    return Image.fromarray(levels if channels > 1 else levels[..., 0])


def run(*args: object) -> None:
    assert sample.main([*map(str, args)]) == 0


def refused(capsys: pytest.CaptureFixture[str], *args: object) -> str:
    """The one line that it is refused with."""
    try:
        status = sample.main([*map(str, args)])
    except SystemExit as end:
        status = end.code
    [error] = capsys.readouterr().err.strip().splitlines()
    assert status == 2 and error.startswith("error: ")
    return error


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path)).astype(int)


def test_a_folder_is_translated_file_by_file(negative: Path, photos: Path, tmp_path: Path, capsys):
    run(negative, "--input", photos, "--output", tmp_path / "new" / "out")
    assert names(tmp_path / "new" / "out") == ["a.png", "b.png", "c.png"]
    for name in ("b.png", "c.webp"):
        made = Image.open(tmp_path / "new" / "out" / name.replace("webp", "png"))
        assert made.format == "PNG" and made.mode == "RGB"
        assert (np.asarray(made) == 255 - pixels(photos / name)).all()
    fitted = ImageOps.fit(Image.open(photos / "a.BMP"), (16, 12), Image.Resampling.BICUBIC)
    assert (pixels(tmp_path / "new" / "out" / "a.png") == 255 - np.asarray(fitted)).all()
    told = capsys.readouterr()
    out = tmp_path / "new" / "out"
    assert told.out == f"wrote {out}: 3 images; other files in {photos} left out: 1 (.txt)\n" and not told.err


def test_the_other_way_and_the_first_few_into_the_default_folder(negative: Path, photos: Path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run(negative, "--input=photos", "--direction=ba", "--count=2", "--size=own")
    assert names(tmp_path / "translated") == ["a.png", "b.png"]
    for name in ("a.BMP", "b.png"):
        grey = pixels(photos / name).mean(axis=2, keepdims=True)
        assert np.abs(pixels(tmp_path / "translated" / f"{name[0]}.png") - grey).max() <= 0.501


def test_one_file_of_any_name(negative: Path, photos: Path, tmp_path: Path):
    (photos / "b.png").rename(tmp_path / "image")
    run(negative, f"--input={tmp_path / 'image'}", f"--output={tmp_path / 'out'}")
    assert (pixels(tmp_path / "out" / "image.png") == 255 - pixels(tmp_path / "image")).all()


def test_a_model_that_enlarges_takes_images_as_they_are(twice: Path, tmp_path: Path, capsys):
    (tmp_path / "in").mkdir()
    noise(1, (6, 10), 1).save(tmp_path / "in" / "a.png")
    noise(2, (4, 4), 1).save(tmp_path / "in" / "b.png")
    args = [twice, f"--input={tmp_path / 'in'}", f"--output={tmp_path / 'out'}"]
    run(*args)
    made = Image.open(tmp_path / "out" / "a.png")
    assert made.mode == "L" and made.size == (20, 12)
    assert (np.asarray(made) == pixels(tmp_path / "in" / "a.png").repeat(2, 0).repeat(2, 1)).all()
    run(*args, "--size=model", "--compare")
    assert [Image.open(tmp_path / "out" / name).size for name in ("a.png", "b.png")] == [(16, 8)] * 2
    halves = np.split(pixels(tmp_path / "out" / "b.png"), 2, axis=1)
    assert (halves[0] == halves[1]).all()  # the original is enlarged by its nearest pixels

    noise(3, (5, 10), 1).save(tmp_path / "in" / "b.png")
    error = refused(capsys, *args)
    what = f"Twice cannot translate {tmp_path / 'in' / 'b.png'} at 10 x 5 pixels (Sizes of tensors must match)"
    assert error == f"error: {what}; use --size model"


def test_both_stand_beside_each_other(negative: Path, photos: Path, tmp_path: Path):
    run(negative, "--input", photos, "--output", tmp_path / "out", "--compare")
    original, made = np.split(pixels(tmp_path / "out" / "b.png"), 2, axis=1)
    assert (original == pixels(photos / "b.png")).all() and (made == 255 - original).all()


@torch.no_grad()
def test_a_model_that_reconstructs_images_does_so(photos: Path, tmp_path: Path, monkeypatch):
    path = saved(VAE(latent_dim=2, image_shape=(3, 12, 16)), tmp_path / "vae.ckpt")
    monkeypatch.chdir(tmp_path)
    run(path, "--input", photos, "--compare", "--count=2")
    original, made = np.split(pixels(tmp_path / "reconstructed" / "b.png"), 2, axis=1)
    assert (original == pixels(photos / "b.png")).all()
    expected = VAE.load(path).reconstruct(torch.from_numpy(original).permute(2, 0, 1)[None] / 255)[0]
    assert np.abs(made - 255 * expected.permute(1, 2, 0).numpy()).max() <= 0.501


def test_images_of_one_shape_go_together_up_to_a_number(tmp_path: Path, monkeypatch):
    shapes = {"a": (3, 4, 4), "b": (3, 8, 4), "c": (3, 4, 4), "d": (3, 4, 4)}
    for name, (_, *size) in shapes.items():
        noise(ord(name), tuple(size)).save(tmp_path / f"{name}.png")
    files = {tmp_path / f"{name}.png": shape for name, shape in shapes.items()}

    def seen(growth: int = 1) -> list[int]:
        model = Negative(image_shape=(3, 12 * growth, 16))
        made = dict(FileTranslator(model, size="own").pictures(files))
        assert all((np.asarray(picture) == 255 - pixels(path)).all() for path, picture in made.items())
        assert made.keys() == files.keys()
        return [shape[0] for shape in model.seen]

    assert seen() == [3, 1]
    monkeypatch.setattr(translate_files, "MAX_BATCH_SIZE", 2)
    assert seen() == [2, 1, 1]
    monkeypatch.setattr(translate_files, "MAX_BATCH_SIZE", 64)
    monkeypatch.setattr(translate_files, "MAX_BATCH_PIXELS", 3 * 16 - 1)
    assert seen() == [2, 1, 1]
    assert seen(growth=2) == [1, 1, 1, 1]


def test_a_seed_makes_the_same_images(photos: Path, tmp_path: Path):
    model = saved(Negative(noise=0.1), tmp_path / "noisy.ckpt")
    for seed, folder in ((5, "a"), (5, "b"), (6, "c")):
        run(model, "--input", photos, "--output", tmp_path / folder, f"--seed={seed}")
    first, same, other = ((tmp_path / folder / "b.png").read_bytes() for folder in "abc")
    assert first == same != other


def test_files_of_every_sort_become_what_the_model_takes(negative: Path, twice: Path, tmp_path: Path):
    folder = tmp_path / "in"
    folder.mkdir()
    colour, grey = np.asarray(noise(0, (4, 6))), np.asarray(noise(1, (4, 6), 1))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    Image.fromarray(colour).save(folder / "turned.png", exif=exif)
    Image.fromarray(colour).save(folder / "turned.tif", exif=exif)
    (folder / "turned.tif").rename(folder / "tagged.tif")
    Image.fromarray(np.dstack([colour, grey])).save(folder / "transparent.webp", lossless=True, exact=True)
    Image.fromarray(grey.astype(np.uint16) * 257).save(folder / "deep.png")
    run(negative, f"--input={folder}", f"--output={tmp_path / 'out'}", "--size=own")
    share = grey[..., None] / 255
    expected = {
        "turned": np.rot90(colour, -1),
        "tagged": np.rot90(colour, -1),
        "transparent": share * colour + (1 - share) * 255,
        "deep": grey[..., None].repeat(3, axis=2),
    }
    for name, levels in expected.items():
        assert np.abs(255 - levels - pixels(tmp_path / "out" / f"{name}.png")).max() <= 1
    run(twice, f"--input={folder}", f"--output={tmp_path / 'grey'}")
    assert (pixels(tmp_path / "grey" / "deep.png")[::2, ::2] == grey).all()
    Image.fromarray(grey.astype(np.uint16) * 16).save(folder / "deep.png")  # 12 bits
    run(twice, f"--input={folder / 'deep.png'}", f"--output={tmp_path / 'grey'}", "--value-range=0,4080")
    assert (pixels(tmp_path / "grey" / "deep.png")[::2, ::2] == grey).all()
    weighted = np.rot90(colour @ [0.299, 0.587, 0.114], -1)
    assert np.abs(pixels(tmp_path / "grey" / "turned.png")[1::2, 1::2] - weighted).max() < 1


@pytest.mark.parametrize("damage", ["foreign", "cut", "empty", "large"])
def test_an_image_that_cannot_be_read_is_named_before_anything_is_written(
    damage: str, negative: Path, photos: Path, tmp_path: Path, capsys
):
    broken = photos / "z.png"
    noise(0, (40, 40)).save(broken)
    whole = broken.read_bytes()
    if damage != "large":
        broken.write_bytes({"foreign": b"no image", "cut": whole[: len(whole) // 2], "empty": b""}[damage])
    error = refused(
        capsys, negative, "--input", photos, "--output", tmp_path / "out", f"--max-pixels={1600 - (damage == 'large')}"
    )
    problem = "has 40 x 40 pixels, more than 1,599; " if damage == "large" else "cannot be read as an image ("
    assert error.startswith(f"error: {broken} {problem}")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (["{negative}", "--input={out}/none"], "there is no folder or image {out}/none"),
        (["{negative}", "--input={photos}/more"], "{photos}/more has no images; put image files there"),
        (["{negative}", "--input={photos}", "--output={photos}"], "is the folder of the originals; name another one"),
        (["{negative}", "--input={photos}", "--output={photos}/more/../"], "is the folder of the originals"),
        (["{negative}", "--input={photos}", "--output={photos}/notes.txt"], "notes.txt is a file; name a folder"),
        (["{negative}", "--input={photos}/b.png", "--output={photos}"], "would overwrite {photos}/b.png itself"),
        (["{negative}", "--input={photos}", "--output=a.png"], "--output: with --input a folder, not 'a.png'"),
        (["{negative}", "--input={photos}", "--direction=back"], "there is no back; choose from ab, ba"),
        (["{negative}", "--input={photos}", "--value-range=9,1"], "--value-range: '9,1' is not two numbers of which"),
        (["{negative}", "--input={photos}", "--device=nonsense"], "--device nonsense cannot be used"),
        (
            ["{negative}", "--input={photos}", "--sample-from=prior", "--class=3"],
            "--class, --sample-from: not with --input",
        ),
        (["{negative}", "--input={photos}", "--interpolate", "--steps=10"], "--interpolate, --steps: not with --input"),
        (["{negative}", "--input={photos}", "--classifier=a.ckpt", "--sort"], "--classifier, --sort: not with --input"),
        (["{negative}", "--input={photos}", "--columns=3"], "--columns: not with --input"),
        (["{negative}"], "Negative translates images; give them with --input FOLDER"),
        (["{twice}", "--input={photos}", "--direction=ba"], "Twice cannot translate ba, only ab; use --direction ab"),
        (["{vae}", "--input={photos}", "--direction=ba"], "VAE cannot reconstruct ba, only ab; use --direction ab"),
        (["{classifier}", "--input={photos}"], "Classifier neither translates nor reconstructs images; give"),
        (["{four}", "--input={photos}"], "Negative translates images of 4 to 3 channels; those of files have 1 or 3"),
        (["{ruined}", "--input={photos}"], "images are not finite"),
        (["{vae}", "--compare", "--size=own"], "--size, --compare: only with --input FOLDER"),
        (["{vae}", "--direction=ab", "--max-pixels=9"], "--direction, --max-pixels: only with --input FOLDER"),
        (["nowhere.ckpt", "--input={photos}"], "there is no checkpoint nowhere.ckpt"),
    ],
)
def test_bad_input_is_one_line_and_status_2(
    args: list[str], complaint: str, negative: Path, twice: Path, photos: Path, tmp_path: Path, monkeypatch, capsys
):
    models = {
        "vae": lambda: VAE(latent_dim=2),
        "classifier": lambda: Classifier(channels=(4,), feature_dim=4),
        "four": lambda: Negative(source_shape=(4, 12, 16)),
        "ruined": lambda: Negative(noise=float("nan")),
    }
    asked = {name: saved(model(), tmp_path / f"{name}.ckpt") for name, model in models.items() if name in args[0]}
    places = {"negative": negative, "twice": twice, "photos": photos, "out": tmp_path / "out", **asked}
    before = {path: path.read_bytes() for path in photos.rglob("*") if path.is_file()}
    monkeypatch.chdir(tmp_path)
    assert complaint.format(**places) in refused(capsys, *(arg.format(**places) for arg in args))
    assert {path: path.read_bytes() for path in photos.rglob("*") if path.is_file()} == before
    assert set(names(tmp_path)) <= {"photos", *(f"{name}.ckpt" for name in models)}


def test_sub_folders_are_kept_and_names_never_collide(negative: Path, photos: Path, tmp_path: Path, capsys):
    for name in ("b.jpg", "b.jpg.png", "more/b.png", "more/out/x.png", "more/.secret/x.png"):
        (photos / name).parent.mkdir(exist_ok=True)
        noise(4, (12, 16)).save(photos / name)
    (photos / "broken.png").write_bytes(b"no image")
    out = photos / "more" / "out"  # inside of the originals, whose results are not read again
    args = ["translate", negative, "--input", photos, "--output", out]
    assert f"is inside of --input and has other images ({out / 'x.png'}); name another" in refused(capsys, *args)
    (out / "x.png").unlink()
    assert "repair or remove it, or leave out such files with --skip-broken" in refused(capsys, *args)
    run(*args, "--skip-broken")
    run(*args, "--skip-broken")
    made = sorted(str(path.relative_to(out)) for path in out.rglob("*.png"))
    assert made == ["a.png", "b.jpg.png", "b.jpg.png.png", "b.png.png", "c.png", "more/b.png"]
    assert (pixels(out / "more" / "b.png") == 255 - pixels(photos / "more" / "b.png")).all()
    assert "1 of 7 images in" in capsys.readouterr().err
    assert "Negative does not reconstruct images; use `translate`" in refused(
        capsys, "reconstruct", negative, "--input", photos
    )


def test_a_full_disk_leaves_whole_files_only(negative: Path, photos: Path, tmp_path: Path, monkeypatch, capsys):
    out, save, written = tmp_path / "out", Image.Image.save, []

    def half(self: Image.Image, file, **options: object) -> None:
        if written:
            file.write(b"half")
            raise OSError(28, "No space left on device")
        written.append(file)
        save(self, file, **options)

    monkeypatch.setattr(Image.Image, "save", half)
    error = refused(capsys, negative, "--input", photos, "--output", out)
    assert error == f"error: cannot write {out / 'b.png'} (No space left on device)"
    assert names(out) == ["a.png"] and Image.open(out / "a.png").size == (16, 12)
