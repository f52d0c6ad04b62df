import os
import pickle
from pathlib import Path

import pytest
import torch
from jsonargparse import Namespace
from torch import Tensor, nn

from lit_models import GAN, VAE, Autoencoder, CheckpointError, Classifier, GenerativeModule
from lit_models.common.adversarial import AdversarialRecipe
from lit_models.common.checkpoints import load_weights
from lit_models.common.component import drop_initial_weights
from lit_models.common.encoder_decoders import MLPNetworks
from tests.helpers import same, saved


class Payload:
    def __reduce__(self):
        return os.system, ("touch /tmp/litgen_was_here",)


def test_a_checkpoint_that_contains_code_is_refused_and_not_run(tmp_path: Path):
    marker = tmp_path / "ran"
    Payload.__reduce__ = lambda self: (os.system, (f"touch {marker}",))
    torch.save({"state_dict": {}, "bad": Payload()}, tmp_path / "bad.ckpt")
    with pytest.raises(CheckpointError, match="contains code.*was refused") as caught:
        GenerativeModule.load(tmp_path / "bad.ckpt")
    assert not marker.exists() and "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", pickle.dumps([1])])
def test_a_damaged_file_is_refused(content: bytes, tmp_path: Path):
    (tmp_path / "x.ckpt").write_bytes(content)
    with pytest.raises(CheckpointError, match="x.ckpt"):
        GenerativeModule.load(tmp_path / "x.ckpt")


def test_a_truncated_or_changed_checkpoint_is_refused(encoder_checkpoint: Path, tmp_path: Path):
    content = encoder_checkpoint.read_bytes()
    half = len(content) // 2
    for damaged in (content[:half], content[:half] + bytes([content[half] ^ 1]) + content[half + 1 :]):
        (tmp_path / "x.ckpt").write_bytes(damaged)
        with pytest.raises(CheckpointError, match="damaged"):
            GenerativeModule.load(tmp_path / "x.ckpt")


def test_another_kind_of_model_is_refused(encoder_checkpoint: Path):
    with pytest.raises(CheckpointError, match="holds an Autoencoder, not a Classifier"):
        Classifier.load(encoder_checkpoint)


@pytest.mark.parametrize("name", ["os.system", "builtins.dict", "nowhere.Model"])
def test_only_imported_models_are_built(name: str, encoder_checkpoint: Path, tmp_path: Path):
    checkpoint = torch.load(encoder_checkpoint, weights_only=True)
    checkpoint["hyper_parameters"]["_class_path"] = name
    torch.save(checkpoint, tmp_path / "x.ckpt")
    with pytest.raises(CheckpointError, match="no imported model"):
        GenerativeModule.load(tmp_path / "x.ckpt")


FOREIGN = {"class_path": "foreign.Thing", "init_args": {}}


@pytest.mark.parametrize(
    "arguments",
    [
        {"networks": FOREIGN},
        {"networks": "foreign.Thing"},
        {"latent_distribution": "foreign.Thing"},
        {"latent_distribution": {"init_args": FOREIGN}},
    ],
    ids=str,
)
def test_only_imported_components_are_built(arguments: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "foreign.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Thing: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    model = VAE(networks=MLPNetworks((8,)))
    checkpoint = {"state_dict": model.state_dict(), "hyper_parameters": model.model_config() | arguments}
    torch.save(checkpoint, tmp_path / "x.ckpt")
    with pytest.raises(CheckpointError, match="cannot build"):
        GenerativeModule.load(tmp_path / "x.ckpt")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("optimizer", [FOREIGN, "foreign.Thing"], ids=str)
def test_a_foreign_optimizer_is_left_out(optimizer: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "foreign.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Thing: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    model = VAE(networks=MLPNetworks((8,)))
    config = model.model_config() | {"optimizer": optimizer}
    torch.save({"state_dict": model.state_dict(), "hyper_parameters": config}, tmp_path / "x.ckpt")
    assert isinstance(VAE.load(tmp_path / "x.ckpt").configure_optimizers(), torch.optim.Adam)
    assert not (tmp_path / "ran").exists()


def test_weights_that_do_not_fit_are_refused(encoder_checkpoint: Path, tmp_path: Path):
    checkpoint = torch.load(encoder_checkpoint, weights_only=True)
    checkpoint["hyper_parameters"]["latent_dim"] = 9
    torch.save(checkpoint, tmp_path / "x.ckpt")
    with pytest.raises(CheckpointError, match="cannot build"):
        GenerativeModule.load(tmp_path / "x.ckpt")


def test_an_ema_starts_from_the_ema_of_a_checkpoint_or_from_its_weights(tmp_path: Path):
    plain, averaged = GAN(), GAN(recipe=AdversarialRecipe(ema_decay=0.9))
    nn.init.ones_(next(averaged.ema_generator.parameters()))
    paths = [saved(model, tmp_path / f"{k}.ckpt") for k, model in enumerate((plain, averaged))]
    for path in paths:
        for recipe in (AdversarialRecipe(), AdversarialRecipe(ema_decay=0.9)):
            model = GAN(recipe=recipe)
            assert load_weights(model, path, strict=True) == []
            held = torch.load(path, weights_only=True)["state_dict"]
            for name, value in model.state_dict().items():
                assert torch.equal(value, held.get(name, held[name.removeprefix("ema_")]))


def test_weights_that_do_not_fit_are_named_or_left(tmp_path: Path):
    path = saved(VAE(latent_dim=3, networks=MLPNetworks((8,))), tmp_path / "x.ckpt")
    model = VAE(latent_dim=2, networks=MLPNetworks((8,)))
    first = model.state_dict()
    with pytest.raises(CheckpointError, match=r"is \d+ x 8 in the model and \d+ x 8 in the checkpoint.*--init_strict"):
        load_weights(model, path, strict=True)
    assert same(model.state_dict(), first)
    assert load_weights(model, path, strict=False)
    held = torch.load(path, weights_only=True)["state_dict"]
    fitting = [name for name, value in model.state_dict().items() if value.shape == held[name].shape]
    assert fitting and all(torch.equal(model.state_dict()[name], held[name]) for name in fitting)
    with pytest.raises(CheckpointError, match="no weight of .* fits Probeless"):
        load_weights(type("Probeless", (Started,), {})(), path, strict=False)


@pytest.mark.parametrize("config", [None, {}, "text"])
def test_a_checkpoint_without_a_model_is_refused_with_advice(config: object, tmp_path: Path):
    torch.save({"state_dict": {}, "hyper_parameters": config}, tmp_path / "x.ckpt")
    with pytest.raises(CheckpointError, match="does not say which model it holds.*give RUN/checkpoints/best.ckpt"):
        GenerativeModule.load(tmp_path / "x.ckpt")


def test_the_optimizer_comes_back_too(encoder_checkpoint: Path):
    optimizer = Autoencoder.load(encoder_checkpoint).configure_optimizers()
    assert isinstance(optimizer, torch.optim.Adam) and optimizer.defaults["lr"] == 1e-3


class Started(GenerativeModule):
    """Starts from the weights in a file."""

    initial_weights = ("start",)

    def __init__(self, width: int = 3, start: str | None = None) -> None:
        super().__init__(torch.optim.Adam)
        self.save_hyperparameters()
        self.layer = nn.Linear(width, width)
        if start is not None:
            self.layer.load_state_dict(torch.load(start, weights_only=True))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


def test_a_model_is_loaded_without_the_file_of_its_initial_weights(tmp_path: Path):
    first = tmp_path / "first.pt"
    torch.save(nn.Linear(3, 3).state_dict(), first)
    model = Started(start=str(first))
    assert same(model.layer.state_dict(), torch.load(first, weights_only=True))
    first.unlink()
    assert model.model_config()["start"] is None and model.hparams["start"] == str(first)
    loaded = Started.load(saved(model, tmp_path / "saved.ckpt"))
    assert same(loaded.state_dict(), model.state_dict())


def test_initial_weights_of_a_model_and_its_components_are_dropped():
    path = "lit_models.common.encoder_decoders.EfficientNetNetworks"
    networks = Namespace(class_path=path, init_args=Namespace(weights="x.pth", freeze=True))
    foreign = Namespace(class_path="nowhere.Component", init_args=Namespace(weights="x.pth", start="y"))
    arguments = Namespace(width=3, start="y.pth", networks=networks, other=foreign, optimizer=None)
    drop_initial_weights(Namespace(class_path=f"{__name__}.Started", init_args=arguments))
    assert arguments.width == 3 and arguments.start is None
    assert networks.init_args == Namespace(weights=None, freeze=True)
    assert foreign.init_args == Namespace(weights="x.pth", start="y")
