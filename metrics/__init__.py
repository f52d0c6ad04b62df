from metrics.color import ColorAgreement, ColorCount, foreground_hue, hue_distance
from metrics.latent_correlation import Correlation, LatentCorrelation

__all__ = ["ColorAgreement", "ColorCount", "Correlation", "LatentCorrelation", "foreground_hue", "hue_distance"]
