import hashlib
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torchvision.models import EfficientNet_B0_Weights, efficientnet_b0
from torchvision.transforms import functional as transforms

import train
from genlab.runs.errors import UsageError
from lit_models import GenerativeModule
from lit_models.common.encoder_decoders import EfficientNetNetworks
from lit_models.vae import VAE
from tests.helpers import same, saved


@pytest.fixture(scope="module")
def network() -> nn.Module:
    """What stands in for the trained one: weights of its own, and batch-norm statistics other than those at first."""
    torch.manual_seed(1)
    network = efficientnet_b0(num_classes=3)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return network.eval()


@pytest.fixture(scope="module")
def weights_file(network: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "efficientnet_b0.pth"
    torch.save(network.state_dict(), path)
    return path


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where torch.hub keeps its downloads; nothing is downloaded."""

    def no_network(*args: Any, **kwargs: Any) -> None:
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(torch.hub, "urlopen", no_network)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = Path(torch.hub.get_dir(), "checkpoints")
    assert folder.is_relative_to(tmp_path)
    return folder


KEPT = Path(EfficientNet_B0_Weights.DEFAULT.url).name


@pytest.mark.parametrize("image_size", [None, 48])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_code_is_a_layer_on_the_networks_pooled_features(
    channels: int, image_size: int | None, network: nn.Module, weights_file: Path
):
    encoder = EfficientNetNetworks(str(weights_file), image_size=image_size).build_encoder((channels, 32, 32), 5).eval()
    images = torch.rand(4, channels, 32, 32)
    size = image_size or 32
    prepared = transforms.normalize(
        nn.functional.interpolate(images.repeat(1, 3 // channels, 1, 1), (size, size), mode="bilinear"),
        list(EfficientNet_B0_Weights.DEFAULT.transforms().mean),
        list(EfficientNet_B0_Weights.DEFAULT.transforms().std),
    )
    with torch.no_grad():
        expected = encoder.head(network.avgpool(network.features(prepared)).flatten(1))
        assert torch.allclose(encoder(images), expected, atol=1e-4)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 28, 28), (1, 45, 17)])
def test_any_small_image_goes_in_and_comes_out(shape: tuple[int, int, int]):
    networks = EfficientNetNetworks()
    codes = networks.build_encoder(shape, 4).eval()(torch.rand(2, *shape))
    assert codes.shape == (2, 4)
    assert networks.build_decoder(shape, 4)(codes).shape == (2, *shape)


@pytest.mark.parametrize("frozen", [True, False])
def test_freezing_is_complete(frozen: bool, weights_file: Path):
    encoder = EfficientNetNetworks(str(weights_file), freeze=frozen).build_encoder((1, 28, 28), 4)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    optimizer = torch.optim.Adam([parameter for parameter in encoder.parameters() if parameter.requires_grad])
    for _ in range(2):
        loss = encoder.train()(torch.rand(8, 1, 28, 28)).square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    after = encoder.state_dict()
    assert all(torch.equal(before[name], after[name]) == frozen for name in before if name.endswith("running_mean"))
    assert same(*({k: v for k, v in state.items() if "features" in k} for state in (before, after))) == frozen
    assert not torch.equal(before["head.weight"], after["head.weight"])
    norms = [module for module in encoder.modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms and all(norm.training != frozen for norm in norms)


def test_a_frozen_encoder_gives_an_image_the_same_code_in_training(weights_file: Path):
    encoder = EfficientNetNetworks(str(weights_file), freeze=True).build_encoder((1, 28, 28), 4)
    images = torch.rand(6, 1, 28, 28)
    assert torch.allclose(encoder.train()(images)[:2], encoder.eval()(images[:2]), atol=1e-5)


def test_a_model_is_loaded_without_the_file_of_its_initial_weights(weights_file: Path, tmp_path: Path):
    first = tmp_path / "gone.pth"
    first.write_bytes(weights_file.read_bytes())
    model = VAE(2, networks=EfficientNetNetworks(str(first), freeze=True), image_shape=(1, 28, 28)).eval()
    first.unlink()
    loaded, images = GenerativeModule.load(saved(model, tmp_path / "saved.ckpt")), torch.rand(2, 1, 28, 28)
    assert isinstance(loaded, VAE) and torch.equal(loaded.encode(images), model.encode(images))
    assert isinstance(loaded.networks, EfficientNetNetworks) and loaded.networks.freeze
    assert not any(p.requires_grad for name, p in loaded.named_parameters() if ".features." in name)


@pytest.mark.parametrize("name", list(EfficientNet_B0_Weights.__members__))
def test_a_name_is_torchvisions_file(name: str, network: nn.Module, weights_file: Path, hub: Path):
    hub.mkdir(parents=True)
    (hub / KEPT).write_bytes(weights_file.read_bytes())
    encoder = EfficientNetNetworks(name).build_encoder((3, 32, 32), 2)
    assert same(encoder.features.state_dict(), network.features.state_dict())


def test_a_download_is_kept_and_its_hash_checked(
    weights_file: Path, hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Through torch.hub's own program, from an address of this machine's files."""
    monkeypatch.setattr(torch.hub, "urlopen", urllib.request.urlopen)
    digest = hashlib.sha256(weights_file.read_bytes()).hexdigest()[:8]
    for name in ("weights-00000000.pth", f"weights-{digest}.pth"):
        (tmp_path / name).write_bytes(weights_file.read_bytes())
    monkeypatch.setattr(EfficientNet_B0_Weights.DEFAULT.value, "url", (tmp_path / "weights-00000000.pth").as_uri())
    with pytest.raises(ValueError, match="cannot be downloaded .*hash"):
        EfficientNetNetworks("DEFAULT").build_encoder((3, 32, 32), 2)
    assert not list(hub.iterdir())
    monkeypatch.setattr(EfficientNet_B0_Weights.DEFAULT.value, "url", (tmp_path / f"weights-{digest}.pth").as_uri())
    EfficientNetNetworks("DEFAULT").build_encoder((3, 32, 32), 2)
    assert (hub / f"weights-{digest}.pth").read_bytes() == weights_file.read_bytes()


@pytest.mark.parametrize(
    "error", [urllib.error.URLError("no route"), TimeoutError("timed out"), ConnectionResetError("reset by peer")]
)
def test_without_a_network_it_says_how_to_bring_the_file(error: Exception, hub: Path, monkeypatch: pytest.MonkeyPatch):
    def fails(*args: Any, **kwargs: Any) -> None:
        raise error

    monkeypatch.setattr(torch.hub, "urlopen", fails)
    with pytest.raises(ValueError, match="weights IMAGENET1K_V1 cannot be downloaded") as caught:
        EfficientNetNetworks("IMAGENET1K_V1").build_encoder((3, 32, 32), 2)
    message = str(caught.value)
    assert "\n" not in message and "--model.networks.weights FILE" in message
    assert str(hub / KEPT) in message and EfficientNet_B0_Weights.DEFAULT.url in message


def test_train_says_so_in_one_line_and_writes_nothing(data_root: Path, hub: Path, tmp_path: Path):
    args = ["--model.networks=EfficientNetNetworks", "--model.networks.weights=DEFAULT", f"--data.root={data_root}"]
    with pytest.raises(UsageError, match="cannot be downloaded") as caught:
        train.main(["fit", "--model=VAE", "--data=MNISTDataModule", *args, f"--run.root={tmp_path / 'runs'}"])
    assert "\n" not in str(caught.value) and not (tmp_path / "runs").exists()


def test_a_run_is_tested_and_goes_on_without_the_file_of_its_initial_weights(weights_file: Path, tmp_path: Path):
    gone = tmp_path / "gone.pth"
    gone.write_bytes(weights_file.read_bytes())
    model = ["--model=VAE", "--model.networks=EfficientNetNetworks", f"--model.networks.weights={gone}"]
    short = ["--data=DigitsDataModule", "--trainer.limit_train_batches=1", "--trainer.limit_val_batches=1"]
    where = [f"--run.root={tmp_path}", "--run.pictures=false", "--trainer.accelerator=cpu"]
    command = ["fit", *model, "--model.networks.freeze=true", *short, *where]
    folder = train.main([*command, "--trainer.max_epochs=1", "--run.name=x"]).folder
    gone.unlink()
    with pytest.raises(UsageError, match="neither a file nor"):
        train.main([*command, "--trainer.max_epochs=1"])
    best = f"--ckpt_path={folder / 'checkpoints' / 'best.ckpt'}"
    assert train.main(["test", best, "--trainer.limit_test_batches=1"]).metrics["test/kl"] >= 0
    again = train.main([*command, "--trainer.max_epochs=2", "--run.name=x", "--ckpt_path=last"])
    assert again.folder == folder
    assert f"weights: {gone}" in (folder / "config.yaml").read_text()


def test_a_file_that_does_not_fit_is_refused(weights_file: Path, hub: Path, tmp_path: Path):
    def complaint(weights: str | Path) -> str:
        with pytest.raises(ValueError) as caught:
            EfficientNetNetworks(str(weights)).build_encoder((3, 32, 32), 2)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "neither a file nor IMAGENET1K_V1 or DEFAULT" in complaint(tmp_path / "none.pth")
    cut = tmp_path / "cut.pth"
    cut.write_bytes(weights_file.read_bytes()[:100_000])
    assert f"{cut} is damaged" in complaint(cut)
    hub.mkdir(parents=True)
    (hub / KEPT).write_bytes(b"")
    assert f"{hub / KEPT} is damaged" in complaint("DEFAULT")
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "other.pth")
    assert "of another network than EfficientNet-B0" in complaint(tmp_path / "other.pth")
    torch.save(torch.zeros(3), tmp_path / "tensor.pth")
    assert "holds a Tensor" in complaint(tmp_path / "tensor.pth")
    torch.save(nn.Linear(2, 2), tmp_path / "code.pth")
    assert "is damaged or is not a file of weights" in complaint(tmp_path / "code.pth")


def test_invalid_arguments_raise_an_error():
    with pytest.raises(ValueError, match="image_size is 0"):
        EfficientNetNetworks(image_size=0)
    with pytest.raises(ValueError, match="1 or 3 channels, not 2"):
        EfficientNetNetworks().build_encoder((2, 28, 28), 3)
