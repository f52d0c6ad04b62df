from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from genlab.callbacks.test_codes import encode_share
from genlab.evaluation.active_units import active_units
from genlab.metrics.latent_variance import LatentVariance
from lit_models.common.capabilities import Encodes, HasLatentBlocks


class ActiveUnits(Callback):
    """Logs `test/active_units`: how many units of the latent code distinguish images.

    A unit is active if the variance of its mean over the test images exceeds a threshold, Cov_x(E_q(u|x)[u]) > 0.01
    (Burda et al. 2015, arXiv 1509.00519, section 5.2). A unit is a real dimension, or a categorical variable: the
    variance of its most probable category, summed over the categories.

    Args:
        num_images: Test images that are encoded, chosen at random but always the same; 0 turns the metric off.
        threshold: Variance above which a unit is active.
    """

    def __init__(self, num_images: int = 10000, threshold: float = 0.01) -> None:
        self.num_images = num_images
        self.threshold = threshold

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        applies = isinstance(pl_module, Encodes) and isinstance(pl_module, HasLatentBlocks)
        if not applies or self.num_images < 2:
            return
        codes = encode_share(trainer, pl_module, self.num_images)
        metric = LatentVariance(codes.shape[1]).to(codes.device)
        metric.update(codes)
        variances = metric.compute().reshape(codes.shape[1])
        active = active_units(variances, pl_module.latent_blocks(), self.threshold)  # type: ignore[operator]
        pl_module.log("test/active_units", active, sync_dist=True)
