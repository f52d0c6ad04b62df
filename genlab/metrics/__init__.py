from genlab.metrics.category_accuracy import CategoryAccuracy
from genlab.metrics.color import ColorAgreement, ColorCount, foreground_hue, hue_distance
from genlab.metrics.density_coverage import DensityCoverage, ManifoldDensityCoverage
from genlab.metrics.frechet import FrechetDistance
from genlab.metrics.kernel_distance import KernelDistance, MeanAndDeviation
from genlab.metrics.latent_correlation import Correlation, LatentCorrelation
from genlab.metrics.latent_variance import LatentVariance
from genlab.metrics.mode_coverage import Coverage, ModeCoverage
from genlab.metrics.precision_recall import ManifoldPrecisionRecall, PrecisionRecall
from genlab.metrics.spectrum import SpectrumDistance
from genlab.metrics.ssim import SSIM_WINDOW, ssim
from genlab.metrics.two_sample import permutation_test

__all__ = [
    "SSIM_WINDOW",
    "CategoryAccuracy",
    "ColorAgreement",
    "ColorCount",
    "Correlation",
    "Coverage",
    "DensityCoverage",
    "FrechetDistance",
    "KernelDistance",
    "LatentCorrelation",
    "LatentVariance",
    "ManifoldDensityCoverage",
    "ManifoldPrecisionRecall",
    "MeanAndDeviation",
    "ModeCoverage",
    "PrecisionRecall",
    "SpectrumDistance",
    "foreground_hue",
    "hue_distance",
    "permutation_test",
    "ssim",
]
