from metrics.latent_correlation import Correlation, LatentCorrelation

__all__ = ["Correlation", "LatentCorrelation"]
