"""Models from noise in the space of an autoencoder's codes."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Trainer
from torch import Tensor
from torch.utils.data import DataLoader

from datamodules import DigitsDataModule
from lit_models import DDPM, VAE, Autoencoder, CheckpointError, Classifier, GenerativeModule, ScoreModel
from lit_models.common import latent_space
from lit_models.common.dpm_solver import DPMSolver
from lit_models.common.edm_sampler import EDMSampler
from lit_models.common.latent_space import LatentSpace, PixelSpace
from lit_models.common.map_networks import MapNetworks
from lit_models.common.noise_predictors import MLPNoisePredictor
from lit_models.common.noise_process import Denoised
from lit_models.common.noise_schedules import CosineSchedule
from lit_models.common.samplers import DDIM, Ancestral, Sampler
from tests.helpers import fit, saved, stop_at
from tests.test_ddp import loader

SHAPE = (2, 7, 7)


@pytest.fixture(scope="module")
def autoencoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of an untrained VAE whose codes are maps."""
    torch.manual_seed(0)
    model = VAE(98, networks=MapNetworks(2, 4))
    return saved(model, tmp_path_factory.mktemp("autoencoder") / "vae.ckpt")


def latent(autoencoder: Path, **options: Any) -> DDPM:
    torch.manual_seed(0)
    given = {"network": MLPNoisePredictor((16,)), "num_steps": 50, "sampler": DDIM(5), "ema_decay": 0.9}
    return DDPM(**given, autoencoder=str(autoencoder), noise_schedule=CosineSchedule(), **options)


def trained(model: Any, data: Any) -> Any:
    trainer = Trainer(
        max_steps=2,
        accelerator="cpu",
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, data)
    return model


def digits() -> Tensor:
    return DigitsDataModule(val_size=0).examples("train", 2000)[0]


KINDS = {
    "precomputed": lambda: DigitsDataModule(batch_size=200, val_size=0),
    "augmented": lambda: DigitsDataModule(batch_size=200, val_size=0, shift=1),
    "images alone": lambda: DataLoader(digits(), batch_size=200, shuffle=True),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("kind", list(KINDS))
def test_codes_of_training_images_have_unit_variance(kind: str, autoencoder: Path, monkeypatch: pytest.MonkeyPatch):
    """And they are encoded once, if they stay the same. The autoencoder is not trained."""
    encoded, encode = [], VAE.encode
    monkeypatch.setattr(VAE, "encode", lambda self, x: encoded.append(len(x)) or encode(self, x))
    model, images = trained(latent(autoencoder), KINDS[kind]()), digits()
    # Two steps take 400 images, and the scale those of an epoch, which in a data module are whole batches.
    assert sum(encoded) == {"precomputed": 1437, "augmented": 1400 + 400, "images alone": 1437 + 400}[kind] + 1
    clean, vae = model.space.encode(images), GenerativeModule.load(autoencoder)
    assert clean.shape == (len(images), *SHAPE)
    rough = 0.1 if kind == "augmented" else 2e-3  # the scale is that of shifted images
    assert clean.std().item() == pytest.approx(1, abs=rough)
    assert clean.mean(dim=(0, 2, 3)).abs().max() < rough
    with torch.no_grad():
        torch.testing.assert_close(model.space.decode(clean), vae.reconstruct(images))
    for name, value in vae.state_dict().items():
        assert torch.equal(model.space.autoencoder.state_dict()[name], value)
    held = {id(p) for group in model.optimizers().param_groups for p in group["params"]}
    assert held == {id(p) for p in model.network.parameters()}
    assert not model.space.autoencoder.training and model.network.training


def test_a_step_is_that_of_a_pixel_model_of_the_codes(autoencoder: Path):
    model, images = latent(autoencoder), digits()[:50]
    model.space.set_scale(model.space.codes(images))
    pixels = DDPM(
        MLPNoisePredictor((16,)), noise_schedule=CosineSchedule(), num_steps=50, sampler=DDIM(5), image_shape=SHAPE
    )
    pixels.network.load_state_dict(model.network.state_dict())
    losses, as_pixels = [], (model.space.encode(images) + 1) / 2
    for trainee, batch in ((model, images), (model, model.space.codes(images)), (pixels, as_pixels)):
        torch.manual_seed(1)
        loss = trainee.train().loss_terms((batch, torch.zeros(50)))["loss"]
        loss.backward()
        losses.append(loss.item())
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-5)
    for (name, own), (_, other) in zip(
        model.network.named_parameters(), pixels.network.named_parameters(), strict=True
    ):
        torch.testing.assert_close(own.grad, 2 * other.grad, msg=name)  # of two backward passes


@pytest.mark.parametrize("sampler", [DDIM(5), Ancestral(5), EDMSampler(5), DPMSolver(5)])
def test_samples_are_decoded_codes_that_no_sampler_clips(sampler: Sampler, autoencoder: Path):
    model = latent(autoencoder).eval()
    model.space.set_scale(model.space.codes(digits()))
    model.sampler = sampler
    with torch.no_grad():
        torch.manual_seed(3)
        free = copy.copy(sampler)
        vars(free)["clip"] = False
        codes = free.sample(model.process, model.denoise, model.process.sample_noise(4, SHAPE))
        expected = model.space.autoencoder.decode((codes * model.space.scale + model.space.shift).flatten(1))
        torch.manual_seed(3)
        assert torch.equal(model.sample(4), expected)

    def far(noisy: Tensor, level: Any, labels: Any = None) -> Denoised:
        clean = torch.full_like(noisy, 3.0)
        return Denoised(clean, (noisy - level.alpha * clean) / level.sigma)

    pixels = DDPM(MLPNoisePredictor((8,)), num_steps=50, image_shape=SHAPE)
    model.denoise = pixels.denoise = far
    noise = torch.randn(4, *SHAPE)
    torch.testing.assert_close(model.sample_clean(sampler, noise), torch.full_like(noise, 3.0))
    torch.testing.assert_close(pixels.sample_clean(sampler, noise), torch.ones_like(noise))
    assert vars(sampler)["clip"]


def test_a_latent_model_has_no_likelihood_of_images(autoencoder: Path):
    model, images = latent(autoencoder).eval(), digits()[:5]
    with torch.no_grad():
        assert model.loss_terms((images, torch.zeros(5))).keys() == {"loss"}
    with pytest.raises(ValueError, match="log_prob needs a model of pixels, and this one learns codes; use"):
        model.log_prob(images)
    with pytest.raises(ValueError, match="objective variational needs a model of pixels"):
        latent(autoencoder, objective="variational")


@pytest.mark.parametrize("kind", [DDPM, ScoreModel])
def test_codes_without_a_map_are_channels_of_one_pixel(kind: type[Any], tmp_path: Path):
    vectors = saved(Autoencoder(5, 2, 4, hidden_dim=16), tmp_path / "vectors.ckpt")
    model = kind(MLPNoisePredictor((8,)), autoencoder=str(vectors)).eval()
    model.sampler = DDIM(2)
    assert model.space.shape == (5, 1, 1) and model.sample(3).shape == (3, 1, 28, 28)
    assert isinstance(kind(MLPNoisePredictor((8,))).space, PixelSpace)


def test_codes_have_the_deviation_that_the_process_assumes(autoencoder: Path):
    space = LatentSpace(str(autoencoder), (1, 28, 28), None, std=0.5)
    space.set_scale(space.codes(digits()))
    assert space.encode(digits()).std().item() == pytest.approx(0.5, rel=1e-4)


def test_what_does_not_fit_is_refused(autoencoder: Path, tmp_path: Path):
    classifier = saved(Classifier(channels=(4,), feature_dim=4), tmp_path / "classifier.ckpt")
    with pytest.raises(CheckpointError, match="holds a Classifier, which has no decoder; give the checkpoint of an"):
        latent(classifier)
    with pytest.raises(CheckpointError, match="has an autoencoder that cannot take images of 1 x 25 x 25, those of"):
        latent(autoencoder, image_shape=(1, 25, 25))  # its maps are 7 x 7 too
    with pytest.raises(CheckpointError, match="cannot take images of 3 x 28 x 28"):
        latent(autoencoder, image_shape=(3, 28, 28))
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        latent(tmp_path / "none.ckpt")
    with pytest.raises(CheckpointError, match="gives all images the same code; train it again"):
        latent(autoencoder).space.set_scale(torch.full((5, 98), 0.3))


def test_all_processes_have_the_scale_of_all_images(autoencoder: Path, monkeypatch: pytest.MonkeyPatch):
    found: dict[int, Tensor] = {}
    for _ in range(2):  # in the second round, each of the two processes gets what both sent in the first
        spaces = [LatentSpace(str(autoencoder), (1, 28, 28), None, 1.0) for _ in range(2)]
        for rank, space in enumerate(spaces):

            def gather(own: Tensor, rank: int = rank) -> list[Tensor]:
                found[rank] = own
                return [found[k] for k in sorted(found)]

            monkeypatch.setattr(latent_space, "all_gather_objects", gather)
            space.start(loader(8, rank, 2), 2)
    alone = LatentSpace(str(autoencoder), (1, 28, 28), None, 1.0)
    monkeypatch.undo()
    alone.start(loader(16), 1)
    for name in ("shift", "scale"):
        first, second = (getattr(space, name) for space in spaces)
        assert torch.equal(first, second)
        torch.testing.assert_close(first, getattr(alone, name))


def test_a_run_resumes_exactly_and_is_tested_without_the_file_of_its_autoencoder(autoencoder: Path, tmp_path: Path):
    gone = tmp_path / "gone.ckpt"
    gone.write_bytes(autoencoder.read_bytes())
    config = tmp_path / "small.yaml"
    model = {"network": {"class_path": "MLPNoisePredictor"}, "num_steps": 50, "autoencoder": str(gone)}
    data = {"class_path": "DigitsDataModule", "init_args": {"batch_size": 400, "val_size": 200, "shift": 1}}
    trainer = {"max_epochs": 2, "precision": "bf16-mixed", "limit_val_batches": 1, "limit_test_batches": 1}
    whole = {"model": {"class_path": "DDPM", "init_args": model}, "data": data, "trainer": trainer}
    config.write_text(json.dumps({"seed_everything": 1, "run": {"pictures": False}, **whole}))
    uninterrupted = fit(tmp_path, f"--config={config}", "--run.name=whole").folder / "checkpoints" / "last.ckpt"
    with pytest.raises(SystemExit):
        fit(tmp_path, f"--config={config}", "--run.name=stopped", *stop_at(2, "term"))
    gone.unlink()
    last = tmp_path / "small" / "stopped" / "checkpoints" / "last.ckpt"
    resumed = fit(tmp_path, f"--config={config}", f"--ckpt_path={last}")
    a, b = (torch.load(path, weights_only=True) for path in (uninterrupted, last))
    assert a["global_step"] == b["global_step"] > 2
    assert all(torch.equal(a["state_dict"][name], b["state_dict"][name]) for name in a["state_dict"])
    assert resumed.metrics["test/loss"] > 0 and "test/bits_per_dim" not in resumed.metrics
    assert "autoencoder.beta" in json.loads((last.parents[1] / "summary.json").read_text())["config"]
    assert isinstance(GenerativeModule.load(last).space, LatentSpace)
