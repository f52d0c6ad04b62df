from lit_models.acgan import ACGAN
from lit_models.adversarial_autoencoder import AdversarialAutoencoder
from lit_models.angle_probe import AngleProbe
from lit_models.anomaly_detector import AnomalyDetector
from lit_models.autoencoder import Autoencoder
from lit_models.autoregressive_model import AutoregressiveModel
from lit_models.classifier import Classifier
from lit_models.common.checkpoints import CheckpointError
from lit_models.common.module import GenerativeModule
from lit_models.conditional_gan import ConditionalGAN
from lit_models.contractive_autoencoder import ContractiveAutoencoder
from lit_models.cyclegan import CycleGAN
from lit_models.ddpm import DDPM
from lit_models.denoising_autoencoder import DenoisingAutoencoder
from lit_models.edm import EDM
from lit_models.feature_inversion import FeatureInversion
from lit_models.flow_matching import FlowMatching
from lit_models.gan import GAN
from lit_models.glo import GLO
from lit_models.glow import Glow
from lit_models.infogan import InfoGAN
from lit_models.linear_autoencoder import LinearAutoencoder
from lit_models.pix2pix import Pix2Pix
from lit_models.pooling_autoencoder import PoolingAutoencoder
from lit_models.probe import Probe
from lit_models.restoration_gan import RestorationGAN
from lit_models.score_model import ScoreModel
from lit_models.sparse_autoencoder import SparseAutoencoder
from lit_models.srgan import SRGAN
from lit_models.style_transfer import StyleTransfer
from lit_models.texture_synthesis import TextureSynthesis
from lit_models.vae import VAE
from lit_models.vaegan import VAEGAN
from lit_models.vqvae import VQVAE
from lit_models.wae import WAE

__all__ = [
    "ACGAN",
    "DDPM",
    "EDM",
    "GAN",
    "GLO",
    "SRGAN",
    "VAE",
    "VAEGAN",
    "VQVAE",
    "WAE",
    "AdversarialAutoencoder",
    "AngleProbe",
    "AnomalyDetector",
    "Autoencoder",
    "AutoregressiveModel",
    "CheckpointError",
    "Classifier",
    "ConditionalGAN",
    "ContractiveAutoencoder",
    "CycleGAN",
    "DenoisingAutoencoder",
    "FeatureInversion",
    "FlowMatching",
    "GenerativeModule",
    "Glow",
    "InfoGAN",
    "LinearAutoencoder",
    "Pix2Pix",
    "PoolingAutoencoder",
    "Probe",
    "RestorationGAN",
    "ScoreModel",
    "SparseAutoencoder",
    "StyleTransfer",
    "TextureSynthesis",
]
