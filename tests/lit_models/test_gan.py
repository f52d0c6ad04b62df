"""GAN, ConditionalGAN and ACGAN. Their training is in common/test_adversarial.py."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch.nn import functional as F

import train
from genlab.runs.folder import read_summary
from lit_models import ACGAN, GAN, ConditionalGAN, GenerativeModule, PoolingAutoencoder
from lit_models.common.adversarial import AdversarialRecipe
from lit_models.common.capabilities import Encodes, HasBackbone, HasLatentBlocks, Samples
from lit_models.common.checkpoints import CheckpointError
from lit_models.common.discriminators import DCGANDiscriminator
from lit_models.common.generators import DCGANGenerator, LinearGenerator, PoolingGenerator
from lit_models.common.objectives import Minimax, NonSaturating, Wasserstein
from lit_models.common.prior_distributions import UniformDistribution
from lit_models.common.priors import Uniform
from tests.test_models import MODELS, trained

G, D = DCGANGenerator(4), DCGANDiscriminator(4)
EMA = AdversarialRecipe(ema_decay=0.9)

SMALL_CONFIG = """
model:
  class_path: GAN
  init_args:
    latent_dim: 3
    generator: LinearGenerator
    discriminator: {class_path: MLPDiscriminator, init_args: {hidden_dims: [8]}}
    recipe: {ema_decay: 0.9}
data: {class_path: DigitsDataModule, init_args: {val_size: 20}}
trainer: {accelerator: cpu, max_epochs: 1, limit_train_batches: 1}
run: {pictures: false}
"""


def gan(**options: Any) -> GAN:
    return GAN(**{"latent_dim": 5, "generator": G, "discriminator": D, **options})


def conditional(**options: Any) -> ConditionalGAN:
    return ConditionalGAN(**{"latent_dim": 5, "embedding_dim": 3, "generator": G, "discriminator": D, **options})


def acgan(**options: Any) -> ACGAN:
    return ACGAN(**{"latent_dim": 5, "generator": G, "discriminator": D, "image_shape": (1, 28, 28), **options})


@pytest.fixture(scope="module")
def autoencoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a PoolingAutoencoder with codes of 4 numbers."""
    folder = tmp_path_factory.mktemp("autoencoder")
    trained(MODELS["pooling_autoencoder"], PoolingAutoencoder(4), folder).save_checkpoint(folder / "best.ckpt")
    return folder / "best.ckpt"


def test_capabilities():
    for model in (gan(), conditional(), acgan()):
        assert isinstance(model, Samples) and isinstance(model, HasLatentBlocks) and isinstance(model, HasBackbone)
        assert not isinstance(model, Encodes)
        assert model.backbone().eval()(torch.rand(3, 1, 28, 28)).shape == (3, 16 * 3 * 3)
    with pytest.raises(ValueError, match="without labels"):
        gan().sample(2, 3)
    with pytest.raises(ValueError, match="no class 10"):
        conditional().sample(2, 10)


def test_a_pack_is_one_input_of_the_discriminator():
    torch.manual_seed(0)
    model, images = gan(pack=2, discriminator=DCGANDiscriminator(4, norm="none")), torch.rand(6, 1, 28, 28)
    logits = model.discriminator_logits(images, torch.zeros(6))
    assert logits.shape == (3,)
    pair = torch.cat([images[2], images[3]])[None]  # neighbours, as two channels
    torch.testing.assert_close(logits[1:2], model.discriminator(pair))
    assert model.discriminator_logits(images[:5], torch.zeros(5)).shape == (2,)  # the remainder is left out


def test_both_networks_depend_on_the_label():
    torch.manual_seed(0)
    for model in (conditional(), conditional(conditioning="embedding"), acgan()):
        model.eval()
        labels = torch.tensor([3, 3, 8])
        codes = model.sample_codes(labels)
        assert codes.shape == (3, 15) and torch.equal(codes[:, 5:].argmax(dim=1), labels)
        other = torch.cat([codes[:, :5], F.one_hot(torch.tensor([4, 4, 9]), 10)], dim=1)
        assert not torch.allclose(model.decode(codes), model.decode(other))
        if isinstance(model, ConditionalGAN):
            images = torch.rand(3, 1, 28, 28)
            assert not torch.allclose(
                model.discriminator(images, labels), model.discriminator(images, (labels + 1) % 10)
            )


def test_spectral_norm_applies_to_the_label_embedding():
    discriminator = conditional(discriminator=DCGANDiscriminator(4, norm="none", spectral_norm=True)).discriminator
    names = {name for name, _ in discriminator.named_parameters() if name.endswith("weight")}
    assert not names and isinstance(
        discriminator.label_embedding.weight, torch.Tensor
    )  # each weight is computed from an unnormalised one
    for _ in range(50):
        weight = discriminator.label_embedding.weight
    assert torch.linalg.matrix_norm(weight, 2).item() == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize(("options", "parts"), [({}, 3), ({"pack": 3}, 20)])
def test_a_batch_that_cannot_be_split_is_an_error(options: dict[str, int], parts: int, tmp_path: Path):
    model = gan(**options, recipe=AdversarialRecipe(accumulate_grad_batches=parts))
    with pytest.raises(
        MisconfigurationException, match=f"a batch of size 40 cannot be split evenly: number of parts {parts}"
    ):
        trained(MODELS["gan"], model, tmp_path)


def test_an_ema_in_half_precision_is_an_error(tmp_path: Path):
    with pytest.raises(MisconfigurationException, match="does not change in half precision"):
        trained(MODELS["gan"], gan(recipe=EMA), tmp_path, precision="bf16-true")


def test_the_projection_discriminator_is_the_papers():
    """f(x, y) = y^T V phi(x) + psi(phi(x)) (Miyato and Koyama 2018, eq. 3)."""
    torch.manual_seed(0)
    discriminator = conditional().discriminator.eval()
    images, labels = torch.rand(4, 1, 28, 28), torch.tensor([0, 1, 9, 9])
    phi = discriminator.features(images)
    expected = (F.one_hot(labels, 10).float() @ discriminator.label_embedding.weight * phi).sum(
        dim=1
    ) + discriminator.head(phi)[:, 0]
    torch.testing.assert_close(discriminator(images, labels), expected)


def test_acgan_losses_are_minus_the_papers_objectives():
    """D maximises L_S + L_C, G maximises L_C - L_S, computed from probabilities (Odena et al. 2016, eq. 2, 3)."""
    torch.manual_seed(0)
    model = acgan(objective=Minimax()).eval()
    images, labels = torch.rand(6, 1, 28, 28), torch.arange(6)
    codes = model.sample_codes(labels)
    with torch.no_grad():
        (real, real_classes), (fake, fake_classes) = (
            model.discriminator(images),
            model.discriminator(model.generator(codes)),
        )
        on_fake = (1 - fake.double().sigmoid()).log().mean()
        source = real.double().sigmoid().log().mean() + on_fake
        own = fake_classes.double().softmax(dim=1)[range(6), labels].log().mean()
        classes = real_classes.double().softmax(dim=1)[range(6), labels].log().mean() + own
        assert model.discriminator_terms(images, codes, labels)["loss_d"].item() == pytest.approx(
            -(source + classes).item(), rel=1e-5
        )
        assert model.generator_terms(codes, labels)["loss_g"].item() == pytest.approx(-(own - on_fake).item(), rel=1e-5)


def test_a_prior_an_objective_and_a_recipe_are_saved_and_loaded(tmp_path: Path):
    model = gan(prior=Uniform(-2.0, 3.0), objective=NonSaturating(0.1), recipe=EMA)
    trained(MODELS["gan"], model, tmp_path).save_checkpoint(tmp_path / "a.ckpt")
    loaded = GAN.load(tmp_path / "a.ckpt")
    assert isinstance(loaded.prior, UniformDistribution) and (loaded.prior.low, loaded.prior.high) == (-2.0, 3.0)
    assert loaded.recipe == EMA
    assert isinstance(loaded.objective, NonSaturating) and loaded.objective.label_smoothing == 0.1
    codes = loaded.sample_prior(1000)
    assert -2 <= codes.min() < -1.9 and 2.9 < codes.max() <= 3


def test_the_ema_of_the_generator_makes_the_samples(tmp_path: Path):
    """Two updates by hand: e += (1 - decay) (g - e), with a decay of 2/11 and then 3/12 as it warms up."""
    torch.manual_seed(0)
    model = gan(recipe=EMA)
    expected = {name: parameter.detach().clone() for name, parameter in model.generator.named_parameters()}
    steps: list[dict[str, torch.Tensor]] = []
    original = model.update_ema_generator

    def update_ema_generator(steps_per_update: int) -> None:
        assert steps_per_update == 2
        steps.append({name: parameter.detach().clone() for name, parameter in model.generator.named_parameters()})
        original(steps_per_update)

    model.update_ema_generator = update_ema_generator  # type: ignore[method-assign]
    trained(MODELS["gan"], model, tmp_path)
    assert len(steps) == 2
    for decay, current in zip((2 / 11, 3 / 12), steps, strict=True):
        expected = {name: decay * value + (1 - decay) * current[name] for name, value in expected.items()}
    assert model.ema_generator is not None
    for name, parameter in model.ema_generator.named_parameters():
        torch.testing.assert_close(parameter, expected[name])
        assert not parameter.requires_grad
    for average, current in zip(model.ema_generator.buffers(), model.generator.buffers(), strict=True):
        assert torch.equal(average, current)
    codes = model.eval().sample_prior(2)
    assert torch.equal(model.decode(codes), model.ema_generator(codes))
    assert not torch.allclose(model.decode(codes), model.generator(codes))


def test_a_generator_is_initialised_with_an_autoencoders_decoder(autoencoder: Path, tmp_path: Path):
    pooling = {"latent_dim": 4, "generator": PoolingGenerator()}
    source = PoolingAutoencoder.load(autoencoder).decoder.state_dict()
    model = gan(**pooling, generator_checkpoint=str(autoencoder))
    assert str(model.loaded_layers) == f"the generator starts with expand, refine, enlarge, paint of {autoencoder}"
    assert all(torch.equal(value, source[name]) for name, value in model.generator.state_dict().items())

    part = gan(**pooling, generator_checkpoint=str(autoencoder), generator_layers=["refine", "paint"])
    assert part.loaded_layers is not None and part.loaded_layers.new == ["expand", "enlarge"]
    assert torch.equal(part.generator.state_dict()["paint.weight"], source["paint.weight"])
    assert not torch.equal(part.generator.state_dict()["expand.weight"], source["expand.weight"])

    wider = gan(latent_dim=6, generator=PoolingGenerator(), generator_checkpoint=str(autoencoder))
    assert str(wider.loaded_layers).endswith(f"refine, enlarge, paint of {autoencoder}; not expand")
    assert gan(**pooling, generator_checkpoint="none").loaded_layers is None


def test_a_trained_gan_loads_without_its_generator_checkpoint(autoencoder: Path, tmp_path: Path):
    gone = tmp_path / "gone.ckpt"
    gone.write_bytes(autoencoder.read_bytes())
    model = gan(latent_dim=4, generator=PoolingGenerator(), generator_checkpoint=str(gone))
    trained(MODELS["gan"], model, tmp_path).save_checkpoint(tmp_path / "a.ckpt")
    gone.unlink()
    codes = torch.randn(2, 4)
    assert torch.equal(GenerativeModule.load(tmp_path / "a.ckpt")(codes), model.eval()(codes))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"generator": LinearGenerator()}, "no layer that fits the generator's"),
        ({"generator": PoolingGenerator(), "generator_layers": ["paints"]}, "no layer paints .* expand, refine"),
        ({"generator": PoolingGenerator(), "generator_checkpoint": "nowhere.ckpt"}, "there is no checkpoint nowhere"),
    ],
)
def test_a_generator_checkpoint_that_does_not_fit_is_an_error(options: dict[str, Any], match: str, autoencoder: Path):
    with pytest.raises(CheckpointError, match=match):
        gan(**{"latent_dim": 4, "generator_checkpoint": str(autoencoder), **options})


def test_arguments_are_checked():
    for make, match in (
        (lambda: gan(latent_dim=0), "latent_dim"),
        (lambda: gan(pack=0), "pack"),
        (lambda: AdversarialRecipe(n_critic=0), "n_critic"),
        (lambda: AdversarialRecipe(ema_decay=1.0), "ema_decay"),
        (lambda: AdversarialRecipe(gradient_clip_val=-1.0), "gradient_clip_val"),
        (lambda: AdversarialRecipe(accumulate_grad_batches=0), "accumulate_grad_batches"),
        (lambda: AdversarialRecipe(discriminator_lr_factor=0.0), "discriminator_lr_factor"),
        (lambda: AdversarialRecipe(lr_decay_start=1.1), "lr_decay_start"),
        (lambda: AdversarialRecipe(r1=-1.0), "r1 is -1.0"),
        (lambda: AdversarialRecipe(r2=float("nan")), "r2 is nan"),
        (lambda: AdversarialRecipe(penalty_interval=0), "penalty_interval"),
        (lambda: AdversarialRecipe(augment=("colour",)), r"augment is \['colour'\]; .* color, translation, cutout"),  # type: ignore[arg-type]
        (
            lambda: gan(recipe=AdversarialRecipe(r2=1.0)),
            "gradient penalty needs a discriminator that treats each image",
        ),
        (lambda: conditional(embedding_dim=0), "embedding_dim"),
        (lambda: acgan(class_weight=-1.0), "class_weight"),
        (lambda: gan(generator_layers=["paint"]), "give generator_checkpoint"),
        (lambda: gan(objective=Wasserstein()), "gradient penalty needs a discriminator that treats each image alone"),
    ):
        with pytest.raises(ValueError, match=match):
            make()
    assert (
        gan(objective=Wasserstein(), discriminator=DCGANDiscriminator(4, norm="layer")).objective.gradient_penalty == 10
    )


def test_a_recipe_is_set_by_options_recorded_and_loaded(tmp_path: Path):
    """The options of the recipe override the config file one by one."""
    config = tmp_path / "small.yaml"
    config.write_text(SMALL_CONFIG)
    result = train.main(["fit", f"--config={config}", f"--run.root={tmp_path}", "--model.recipe.n_critic", "5"])
    assert result.folder.name == "n_critic=5"
    recorded = read_summary(result.folder)["config"]
    assert (recorded["model.recipe.n_critic"], recorded["model.recipe.ema_decay"]) == (5, 0.9)
    loaded = GAN.load(result.folder / "checkpoints" / "last.ckpt")
    assert loaded.recipe == AdversarialRecipe(n_critic=5, ema_decay=0.9)
