from lightning import LightningModule, Trainer
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from genlab.callbacks.picture import PictureCallback
from genlab.callbacks.test_codes import encode_share
from genlab.finite import check_finite
from genlab.latents import dimension_name
from genlab.media import save_picture
from genlab.metrics import LatentCorrelation
from lit_models.common.capabilities import Encodes


class LatentCorrelationMatrix(PictureCallback):
    """Saves media/latent_correlation.png, the correlations between latent dimensions, and logs their mean.

    `test/abs_correlation` is the mean absolute Pearson correlation off the diagonal, `test/abs_correlation_full` that
    of the whole matrix, in which the diagonal of ones contributes 1/d.

    Args:
        num_images: Test images that are encoded, chosen at random but always the same; 0 turns it off.
    """

    def __init__(self, num_images: int = 8000) -> None:
        self.num_images = num_images
        self._matrix: Tensor | None = None

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not isinstance(pl_module, Encodes) or self.num_images < 2:
            return
        codes = encode_share(trainer, pl_module, self.num_images)
        metric = LatentCorrelation(codes.shape[1]).to(codes.device)
        metric.update(codes)
        result = metric.compute()
        self._matrix = result.matrix.cpu()
        for name in ("abs_correlation", "abs_correlation_full"):
            pl_module.log(f"test/{name}", getattr(result, name).float(), sync_dist=True)

    def draw(self, trainer: Trainer, pl_module: LightningModule) -> None:
        matrix, self._matrix = self._matrix, None
        if matrix is not None:
            figure = correlation_figure(check_finite(matrix, "correlations"))
            save_picture(trainer, "latent_correlation", figure)


def correlation_figure(matrix: Tensor) -> Figure:
    """A heat map of the absolute values of a correlation matrix, d x d."""
    d = len(matrix)
    figure = Figure(figsize=(5.6, 4.8), layout="constrained")
    axes = figure.subplots()
    edges = (0.5, d + 0.5)
    heat_map = axes.imshow(matrix.abs().numpy(), cmap="viridis", vmin=0, vmax=1, extent=(*edges, *edges[::-1]))
    for along in (axes.xaxis, axes.yaxis):
        along.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        along.set_major_formatter(lambda number, _: dimension_name(round(number) - 1))
    figure.colorbar(heat_map, label="absolute Pearson correlation")
    axes.set_xlabel("latent dimension")
    axes.set_ylabel("latent dimension")
    off = (matrix.abs().sum() - d) / max(d * (d - 1), 1)
    axes.set_title(f"mean off the diagonal {off:.3f}, of the whole matrix {matrix.abs().mean():.3f}", fontsize=10)
    return figure
