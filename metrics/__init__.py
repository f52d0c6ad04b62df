from metrics.color import ColorAgreement, ColorCount, foreground_hue, hue_distance
from metrics.frechet import FrechetDistance
from metrics.latent_correlation import Correlation, LatentCorrelation
from metrics.mode_coverage import Coverage, ModeCoverage
from metrics.precision_recall import ManifoldPrecisionRecall, PrecisionRecall
from metrics.spectrum import SpectrumDistance
from metrics.ssim import SSIM_WINDOW, ssim

__all__ = [
    "SSIM_WINDOW",
    "ColorAgreement",
    "ColorCount",
    "Correlation",
    "Coverage",
    "FrechetDistance",
    "LatentCorrelation",
    "ManifoldPrecisionRecall",
    "ModeCoverage",
    "PrecisionRecall",
    "SpectrumDistance",
    "foreground_hue",
    "hue_distance",
    "ssim",
]
