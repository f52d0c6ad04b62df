"""Any model that encodes gives its encoder to a probe."""

from pathlib import Path

import pytest
import torch
from lightning import seed_everything
from torch import nn

from lit_models import VAE, WAE, Autoencoder, CheckpointError, Classifier, GenerativeModule, Probe
from lit_models.common.latent_distributions import Joint
from lit_models.common.pretrained_encoder import load_encoder
from tests.helpers import same, saved

MODELS = {
    "autoencoder": lambda: Autoencoder(latent_dim=4, depth=2, channel_factor=4),
    "classifier": lambda: Classifier(channels=(4,), feature_dim=4),
    "vae": lambda: VAE(latent_dim=4),
    "joint_vae": lambda: VAE(latent_dim=2, latent_distribution=Joint(3)),
    "wae": lambda: WAE(latent_dim=4),
}


class EvaluationClassifier(GenerativeModule):
    """Has features, and no codes."""

    def __init__(self) -> None:
        super().__init__(torch.optim.Adam)
        self.save_hyperparameters()
        self.features = nn.Sequential(nn.Flatten(), nn.Linear(784, 5))

    def backbone(self) -> nn.Module:
        return self.features


class Bare(GenerativeModule):
    """Has neither."""

    def __init__(self) -> None:
        super().__init__(torch.optim.Adam)
        self.save_hyperparameters()


@pytest.mark.parametrize("kind", list(MODELS))
def test_a_probe_reads_the_codes_of_any_encoder(kind: str, tmp_path: Path):
    seed_everything(0, verbose=False)
    model = MODELS[kind]().eval()
    probe = Probe(str(saved(model, tmp_path / "model.ckpt")))
    images = torch.rand(6, 1, 28, 28)
    with torch.no_grad():
        codes = model.encode(images)
        assert torch.equal(probe.encode(images), codes)
        assert torch.equal(probe(images), probe(codes))
    assert not any(parameter.requires_grad for parameter in probe.encoder.parameters())
    (tmp_path / "model.ckpt").unlink()
    again = Probe.load(saved(probe, tmp_path / "probe.ckpt"))
    assert same(again.state_dict(), probe.state_dict())


@pytest.mark.parametrize("kind", list(MODELS))
def test_its_width_is_known_and_its_statistics_are_not_touched(kind: str, tmp_path: Path):
    seed_everything(0, verbose=False)
    model = MODELS[kind]().eval()
    backbone = load_encoder(str(saved(model, tmp_path / "model.ckpt")), None, (1, 28, 28))
    with torch.no_grad():
        assert backbone.width == model.encode(torch.rand(1, 1, 28, 28)).shape[1]
    assert same(backbone.network.state_dict(), model.encoder_network().state_dict())
    assert not backbone.network.training


def test_the_first_column_of_several_labels_is_the_class(encoder_checkpoint: Path):
    probe, images, digits = Probe(str(encoder_checkpoint)), torch.rand(4, 1, 28, 28), torch.arange(4)
    one, other = (probe.loss_terms((images, x)) for x in (digits, torch.stack([digits, 90 * digits], dim=1)))
    assert one["loss"] == other["loss"] and one["accuracy"] == other["accuracy"]


def test_the_factor_of_the_learning_rate_must_be_positive(encoder_checkpoint: Path):
    with pytest.raises(ValueError, match="encoder_lr_factor is 0; it must be positive"):
        Probe(str(encoder_checkpoint), encoder_lr_factor=0)


def test_a_checkpoint_that_is_not_there_is_named():
    with pytest.raises(CheckpointError, match="there is no checkpoint nowhere.ckpt"):
        load_encoder("nowhere.ckpt", None, (1, 28, 28))


def test_a_model_without_codes_gives_its_features(tmp_path: Path):
    model = EvaluationClassifier()
    backbone = load_encoder(str(saved(model, tmp_path / "classifier.ckpt")), None, (1, 28, 28))
    assert backbone.width == 5 and same(backbone.network.state_dict(), model.features.state_dict())


def test_a_model_without_codes_or_features_is_refused(tmp_path: Path):
    with pytest.raises(CheckpointError, match="holds a Bare, which has no encoder"):
        load_encoder(str(saved(Bare(), tmp_path / "bare.ckpt")), None, (1, 28, 28))
