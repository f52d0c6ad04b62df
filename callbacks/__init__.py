from callbacks.active_units import ActiveUnits
from callbacks.angles import AnglePicture
from callbacks.anomaly import AnomalyScores
from callbacks.arithmetic import Arithmetic
from callbacks.checkpoints import LastCheckpoint, WholeFiles, best_checkpoint
from callbacks.class_grid import ClassGrid
from callbacks.collapse import CollapseAlarm
from callbacks.color_control import ColorControl
from callbacks.curves import LearningCurves
from callbacks.denoising import Denoising
from callbacks.exact_resume import ExactResume
from callbacks.film import Film
from callbacks.filters import Filters
from callbacks.images import Interpolation, Reconstructions
from callbacks.judge import Judge, find_judge, image_sets_frechet
from callbacks.latent import LatentCorrelationMatrix, LatentScatter
from callbacks.latent_space import Combinations, LatentPlane, Traversals
from callbacks.predictions import Predictions
from callbacks.principal_subspace import PrincipalSubspace
from callbacks.prior_interpolation import PriorInterpolation
from callbacks.progress import NoProfiler, progress
from callbacks.quality import SampleQuality, chosen_by_samples
from callbacks.results import Results
from callbacks.run_record import RunRecord
from callbacks.samples import SampleGrids
from callbacks.stability import LossStability
from callbacks.translation import TranslationQuality
from callbacks.watch import Progress, Watch

__all__ = [
    "ActiveUnits",
    "AnglePicture",
    "AnomalyScores",
    "Arithmetic",
    "ClassGrid",
    "CollapseAlarm",
    "ColorControl",
    "Combinations",
    "Denoising",
    "ExactResume",
    "Film",
    "Filters",
    "Interpolation",
    "Judge",
    "LastCheckpoint",
    "LatentCorrelationMatrix",
    "LatentPlane",
    "LatentScatter",
    "LearningCurves",
    "LossStability",
    "NoProfiler",
    "Predictions",
    "PrincipalSubspace",
    "PriorInterpolation",
    "Progress",
    "Reconstructions",
    "Results",
    "RunRecord",
    "SampleGrids",
    "SampleQuality",
    "TranslationQuality",
    "Traversals",
    "Watch",
    "WholeFiles",
    "best_checkpoint",
    "chosen_by_samples",
    "find_judge",
    "image_sets_frechet",
    "progress",
]
