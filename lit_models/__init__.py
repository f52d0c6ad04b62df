from lit_models.autoencoder import Autoencoder
from lit_models.base import CheckpointError, GenerativeModule
from lit_models.classifier import Classifier
from lit_models.probe import Probe
from lit_models.vae import VAE

__all__ = ["VAE", "Autoencoder", "CheckpointError", "Classifier", "GenerativeModule", "Probe"]
