import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

import train
from genlab.callbacks import TrainingGif
from genlab.callbacks.training_gif import evaluating, grid_frames, read_frames, scatter_frames
from genlab.media import image_grid, save_gif
from genlab.random_state import isolated_rng
from genlab.runs.folder import read_summary
from genlab.runs.wandb_run import RunLogger
from lit_models.common.capabilities import LatentBlock
from lit_models.common.priors import Normal, Uniform
from tests.genlab.callbacks.toy_generators import ClassGenerator, Generator, after_test
from tests.genlab.callbacks.toy_models import Painter, contains, trainer
from tests.helpers import run_program, same, stop_at, weights
from tests.wandb_client import Client
from tests.wandb_server import WandbServer

EPOCHS, BATCHES = 4, 4


def options(root: Path, *args: str) -> list[str]:
    """The command line of a small VAE, whose training depends on the random state."""
    return [
        "fit",
        "--model=VAE",
        "--model.latent_dim=2",
        "--model.networks=MLPNetworks",
        "--model.networks.hidden_dims=[16]",
        "--data=DigitsDataModule",
        "--data.batch_size=250",
        f"--trainer.max_epochs={EPOCHS}",
        "--trainer.accelerator=cpu",
        f"--run.root={root}",
        "--run.experiment=training_gif",
        *args,
    ]


def run(root: Path, *args: str) -> train.Result:
    return train.main(options(root, *args))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> train.Result:
    return run(tmp_path_factory.mktemp("whole"), "--run.name=x")


def frames(folder: Path) -> dict[str, dict[str, np.ndarray]]:
    return {path.name: dict(np.load(path)) for path in sorted((folder / "media" / "frames").iterdir())}


def training_gif(folder: Path, name: str) -> list[Image.Image]:
    with Image.open(folder / "media" / name) as gif:
        return [frame.convert("RGB") for frame in ImageSequence.Iterator(gif)]


def assert_same_gif(folder: Path, other: Path) -> None:
    found, expected = frames(folder), frames(other)
    assert list(found) == list(expected)
    for name, arrays in expected.items():
        assert arrays.keys() == found[name].keys()
        for key, array in arrays.items():
            np.testing.assert_array_equal(found[name][key], array)
    for name in ("vae_grid.gif", "vae_latent.gif"):
        assert (folder / "media" / name).read_bytes() == (other / "media" / name).read_bytes()


def test_frames_before_training_and_after_each_epoch(whole: train.Result):
    assert list(frames(whole.folder)) == [f"{epoch:05d}.npz" for epoch in range(EPOCHS + 1)]
    for name in ("vae_grid.gif", "vae_latent.gif"):
        assert len(training_gif(whole.folder, name)) == EPOCHS + 1
    summary = read_summary(whole.folder)
    assert summary is not None and summary["images_seen"] == EPOCHS * BATCHES * 250
    codes = [arrays["codes"] for arrays in frames(whole.folder).values()]
    assert codes[0].shape == (200, 2) and all(not np.array_equal(a, b) for a, b in itertools.pairwise(codes))


def test_the_last_frame_shows_the_last_weights(whole: train.Result):
    from lit_models import VAE

    model = VAE.load(whole.folder / "checkpoints" / "last.ckpt")
    nodes = torch.distributions.Normal(0.0, 1.0).icdf((torch.arange(8) + 0.5) / 8)
    codes = torch.stack([nodes.repeat(8), nodes.flip(0).repeat_interleave(8)], dim=1)
    with torch.no_grad():
        expected = model.decode(codes).mul(255).round()
    drawn = torch.from_numpy(frames(whole.folder)[f"{EPOCHS:05d}.npz"]["images"]).float()
    assert (drawn - expected).abs().max() <= 1


def test_saving_frames_does_not_change_the_training(whole: train.Result, tmp_path: Path):
    plain = run(tmp_path, "--run.pictures=false")
    assert same(weights(plain.folder), weights(whole.folder)) and not (plain.folder / "media").exists()
    assert all(whole.metrics[name] == value for name, value in plain.metrics.items())


@pytest.mark.parametrize("batch", [2, BATCHES])
def test_a_resumed_run_has_each_epoch_once(batch: int, whole: train.Result, tmp_path: Path):
    with pytest.raises(SystemExit):
        run(tmp_path, "--run.name=x", *stop_at(batch, "term"))
    resumed = run(tmp_path, "--run.name=x", "--ckpt_path=last")
    assert_same_gif(resumed.folder, whole.folder)


def test_a_killed_and_resumed_run_has_each_epoch_once(whole: train.Result, tmp_path: Path):
    """The frame of the third epoch is there, but no checkpoint has its end: the epoch is repeated."""
    command = options(tmp_path, "--run.name=x", "--checkpoint.every_n_epochs=2", *stop_at(3 * BATCHES + 1, "kill"))
    done = run_program("train.py", *command)
    assert done.returncode == -9
    assert len(frames(tmp_path / "training_gif" / "x")) == 1 + 3
    resumed = run(tmp_path, "--run.name=x", "--ckpt_path=last")
    assert_same_gif(resumed.folder, whole.folder)


def test_frames_every_n_epochs(tmp_path: Path):
    folder = run(tmp_path, "--training_gif.every_n_epochs=2").folder
    assert list(frames(folder)) == ["00000.npz", "00002.npz", "00004.npz"]
    folder = run(tmp_path, "--training_gif.every_n_epochs=0").folder
    assert not (folder / "media" / "frames").exists() and not list((folder / "media").glob("*.gif"))


def write(folder: Path, epochs: int, **arrays: Any) -> list[Path]:
    (folder / "media" / "frames").mkdir(parents=True)
    paths = [folder / "media" / "frames" / f"{epoch:05d}.npz" for epoch in range(epochs)]
    for epoch, path in enumerate(paths):
        np.savez(path, **{name: make(epoch) for name, make in arrays.items()})
    return paths


def test_a_long_training_has_at_most_max_frames(tmp_path: Path):
    short = ["--model=VAE", "--model.latent_dim=2", "--data=DigitsDataModule", "--trainer.limit_train_batches=1"]
    more = ["--trainer.max_epochs=7", "--training_gif.max_frames=4", "--trainer.limit_val_batches=0"]
    result = train.main(["fit", *short, *more, f"--run.root={tmp_path}", "--trainer.accelerator=cpu"])
    frames = sorted(int(path.stem) for path in (result.folder / "media" / "frames").glob("*.npz"))
    assert frames == [0, 3, 6, 7]


def test_no_gif_for_models_without_images(tmp_path: Path):
    short = ["--model=Classifier", "--model.channels=[4]", "--data=DigitsDataModule", "--trainer.max_epochs=1"]
    result = train.main(["fit", *short, f"--run.root={tmp_path}", "--trainer.accelerator=cpu"])
    assert (result.folder / "media").is_dir() and not (result.folder / "media" / "frames").exists()


def test_frames_of_repeated_epochs_are_removed(tmp_path: Path):
    paths = write(tmp_path, 6, x=np.array)
    resumed = trainer(tmp_path, torch.zeros(3, 2))
    resumed.current_epoch, resumed.global_step = 3, 30
    TrainingGif().on_train_start(resumed, Painter([LatentBlock("continuous", 0, 2)], None))  # type: ignore[arg-type]
    assert sorted((tmp_path / "media" / "frames").iterdir()) == paths[:4]


@pytest.mark.parametrize(("epochs", "most"), [(5, 5), (6, 5), (101, 60), (200, 2)])
def test_frames_are_left_out_evenly(epochs: int, most: int, tmp_path: Path):
    kept = [epoch for epoch, _ in read_frames(write(tmp_path, epochs, x=np.array), most)]
    assert len(kept) == most and kept[0] == 0 and kept[-1] == epochs - 1
    steps = np.diff(kept)
    assert steps.max() - steps.min() <= 1


def test_the_gif_repeats_and_shows_the_last_frame_longest(tmp_path: Path):
    write(tmp_path, 11, images=lambda epoch: np.full((4, 1, 8, 8), 20 * epoch, np.uint8))
    model = Painter([LatentBlock("continuous", 0, 2)], None)
    TrainingGif(seconds=0.1, last=2.0).on_test_end(trainer(tmp_path, torch.zeros(3, 2)), model)  # type: ignore[arg-type]
    with Image.open(tmp_path / "media" / "painter_grid.gif") as gif:
        shown = [
            (frame.convert("L").getpixel((8, 40)), frame.info["duration"]) for frame in ImageSequence.Iterator(gif)
        ]
        assert gif.info["loop"] == 0
    assert [value for value, _ in shown] == pytest.approx([20 * epoch for epoch in range(11)], abs=5)
    assert [held for _, held in shown] == [100] * 10 + [2000]
    assert not (tmp_path / "media" / "painter_latent.gif").exists()


@pytest.mark.parametrize("column", ["hue", "angle"])
def test_the_scatter_plot_is_coloured_by_the_second_label(column: str, tmp_path: Path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "genlab.callbacks.training_gif.scatter_frames", lambda frames, classes, angle, categorical: asked.append(angle)
    )
    monkeypatch.setattr("genlab.callbacks.training_gif.save_gif", lambda *_: None)
    write(tmp_path, 2, codes=lambda epoch: np.zeros((3, 2)), labels=lambda epoch: np.zeros((3, 2), np.int64))
    running = trainer(tmp_path, torch.zeros(3, 2))
    running.datamodule.label_columns = ("digit", column)
    running.datamodule.image_shape = (1 if column == "hue" else 3, 28, 28)
    TrainingGif().on_test_end(running, Painter([LatentBlock("continuous", 0, 2)], None))  # type: ignore[arg-type]
    assert asked == [column]


def test_a_frame_shows_the_images_and_the_epoch():
    images = np.random.default_rng(0).integers(0, 255, (9, 3, 8, 8), dtype=np.uint8)
    first, second = grid_frames([(7, {"images": images}), (8, {"images": images})])
    assert contains(np.asarray(first), np.asarray(image_grid(torch.from_numpy(images) / 255, 3, 0)))
    assert not np.array_equal(np.asarray(first), np.asarray(second))  # the number of the epoch


def test_all_frames_of_a_conditional_model_have_one_noise_a_row(tmp_path: Path):
    """Images of any size, here 3 x 4 x 4, of 3 classes: 5 rows hold at most 16 images."""
    model = ClassGenerator(2, 3, lambda codes: codes[:, 1:4].sigmoid())
    running = after_test(tmp_path)
    made = TrainingGif(num_images=16)
    made.on_train_start(running, model)  # type: ignore[arg-type]
    running.max_epochs = 1
    made.on_train_epoch_end(running, model)  # type: ignore[arg-type]
    made.on_test_end(running, model)  # type: ignore[arg-type]
    with isolated_rng():
        draws = model.sample_prior(5)
    codes = torch.cat([draws[:, :2].repeat_interleave(3, dim=0), torch.eye(3).repeat(5, 1)], dim=1)
    expected = model.decode(codes).mul(255).round().byte().numpy()
    for arrays in frames(tmp_path).values():
        np.testing.assert_array_equal(arrays["images"], expected)
    drawn = grid_frames(read_frames(sorted((tmp_path / "media" / "frames").iterdir()), 60))
    grid = image_grid(torch.from_numpy(expected) / 255, 3, 0)
    assert all(contains(np.asarray(frame), np.asarray(grid)) for frame in drawn)
    assert len(drawn) == 2 and training_gif(tmp_path, "classgenerator_grid.gif")


def test_more_classes_than_images_have_one_row(tmp_path: Path):
    model = ClassGenerator(2, 10, lambda codes: codes[:, :1].sigmoid())
    TrainingGif(num_images=4).on_train_start(after_test(tmp_path), model)  # type: ignore[arg-type]
    [arrays] = frames(tmp_path).values()
    assert arrays["images"].shape == (10, 1, 4, 4) and arrays["columns"] == 10


@pytest.mark.parametrize("prior", [None, Normal(), Uniform()])
def test_the_grid_is_the_latent_plane_for_a_normal_prior(prior: object, tmp_path: Path):
    model = Generator(2, lambda codes: codes[:, :1].sigmoid(), prior)
    TrainingGif(num_images=9).on_train_start(after_test(tmp_path), model)  # type: ignore[arg-type]
    [arrays] = frames(tmp_path).values()
    rows = arrays["images"][:, 0, 0, 0].reshape(3, 3)
    in_plane = (np.diff(rows.astype(int), axis=0) == 0).all() and (np.diff(rows.astype(int), axis=1) > 0).all()
    assert in_plane == (not isinstance(prior, Uniform))


def log_gif(folder: str) -> None:
    """Saves a GIF in a run that is logged to W&B."""
    logger = RunLogger(Path(folder), "online", {}, id="abc", project="lab")
    running = trainer(Path(folder), torch.zeros(3, 2))
    running.loggers, running.fit_loop = [logger], SimpleNamespace(epoch_loop=SimpleNamespace(_batches_that_stepped=30))
    save_gif(running, "vae_grid", [Image.new("RGB", (20, 20), colour) for colour in ("red", "blue")], 0.1, 1.0)
    logger.close(0)


def test_the_gif_is_uploaded_to_wandb(online: Client, server: WandbServer, tmp_path: Path):
    online.run(log_gif, str(tmp_path))
    (name, content), *more = ((name, file) for name, file in server.runs["abc"].files.items() if name.endswith(".gif"))
    assert name.startswith("media/videos/media/vae_grid") and not more
    assert content == (tmp_path / "media" / "vae_grid.gif").read_bytes()


def one_hot_codes(size: float, width: int) -> np.ndarray:
    return size * np.random.default_rng(0).standard_normal((50, width)).astype(np.float32)


def test_axes_are_the_same_in_all_frames():
    labels = np.arange(50) % 3
    small, large = (
        np.asarray(picture)
        for picture in scatter_frames(
            [(epoch, {"codes": one_hot_codes(size, 2), "labels": labels}) for epoch, size in ((3, 0.1), (4, 10.0))],
            ("a", "b", "c"),
            "hue",
            False,
        )
    )
    changed = np.argwhere((small != large).any(axis=2))
    rows, columns = changed[:, 0], changed[:, 1]
    inside = (rows < 40) | ((columns > 60) & (rows < small.shape[0] - 45))  # not the ticks and labels
    assert len(changed) > 100 and inside.all()
    ink = (small != 255).any(axis=2).sum(), (large != 255).any(axis=2).sum()
    assert ink[0] < ink[1]  # the small codes lie on one spot of the axes that hold the large ones


def test_evaluating_restores_the_mode_of_each_module():
    model = torch.nn.Sequential(torch.nn.Dropout(), torch.nn.Dropout())
    model[1].eval()
    with evaluating(model):
        assert not model.training and not model[0].training
    assert model.training and model[0].training and not model[1].training


def test_invalid_options_are_refused():
    with pytest.raises(ValueError, match="every_n_epochs"):
        TrainingGif(every_n_epochs=-1)
    with pytest.raises(ValueError, match="max_frames"):
        TrainingGif(max_frames=1)
