from callbacks.checkpoints import LastCheckpoint, best_checkpoint
from callbacks.images import Interpolation, Reconstructions
from callbacks.latent import LatentCorrelationMatrix, LatentScatter
from callbacks.predictions import Predictions
from callbacks.progress import progress
from callbacks.random_state import RandomState
from callbacks.run_record import RunRecord

__all__ = [
    "Interpolation",
    "LastCheckpoint",
    "LatentCorrelationMatrix",
    "LatentScatter",
    "Predictions",
    "RandomState",
    "Reconstructions",
    "RunRecord",
    "best_checkpoint",
    "progress",
]
