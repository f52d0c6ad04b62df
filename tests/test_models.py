"""The table of models, and what holds for every one of them."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Trainer, seed_everything

from datamodules import (
    BatchTransform,
    DigitsDataModule,
    ImageDataModule,
    ReferenceImagesDataModule,
    StyleTransferDataModule,
)
from lit_models import (
    ACGAN,
    DDPM,
    EDM,
    GAN,
    GLO,
    SRGAN,
    VAE,
    VAEGAN,
    VQVAE,
    WAE,
    AdversarialAutoencoder,
    AngleProbe,
    AnomalyDetector,
    Autoencoder,
    AutoregressiveModel,
    Classifier,
    ConditionalGAN,
    ContractiveAutoencoder,
    CycleGAN,
    DenoisingAutoencoder,
    FeatureInversion,
    FlowMatching,
    GenerativeModule,
    Glow,
    InfoGAN,
    LinearAutoencoder,
    Pix2Pix,
    PoolingAutoencoder,
    Probe,
    RestorationGAN,
    ScoreModel,
    SparseAutoencoder,
    StyleTransfer,
    TextureSynthesis,
)
from lit_models.common.adversarial import AdversarialBase, AdversarialRecipe
from lit_models.common.autoregressive_networks import CausalTransformer, GatedPixelCNN
from lit_models.common.capabilities import (
    Decodes,
    Encodes,
    HasBackbone,
    HasCodeMaps,
    HasLatentBlocks,
    HasOptimizedImages,
    Reconstructs,
    Samples,
    Tokenizes,
    Translates,
)
from lit_models.common.corruptions import ColoredBlob, LaplaceNoise
from lit_models.common.couplings import OptimalTransport
from lit_models.common.diffusion_base import DiffusionBase
from lit_models.common.discriminators import (
    ACGANDiscriminator,
    DCGANDiscriminator,
    MLPDiscriminator,
    PatchDiscriminator,
    PoolingDiscriminator,
    R3GANDiscriminator,
    ResNetDiscriminator,
)
from lit_models.common.dpm_solver import DPMSolver
from lit_models.common.edm_sampler import EDMSampler
from lit_models.common.encoder_decoders import EfficientNetNetworks, MLPNetworks, ResidualNetworks, StridedNetworks
from lit_models.common.generators import (
    ACGANGenerator,
    DCGANGenerator,
    LinearGenerator,
    MLPGenerator,
    PoolingGenerator,
    R3GANGenerator,
    ResNetGenerator,
)
from lit_models.common.latent_distributions import Gaussian, GumbelSoftmax, Joint
from lit_models.common.latent_gan import LatentGAN
from lit_models.common.learned_posteriors import FlowPosterior
from lit_models.common.learned_priors import FlowPrior, VampPrior
from lit_models.common.map_networks import MapNetworks
from lit_models.common.noise_paths import KarrasPath, VariancePreservingPath
from lit_models.common.noise_predictors import MLPNoisePredictor, UNet
from lit_models.common.noise_schedules import CosineSchedule
from lit_models.common.objectives import Hinge, Minimax, NonSaturating, Relativistic, Wasserstein
from lit_models.common.ode_likelihood import ODELikelihood
from lit_models.common.ode_samplers import Euler, Heun
from lit_models.common.perceptual import VGGFeatures
from lit_models.common.priors import Mixture, Uniform
from lit_models.common.quantizers import FiniteScalarQuantizer, VectorQuantizer
from lit_models.common.samplers import DDIM, Ancestral
from lit_models.common.times import LogitNormalTimes, UniformTimes
from lit_models.common.translators import ConvTranslator, ResNetTranslator, UNetTranslator
from lit_models.common.upscalers import SRResNet
from lit_models.common.vae_objectives import ImportanceWeighted, TotalCorrelation
from tests.lit_models.pairs import ColoredPairsOfDigits, HalfDigits, NoisyDigits, QuarterDigits, RecoloredDigits


@dataclass
class Row:
    make: Callable[..., GenerativeModule]
    arguments: dict[str, Any] = field(default_factory=dict)
    needs_encoder: bool = False
    data: type[ImageDataModule] = DigitsDataModule

    def build(self, encoder: Path) -> GenerativeModule:
        seed_everything(0, verbose=False)
        option = "autoencoder" if self.make in (DDPM, EDM) else "encoder_checkpoint"
        return self.make(**self.arguments, **({option: str(encoder)} if self.needs_encoder else {}))


class TurnedDigits(DigitsDataModule):
    """Labels (digit, degrees), the degrees made up."""

    def batch_transform(self, split: str) -> BatchTransform:
        return lambda images, labels, index, epoch: (images, torch.stack([labels, 36 * labels], dim=1))


class SmallTextures(ReferenceImagesDataModule):
    """Three of 16 x 16 pixels."""

    def __init__(self, **options: Any) -> None:
        super().__init__("textures", 16, steps_per_epoch=1)


class SmallStyles(StyleTransferDataModule):
    """Of three scenes in one style."""

    def __init__(self, **options: Any) -> None:
        super().__init__("scenes", "glass", 16, steps_per_epoch=1)


SMALL = {"latent_dim": 4, "channel_factor": 4, "hidden_dim": 32}
EMA = AdversarialRecipe(ema_decay=0.9)
SMALL_GAN = {"latent_dim": 5, "generator": DCGANGenerator(4), "discriminator": DCGANDiscriminator(4)}
SMALL_RESNET = {"latent_dim": 5, "generator": ResNetGenerator(4, 8), "discriminator": ResNetDiscriminator(4, 8)}
SMALL_CYCLE = {"generator": ResNetTranslator(2, 1), "discriminator": PatchDiscriminator(2, 1)}
SMALL_CONV = {"generator": ConvTranslator((4,), 3), "discriminator": PoolingDiscriminator((2, 2), 4, 3)}
SMALL_PICTURES = {
    "features": VGGFeatures("random", ("relu1_1", "relu2_1"), "average"),
    "num_images": 3,
    "image_shape": (3, 16, 16),
}
SMALL_NETWORKS = StridedNetworks(depth=2, channel_factor=4, hidden_dim=32)
MODELS = {
    "autoencoder": Row(Autoencoder, {**SMALL, "depth": 2}),
    "autoencoder_of_maps_even_kernel": Row(
        Autoencoder, {"latent_dim": 18, "channel_factor": 4, "hidden_dim": None, "depth": 3, "kernel_size": 4}
    ),
    "classifier_plain": Row(Classifier, {"channels": (4, 8), "feature_dim": 8}),
    "classifier_no_batch_norm": Row(Classifier, {"channels": (4, 8), "batch_norm": False, "lr_schedule": "constant"}),
    "classifier_residual": Row(Classifier, {"channels": (4, 8), "block": "residual", "feature_dim": 8}),
    "classifier_inception": Row(Classifier, {"channels": (8, 8), "block": "inception", "feature_dim": 8}),
    "probe_frozen": Row(Probe, {"mlp_width": 8}, needs_encoder=True),
    "probe_fine_tuned": Row(Probe, {"mlp_width": 8, "freeze_encoder": False}, needs_encoder=True),
    "angle_probe_frozen": Row(AngleProbe, {"mlp_width": 8}, needs_encoder=True, data=TurnedDigits),
    "angle_probe_fine_tuned": Row(
        AngleProbe, {"mlp_width": 8, "freeze_encoder": False}, needs_encoder=True, data=TurnedDigits
    ),
    "anomaly_detector": Row(AnomalyDetector, {"latent_dim": 4, "networks": SMALL_NETWORKS}),
    "pooling_autoencoder": Row(PoolingAutoencoder, {"latent_dim": 4}),
    "linear_autoencoder": Row(LinearAutoencoder, {"latent_dim": 4}),
    "sparse_autoencoder": Row(SparseAutoencoder, {"latent_dim": 8}),
    "sparse_autoencoder_deep": Row(SparseAutoencoder, {"latent_dim": 8, "networks": SMALL_NETWORKS}),
    "contractive_autoencoder": Row(ContractiveAutoencoder, {"latent_dim": 8}),
    "contractive_autoencoder_deep": Row(
        ContractiveAutoencoder, {"latent_dim": 8, "networks": MLPNetworks((16,), "tanh"), "probes": 2}
    ),
    "denoising_autoencoder": Row(
        DenoisingAutoencoder, {"latent_dim": 8, "corruption": LaplaceNoise(), "networks": SMALL_NETWORKS}
    ),
    "denoising_autoencoder_on_clean_images": Row(
        DenoisingAutoencoder, {"latent_dim": 49, "test_corruption": ColoredBlob(), "networks": MapNetworks(2, 4)}
    ),
    "wae_imq": Row(WAE, {"latent_dim": 3, "networks": MLPNetworks((16,))}),
    "wae_rbf": Row(
        WAE, {"latent_dim": 3, "networks": ResidualNetworks(4, 8), "kernel": "rbf", "likelihood": "gaussian"}
    ),
    "vae_gaussian": Row(VAE, {"latent_dim": 3, "networks": MLPNetworks((16,)), "kl_warmup_steps": 2}),
    "vae_gaussian_strided": Row(VAE, {"latent_dim": 3, "networks": SMALL_NETWORKS, "lr_schedule": "one_cycle"}),
    "vae_of_maps": Row(VAE, {"latent_dim": 98, "networks": MapNetworks(2, 4)}),
    "vae_categorical": Row(
        VAE, {"latent_dim": 2, "latent_distribution": GumbelSoftmax(4), "networks": MLPNetworks((16,))}
    ),
    "vae_straight_through": Row(
        VAE,
        {
            "latent_dim": 2,
            "latent_distribution": GumbelSoftmax(4, straight_through=True),
            "networks": MLPNetworks((16,)),
        },
    ),
    "vae_efficientnet": Row(VAE, {"latent_dim": 3, "networks": EfficientNetNetworks(freeze=True)}),
    "vae_joint": Row(
        VAE,
        {
            "latent_dim": 2,
            "latent_distribution": Joint(3, 1),
            "networks": ResidualNetworks(4, 8, 2, 2),
            "likelihood": "laplace",
        },
    ),
    "vqvae": Row(VQVAE, {"networks": MapNetworks(2, 4), "quantizer": VectorQuantizer(16, 3)}),
    "vqvae_of_scalars": Row(
        VQVAE, {"networks": MapNetworks(1, 4), "quantizer": FiniteScalarQuantizer((4, 3)), "likelihood": "laplace"}
    ),
    "vae_importance_weighted": Row(
        VAE,
        {
            "latent_dim": 2,
            "latent_distribution": Gaussian(FlowPosterior("affine", 1, (8,)), FlowPrior("spline", 1, (8,))),
            "networks": MLPNetworks((16,)),
            "objective": ImportanceWeighted(3, 1),
        },
    ),
    "vae_vamp_prior": Row(
        VAE,
        {
            "latent_dim": 2,
            "latent_distribution": Gaussian(prior=VampPrior(4)),
            "networks": MLPNetworks((16,)),
            "objective": ImportanceWeighted(2),
        },
    ),
    "vae_total_correlation": Row(
        VAE, {"latent_dim": 2, "networks": MLPNetworks((16,)), "objective": TotalCorrelation(sampling="stratified")}
    ),
    "gan": Row(GAN, {**SMALL_GAN, "recipe": EMA}),
    "gan_packed": Row(
        GAN,
        {**SMALL_GAN, "pack": 2, "objective": Relativistic(), "recipe": AdversarialRecipe(accumulate_grad_batches=2)},
    ),
    "gan_wasserstein": Row(
        GAN,
        {
            **SMALL_GAN,
            "objective": Wasserstein(),
            "discriminator": DCGANDiscriminator(4, norm="layer"),
            "recipe": AdversarialRecipe(gradient_clip_val=1.0),
        },
    ),
    "gan_spectral": Row(
        GAN,
        {**SMALL_GAN, "objective": Hinge(), "discriminator": DCGANDiscriminator(4, 2, "none", True, True, 0.1)},
    ),
    "gan_resnet": Row(GAN, {**SMALL_RESNET, "objective": Hinge(), "recipe": EMA}),
    "gan_resnet_wasserstein": Row(
        GAN,
        {
            **SMALL_RESNET,
            "objective": Wasserstein(),
            "discriminator": ResNetDiscriminator(4, 8, 2, 2, "layer", spectral_norm=False),
        },
    ),
    "gan_r3": Row(
        GAN,
        {
            "latent_dim": 5,
            "generator": R3GANGenerator(4, 8),
            "discriminator": R3GANDiscriminator(4, 8, depth=2),
            "objective": Relativistic(),
            "recipe": AdversarialRecipe(
                ema_decay=0.9, r1=1.0, r2=1.0, penalty_interval=2, augment=("color", "translation", "cutout")
            ),
        },
    ),
    "gan_pooling": Row(GAN, {**SMALL_GAN, "generator": PoolingGenerator(), "prior": Mixture(3)}),
    "gan_mlp": Row(
        GAN,
        {"latent_dim": 2, "generator": MLPGenerator((8,)), "discriminator": MLPDiscriminator((8,)), "prior": Uniform()},
    ),
    "gan_linear": Row(GAN, {**SMALL_GAN, "generator": LinearGenerator(), "objective": Minimax()}),
    "conditional_gan_projection": Row(ConditionalGAN, {**SMALL_RESNET, "embedding_dim": 3}),
    "conditional_gan_embedding": Row(ConditionalGAN, {**SMALL_GAN, "conditioning": "embedding", "recipe": EMA}),
    "acgan": Row(
        ACGAN,
        {
            **SMALL_RESNET,
            "discriminator": ResNetDiscriminator(4, 8, minibatch_std=True),
            "objective": Relativistic(),
            "image_shape": (1, 28, 28),
        },
    ),
    "acgan_of_the_paper": Row(
        ACGAN,
        {
            "latent_dim": 5,
            "generator": ACGANGenerator(),
            "discriminator": ACGANDiscriminator(0.1),
            "image_shape": (1, 28, 28),
        },
    ),
    "adversarial_autoencoder": Row(
        AdversarialAutoencoder,
        {
            "latent_dim": 2,
            "networks": MLPNetworks((16,)),
            "discriminator_dims": (8,),
            "objective": Relativistic(),
            "prior": Mixture(3),
            "recipe": AdversarialRecipe(ema_decay=0.9, r1=0.1),
        },
    ),
    "infogan": Row(
        InfoGAN,
        {**SMALL_GAN, "categories": 3, "variables": 2, "learned_std": True, "hidden_dim": 8, "recipe": EMA},
    ),
    "vaegan": Row(
        VAEGAN, {**SMALL_GAN, "encoder": SMALL_NETWORKS, "discriminator": DCGANDiscriminator(4), "recipe": EMA}
    ),
    "cyclegan": Row(CycleGAN, {**SMALL_CYCLE, "pool_size": 50}, data=RecoloredDigits),
    "cyclegan_alternating": Row(
        CycleGAN,
        {
            **SMALL_CONV,
            "step_order": "alternating",
            "pool_size": 0,
            "recipe": AdversarialRecipe(gradient_clip_val=1.0),
        },
        data=RecoloredDigits,
    ),
    "cyclegan_identity": Row(
        CycleGAN,
        {
            **SMALL_CYCLE,
            "objective": Relativistic(),
            "identity_weight": 5.0,
            "pool_size": 30,
            "recipe": AdversarialRecipe(ema_decay=0.9, accumulate_grad_batches=2, r1=1.0, penalty_interval=2),
        },
        data=RecoloredDigits,
    ),
    "cyclegan_u_net": Row(
        CycleGAN,
        {
            "generator": UNetTranslator(2, 2),
            "discriminator": DCGANDiscriminator(2, 2),
            "objective": NonSaturating(),
            "step_order": "alternating",
            "recipe": EMA,
        },
        data=RecoloredDigits,
    ),
    "cyclegan_wasserstein": Row(CycleGAN, {**SMALL_CYCLE, "objective": Wasserstein()}, data=RecoloredDigits),
    "pix2pix": Row(
        Pix2Pix,
        {"generator": UNetTranslator(2, 3, 0.5), "discriminator": PatchDiscriminator(2, 1, "batch"), "recipe": EMA},
        data=ColoredPairsOfDigits,
    ),
    "srgan": Row(
        SRGAN, {"generator": SRResNet(2, 1), "discriminator": DCGANDiscriminator(2), "recipe": EMA}, data=HalfDigits
    ),
    "srgan_with_noise": Row(
        SRGAN,
        {
            "generator": SRResNet(2, 1),
            "discriminator": PatchDiscriminator(2, 1, spectral_norm=True),
            "noise_channels": 1,
            "source_shape": (1, 7, 7),
        },
        data=QuarterDigits,
    ),
    "restoration_gan": Row(
        RestorationGAN,
        {"generator": UNetTranslator(2, 2), "discriminator": DCGANDiscriminator(2, 2), "objective": Relativistic()},
        data=NoisyDigits,
    ),
    "glo": Row(GLO, {"latent_dim": 5, "generator": DCGANGenerator(4), "encode_steps": 2}),
    "glo_anywhere": Row(
        GLO,
        {
            "latent_dim": 3,
            "generator": MLPGenerator((8,)),
            "loss": "mse",
            "projection": "none",
            "latent_distribution": "initial",
            "lr_schedule": "one_cycle",
            "encode_steps": 2,
        },
    ),
    "glow": Row(Glow, {"steps": 2, "width": 6, "lr_schedule": "one_cycle"}),
    "glow_plain": Row(Glow, {"levels": 1, "steps": 2, "width": 4, "lu": False, "temperature": 0.7}),
    "autoregressive_pixels": Row(
        AutoregressiveModel,
        {
            "network": GatedPixelCNN(4, 2, dropout=0.1),
            "values": 2,
            "conditional": True,
            "ema_decay": 0.9,
            "lr_schedule": "one_cycle",
        },
    ),
    "autoregressive_tokens": Row(
        AutoregressiveModel,
        {
            "network": CausalTransformer(8, 1, 2, 0.1),
            "tokenizer": "gone.ckpt",
            "tokenizer_config": json.dumps(VQVAE(MapNetworks(2, 4), VectorQuantizer(8, 3)).model_config()),
        },
    ),
    "ddpm": Row(DDPM, {"network": UNet(8, attention=8, patch_size=2), "num_steps": 30, "sampler": DDIM(3)}),
    "ddpm_conditional": Row(
        DDPM,
        {
            "network": UNet((8, 8), attention=False, dropout=0.1, patch_size=2),
            "noise_schedule": CosineSchedule(),
            "num_steps": 30,
            "objective": "variational",
            "sampler": Ancestral(3, "forward"),
            "conditional": True,
            "guidance_scale": 0.5,
            "ema_decay": 0.0,
            "lr_schedule": "one_cycle",
        },
    ),
    "ddpm_latent": Row(
        DDPM,
        {"network": MLPNoisePredictor((8,)), "num_steps": 30, "sampler": DDIM(3), "conditional": True},
        needs_encoder=True,
    ),
    "edm": Row(EDM, {"network": UNet((8, 8), patch_size=2), "sampler": EDMSampler(2)}),
    "edm_latent": Row(
        EDM,
        {
            "network": MLPNoisePredictor((8,)),
            "prediction": "noise",
            "path": KarrasPath(sigma_max=20.0),
            "times": UniformTimes(),
            "data_std": 0.7,
            "sampler": DPMSolver(3, 3, stochastic=True),
            "conditional": True,
            "guidance_scale": 0.5,
            "ema_decay": 0.0,
            "lr_schedule": "one_cycle",
        },
        needs_encoder=True,
    ),
    "score_model": Row(ScoreModel, {"network": UNet((8, 8), patch_size=2), "num_levels": 3}),
    "score_model_sliced": Row(
        ScoreModel,
        {
            "network": UNet((8,), attention=8, patch_size=4),
            "num_levels": 3,
            "objective": "sliced",
            "ema_decay": 0.0,
            "sampler": DDIM(2),
        },
    ),
    "flow_matching": Row(FlowMatching, {"network": UNet((8, 8), patch_size=2), "sampler": Heun(2)}),
    "flow_matching_conditional": Row(
        FlowMatching,
        {
            "network": UNet((8,), attention=False, patch_size=4),
            "path": VariancePreservingPath(),
            "times": LogitNormalTimes(),
            "coupling": OptimalTransport(),
            "likelihood": ODELikelihood(Euler(1), num_images=10),
            "conditional": True,
            "guidance_scale": 0.5,
            "ema_decay": 0.0,
        },
    ),
    "texture_synthesis": Row(TextureSynthesis, SMALL_PICTURES, data=SmallTextures),
    "feature_inversion": Row(FeatureInversion, {**SMALL_PICTURES, "tv_beta": 1.5}, data=SmallTextures),
    "style_transfer": Row(StyleTransfer, {**SMALL_PICTURES, "content_maps": (2,)}, data=SmallStyles),
}


@pytest.fixture(scope="module", params=list(MODELS))
def row(request: pytest.FixtureRequest) -> Row:
    return MODELS[request.param]


@pytest.fixture(scope="module")
def fitted(row: Row, encoder_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Trainer, Any]:
    """A model after two steps, and its trainer; the file that its encoder came from is gone."""
    folder = tmp_path_factory.mktemp("fitted")
    gone = folder / "gone.ckpt"
    gone.write_bytes(encoder_checkpoint.read_bytes())
    model = row.build(gone)
    trainer = trained(row, model, folder)
    gone.unlink()
    return trainer, model


def data_of(row: Row) -> ImageDataModule:
    return row.data(batch_size=40, val_size=200)


def trained(row: Row, model: GenerativeModule, folder: Path, **options: Any) -> Trainer:
    """Two steps on the digits."""
    seed_everything(0, verbose=False)
    trainer = Trainer(
        **{"accelerator": "cpu", "max_epochs": 2, "limit_train_batches": 1, "limit_val_batches": 1, **options},
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    trainer.fit(model, datamodule=data_of(row))
    return trainer


def images(n: int = 5) -> torch.Tensor:
    return DigitsDataModule().examples("test", n)[0]


def translations(model: Any, size: tuple[int, int] | None = None) -> dict[str, torch.Tensor]:
    """Of five images of noise, as large as its own unless said otherwise."""
    kinds = dict(zip(("ab", "ba"), (model.hparams["source_shape"], model.hparams["image_shape"]), strict=True))
    with torch.no_grad():
        return {
            direction: model.translate(torch.rand(5, kinds[direction][0], *(size or kinds[direction][1:])), direction)
            for direction in model.directions
        }


def outputs(model: GenerativeModule) -> torch.Tensor:
    """What it makes of images, or of noise."""
    torch.manual_seed(0)
    if isinstance(model, HasOptimizedImages):
        return model.optimized_images()
    if isinstance(model, Translates):
        return torch.cat(list(translations(model.eval()).values()))
    with torch.no_grad():
        return model.eval().sample(5) if isinstance(model, LatentGAN | DiffusionBase) else model.eval()(images())


def losses_of(model: Any, batch: Any) -> dict[str, dict[str, torch.Tensor]]:
    """Loss terms, each by the prefix of the names of the parameters that minimise it."""
    if isinstance(model, CycleGAN):
        translations = [model.generator[direction](x).detach() for direction, x in (("ba", batch[1]), ("ab", batch[0]))]
        return {
            "discriminator.": model.discriminator_terms(*batch, *translations),
            "generator.": model.generator_terms(*batch),
        }
    if isinstance(model, VAEGAN):
        return {
            "discriminator.": model.discriminator_terms(*model.discriminator_step_inputs(batch)),
            "generator.decoder.": model.generator_terms(*model.generator_step_inputs(batch)),
            "generator.encoder.": model.encoder_terms(batch[0]),
        }
    if isinstance(model, GLO):
        model.table.initialize(len(batch[0]))
        return {"": model.loss_terms((*batch, torch.arange(len(batch[0]))))}
    if isinstance(model, AdversarialBase):
        of_d, of_g = model.discriminator_step_inputs(batch), model.generator_step_inputs(batch)
        return {"discriminator.": model.discriminator_terms(*of_d), "generator.": model.generator_terms(*of_g)}
    return {"": model.loss_terms(batch)}


def woken(model: GenerativeModule) -> GenerativeModule:
    """With noise in the place of weights that start at zero, which pass no gradient on to what is before them."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad and not parameter.any():
                parameter.normal_(0, 0.1)
    return model


def check_finite(trainer: Trainer, model: Any) -> None:
    losses = {name: value for name, value in trainer.callback_metrics.items() if name.startswith("train/")}
    assert losses and all(torch.isfinite(value) for value in losses.values())
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())
    assert torch.isfinite(outputs(model)).all()


def test_two_steps_are_finite_and_log_the_monitored_metric(fitted: tuple[Trainer, Any]):
    trainer, model = fitted
    check_finite(trainer, model)
    by_samples = isinstance(model, AdversarialBase | GLO)  # measured by a callback
    assert model.monitor is None or by_samples or model.monitor[0] in trainer.callback_metrics


def test_two_steps_are_finite_in_half_precision(row: Row, encoder_checkpoint: Path, tmp_path: Path):
    model = row.build(encoder_checkpoint)
    check_finite(trained(row, model, tmp_path, precision="bf16-mixed"), model)


def test_every_trainable_parameter_gets_a_gradient_and_no_other(row: Row, encoder_checkpoint: Path):
    model = woken(row.build(encoder_checkpoint)).train()
    data = data_of(row)
    data.setup()
    losses = losses_of(model, next(iter(data.train_dataloader())))
    for prefix, terms in losses.items():
        own = {name: p for name, p in model.named_parameters() if name.startswith(prefix) and p.requires_grad}
        gradients = torch.autograd.grad(next(iter(terms.values())), list(own.values()), retain_graph=True)
        for parameter, gradient in zip(own.values(), gradients, strict=True):
            parameter.grad = gradient
    for name, parameter in model.named_parameters():
        of_difference = name.startswith("discriminator.") and name.endswith(
            "head.bias"
        )  # of two outputs, where it cancels
        got = parameter.grad is not None and (of_difference or bool(parameter.grad.abs().sum() > 0))
        assert got == parameter.requires_grad, name


def test_a_checkpoint_gives_the_same_outputs_without_the_file_it_grew_from(fitted: tuple[Trainer, Any], tmp_path: Path):
    trainer, model = fitted
    trainer.save_checkpoint(tmp_path / "saved.ckpt")
    for kind in (GenerativeModule, type(model)):
        loaded = kind.load(tmp_path / "saved.ckpt")
        assert type(loaded) is type(model) and not loaded.training
        assert torch.equal(outputs(loaded), outputs(model))


def test_the_same_seed_gives_the_same_weights(
    row: Row, fitted: tuple[Trainer, Any], encoder_checkpoint: Path, tmp_path: Path
):
    again = row.build(encoder_checkpoint)
    trained(row, again, tmp_path)
    for first, second in zip(fitted[1].state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(first, second)


def test_methods_return_what_their_protocols_say(row: Row, encoder_checkpoint: Path):
    model, x = row.build(encoder_checkpoint).eval(), images()
    with torch.no_grad():
        if isinstance(model, Encodes):
            assert model.encode(x).ndim == 2
            same = torch.equal(model.encode(x), model.encoder_network()(x))
            assert same, "encoder_network()(images) differs from encode(images); override both together"
        if isinstance(model, Encodes) and isinstance(model, Decodes):
            assert model.decode(model.encode(x)).shape == x.shape
        if isinstance(model, HasCodeMaps):
            assert model.encode(x).shape[1] == math.prod(model.code_shape)
        if isinstance(model, Tokenizes):
            tokens = model.tokenize(x)
            assert tokens.shape == (5, *model.token_shape) and tokens.dtype == torch.int64
            assert tokens.min() >= 0 and tokens.max() < model.codebook_size
            assert torch.equal(model.detokenize(tokens), model.reconstruct(x))
        for made in ([model.reconstruct(x)] if isinstance(model, Reconstructs) else []) + (
            [model.sample(5)] if isinstance(model, Samples) else []
        ):
            assert made.shape == x.shape and made.min() >= 0 and made.max() <= 1
        for size in (None, (30, 22)) if isinstance(model, Translates) else ():
            source, target = model.hparams["source_shape"], model.hparams["image_shape"]
            factor = target[1] // source[1]
            for direction, made in translations(model, size).items():
                like = target if direction == "ab" else source
                expected = like if size is None else (like[0], factor * size[0], factor * size[1])
                assert made.shape == (5, *expected) and made.min() >= 0 and made.max() <= 1
        if isinstance(model, HasOptimizedImages):
            held = model.optimized_images()
            assert held.shape == model.logits.shape and held.min() >= 0 and held.max() <= 1
        if isinstance(model, HasBackbone):
            assert model.backbone()(x).shape[0] == len(x) and model.backbone()(x).ndim == 2
        if isinstance(model, HasLatentBlocks):
            codes = model.sample_prior(7)
            assert codes.shape == (7, model.latent_blocks()[-1].stop)
            assert not isinstance(model, Encodes) or model.encode(x).shape[1] == codes.shape[1]
            assert model.decode(codes).shape == (7, *x.shape[1:])
