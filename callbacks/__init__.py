from callbacks.active_units import ActiveUnits
from callbacks.angles import AnglePicture
from callbacks.anomaly import AnomalyScores
from callbacks.checkpoints import LastCheckpoint, WholeFiles, best_checkpoint
from callbacks.color_control import ColorControl
from callbacks.curves import LearningCurves
from callbacks.denoising import Denoising
from callbacks.exact_resume import ExactResume
from callbacks.film import Film
from callbacks.images import Interpolation, Reconstructions
from callbacks.latent import LatentCorrelationMatrix, LatentScatter
from callbacks.latent_space import Combinations, LatentPlane, Traversals
from callbacks.predictions import Predictions
from callbacks.principal_subspace import PrincipalSubspace
from callbacks.progress import NoProfiler, progress
from callbacks.run_record import RunRecord
from callbacks.samples import SampleGrids
from callbacks.watch import Progress, Watch

__all__ = [
    "ActiveUnits",
    "AnglePicture",
    "AnomalyScores",
    "ColorControl",
    "Combinations",
    "Denoising",
    "ExactResume",
    "Film",
    "Interpolation",
    "LastCheckpoint",
    "LatentCorrelationMatrix",
    "LatentPlane",
    "LatentScatter",
    "LearningCurves",
    "NoProfiler",
    "Predictions",
    "PrincipalSubspace",
    "Progress",
    "Reconstructions",
    "RunRecord",
    "SampleGrids",
    "Traversals",
    "Watch",
    "WholeFiles",
    "best_checkpoint",
    "progress",
]
