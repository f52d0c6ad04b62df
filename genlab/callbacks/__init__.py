from genlab.callbacks.active_units import ActiveUnits
from genlab.callbacks.angle_predictions import AnglePredictions
from genlab.callbacks.anomaly_scores import AnomalyScores
from genlab.callbacks.category_combinations import CategoryCombinations
from genlab.callbacks.category_match import CategoryMatch
from genlab.callbacks.checkpoints import BestCheckpoint, LastCheckpoint
from genlab.callbacks.class_grid import ClassGrid
from genlab.callbacks.collapse_alarm import CollapseAlarm
from genlab.callbacks.color_control import ColorControl
from genlab.callbacks.compiled_networks import CompiledNetworks
from genlab.callbacks.denoising import Denoising
from genlab.callbacks.exact_resume import ExactResume
from genlab.callbacks.filters import Filters
from genlab.callbacks.fused_optimizers import FusedOptimizers
from genlab.callbacks.generated_images import GeneratedImages
from genlab.callbacks.interpolation import Interpolation
from genlab.callbacks.latent_arithmetic import LatentArithmetic
from genlab.callbacks.latent_correlation_matrix import LatentCorrelationMatrix
from genlab.callbacks.latent_plane import LatentPlane
from genlab.callbacks.latent_scatter import LatentScatter
from genlab.callbacks.latent_traversals import LatentTraversals
from genlab.callbacks.learning_curves import LearningCurves
from genlab.callbacks.loss_stability import LossStability
from genlab.callbacks.prediction_writer import PredictionWriter
from genlab.callbacks.principal_subspace import PrincipalSubspace
from genlab.callbacks.prior_interpolation import PriorInterpolation
from genlab.callbacks.progress_bar import PlainProgressBar
from genlab.callbacks.progress_reporter import ProgressReporter
from genlab.callbacks.reconstructions import Reconstructions
from genlab.callbacks.resumed_options import ResumedOptions
from genlab.callbacks.run_record import RunRecord
from genlab.callbacks.sample_grids import SampleGrids
from genlab.callbacks.sample_quality import SampleQuality
from genlab.callbacks.sample_table import SampleTable
from genlab.callbacks.test_codes import TestCodes
from genlab.callbacks.training_gif import TrainingGif
from genlab.callbacks.translation_quality import TranslationQuality

__all__ = [
    "ActiveUnits",
    "AnglePredictions",
    "AnomalyScores",
    "BestCheckpoint",
    "CategoryCombinations",
    "CategoryMatch",
    "ClassGrid",
    "CollapseAlarm",
    "ColorControl",
    "CompiledNetworks",
    "Denoising",
    "ExactResume",
    "Filters",
    "FusedOptimizers",
    "GeneratedImages",
    "Interpolation",
    "LastCheckpoint",
    "LatentArithmetic",
    "LatentCorrelationMatrix",
    "LatentPlane",
    "LatentScatter",
    "LatentTraversals",
    "LearningCurves",
    "LossStability",
    "PlainProgressBar",
    "PredictionWriter",
    "PrincipalSubspace",
    "PriorInterpolation",
    "ProgressReporter",
    "Reconstructions",
    "ResumedOptions",
    "RunRecord",
    "SampleGrids",
    "SampleQuality",
    "SampleTable",
    "TestCodes",
    "TrainingGif",
    "TranslationQuality",
]
