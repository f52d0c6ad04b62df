from callbacks.checkpoints import LastCheckpoint, WholeFiles, best_checkpoint
from callbacks.exact_resume import ExactResume
from callbacks.images import Interpolation, Reconstructions
from callbacks.latent import LatentCorrelationMatrix, LatentScatter
from callbacks.predictions import Predictions
from callbacks.progress import NoProfiler, progress
from callbacks.run_record import RunRecord
from callbacks.watch import Progress, Watch

__all__ = [
    "ExactResume",
    "Interpolation",
    "LastCheckpoint",
    "LatentCorrelationMatrix",
    "LatentScatter",
    "NoProfiler",
    "Predictions",
    "Progress",
    "Reconstructions",
    "RunRecord",
    "Watch",
    "WholeFiles",
    "best_checkpoint",
    "progress",
]
