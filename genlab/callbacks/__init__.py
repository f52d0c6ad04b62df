from genlab.callbacks.active_units import ActiveUnits
from genlab.callbacks.angles import AnglePicture
from genlab.callbacks.anomaly_scores import AnomalyScores
from genlab.callbacks.arithmetic import Arithmetic
from genlab.callbacks.checkpoints import AtomicCheckpointIO, LastCheckpoint, best_checkpoint
from genlab.callbacks.class_grid import ClassGrid
from genlab.callbacks.collapse_alarm import CollapseAlarm
from genlab.callbacks.color_control import ColorControl
from genlab.callbacks.denoising import Denoising
from genlab.callbacks.exact_resume import ExactResume
from genlab.callbacks.filters import Filters
from genlab.callbacks.generated_images import GeneratedImages
from genlab.callbacks.latent_codes import LatentCorrelationMatrix, LatentScatter
from genlab.callbacks.latent_space import Combinations, LatentPlane, Traversals
from genlab.callbacks.learning_curves import LearningCurves
from genlab.callbacks.loss_stability import LossStability
from genlab.callbacks.predictions import Predictions
from genlab.callbacks.principal_subspace import PrincipalSubspace
from genlab.callbacks.prior_interpolation import PriorInterpolation
from genlab.callbacks.progress import NoProfiler, progress
from genlab.callbacks.progress_reporter import Progress, ProgressReporter
from genlab.callbacks.reconstructions import Interpolation, Reconstructions
from genlab.callbacks.run_record import RunRecord
from genlab.callbacks.sample_grids import SampleGrids
from genlab.callbacks.sample_quality import SampleQuality, chosen_by_samples
from genlab.callbacks.training_gif import TrainingGif
from genlab.callbacks.translation_quality import TranslationQuality
from genlab.evaluation.classifier import EvaluationClassifier, find_evaluation_classifier, image_sets_frechet

__all__ = [
    "ActiveUnits",
    "AnglePicture",
    "AnomalyScores",
    "Arithmetic",
    "AtomicCheckpointIO",
    "ClassGrid",
    "CollapseAlarm",
    "ColorControl",
    "Combinations",
    "Denoising",
    "EvaluationClassifier",
    "ExactResume",
    "Filters",
    "GeneratedImages",
    "Interpolation",
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
    "ProgressReporter",
    "Reconstructions",
    "RunRecord",
    "SampleGrids",
    "SampleQuality",
    "TrainingGif",
    "TranslationQuality",
    "Traversals",
    "best_checkpoint",
    "chosen_by_samples",
    "find_evaluation_classifier",
    "image_sets_frechet",
    "progress",
]
