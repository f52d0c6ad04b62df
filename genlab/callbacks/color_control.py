from typing import Any

import torch
from lightning import LightningModule, Trainer
from matplotlib.figure import Figure
from torchvision.utils import make_grid

from datamodules.colored_mnist import REFERENCE_HUES, ColoredMNISTDataModule, hue_to_rgb
from genlab.callbacks.picture import PictureCallback
from genlab.evaluation.color_control import ColorControlResult, choose_regions, sample_hues
from genlab.figures import hue_confusion_figure
from genlab.finite import check_finite
from genlab.latents import encode_all
from genlab.media import save_picture
from genlab.random_state import isolated_rng
from lit_models.common.capabilities import Decodes, Encodes, HasLatentBlocks

MIN_CODES = 4


class ColorControl(PictureCallback):
    """Logs `test/color_agreement`: the share of samples that have the hue they were conditioned on.

    Each of ten hues is requested by sampling codes from a region of the latent space. The regions are chosen by the
    true hues of training images, never by what the codes decode to. Random hues would reach a share of
    2 tolerance / 360.

    The codes of training images are divided into cells: real numbers into the clusters of a Gaussian mixture that is
    fitted without the hues, categories into the combinations that occur. On one half of the codes, cells are ranked by
    their share of images within the tolerance of the hue. One image with the hue is added to each cell at the rate of
    chance, so that small cells do not rank high by luck. The best cells that together hold the share `mass` of the
    codes are the region. It is sampled in proportion to the sizes of its cells: a sample of a cluster's normal
    distribution, or the combination itself. In a code of several blocks, the block whose region has the higher purity
    is sampled in this way, and the others are sampled from the prior. Finer cells give better control: 200 clusters
    are about as fine as the combinations that three variables of 20 categories use.

    `test/color_purity` is the share of images with the hue among the regions' training images of the other half of the
    codes: how well the code determines the hue. Samples may do better, because a combination of categories decodes to
    a single image of the mean colour.

    Saves media/color_control.png, samples of each hue, and media/color_confusion.png, requested hues against those of
    the samples. Applies to models of coloured digits (ColoredMNISTDataModule) that encode, decode and sample.

    Args:
        num_codes: Training images that are encoded; 0 turns it off.
        samples_per_hue: Samples of each hue.
        clusters: Clusters of the Gaussian mixture; fewer if there are less than ten codes for each.
        mass: Share of the codes in the region of a hue, which the last cell may exceed.
        tolerance: Largest difference from a hue in degrees.
        columns: Samples of each hue in the picture.
        seed: Seed of the mixture and of the samples.

    Raises:
        ValueError: `clusters` or `samples_per_hue` is below 1, `mass` not in (0, 1] or `tolerance` not in (0, 180].
    """

    def __init__(
        self,
        num_codes: int = 20000,
        samples_per_hue: int = 500,
        clusters: int = 200,
        mass: float = 0.02,
        tolerance: float = 20.0,
        columns: int = 16,
        seed: int = 0,
    ) -> None:
        if clusters < 1 or samples_per_hue < 1:
            raise ValueError(
                f"color_control.clusters is {clusters} and samples_per_hue {samples_per_hue}; both must be at least 1"
            )
        if not (0 < tolerance <= 180 and 0 < mass <= 1):
            raise ValueError(
                f"color_control.tolerance is {tolerance} and mass {mass}; they must be above 0, and at most 180 degrees"
                " and 1"
            )
        self.num_codes = num_codes
        self.samples_per_hue = samples_per_hue
        self.clusters = clusters
        self.mass = mass
        self.tolerance = tolerance
        self.columns = columns
        self.seed = seed
        self._result: ColorControlResult | None = None

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        data = trainer.datamodule  # type: ignore[attr-defined]
        applies = isinstance(pl_module, Encodes) and isinstance(pl_module, Decodes)
        if not applies or not isinstance(pl_module, HasLatentBlocks) or not isinstance(data, ColoredMNISTDataModule):
            return
        if self.num_codes < MIN_CODES:
            return
        self._result = self.measure(pl_module, data)
        # All processes have the same values.
        pl_module.log("test/color_agreement", self._result.count.agreement.item(), sync_dist=True)
        pl_module.log("test/color_purity", self._result.purity.item(), sync_dist=True)

    @torch.no_grad()
    def measure(self, model: Any, data: ColoredMNISTDataModule) -> ColorControlResult:
        """Chooses the regions by the codes of training images, and samples each hue."""
        images, labels = data.examples("train", self.num_codes)
        references = torch.tensor(list(REFERENCE_HUES.values()), dtype=torch.float32)
        with isolated_rng(self.seed):
            codes = encode_all(model, images).cpu().nan_to_num(0, 0, 0)
            regions = choose_regions(
                codes,
                labels[:, 1].cpu().float(),
                model.latent_blocks(),
                references,
                clusters=self.clusters,
                mass=self.mass,
                tolerance=self.tolerance,
                seed=self.seed,
            )
            return sample_hues(model, regions, references, self.samples_per_hue, self.tolerance, self.columns)

    def draw(self, trainer: Trainer, pl_module: LightningModule) -> None:
        result, self._result = self._result, None
        if result is not None:
            save_picture(trainer, "color_control", samples_figure(result, REFERENCE_HUES))
            save_picture(trainer, "color_confusion", hue_confusion_figure(result.count, list(REFERENCE_HUES)))


def samples_figure(result: ColorControlResult, hues: dict[str, int]) -> Figure:
    """One row for each hue: the requested colour, then samples."""
    rows, columns = result.images.shape[:2]
    size = result.images.shape[-2:]
    requested = hue_to_rgb(torch.tensor(list(hues.values())))
    swatches = requested[:, None, :, None, None].expand(-1, 1, -1, *size)
    images = check_finite(result.images, "samples").clamp(0, 1)
    tiles = torch.cat([swatches, images], dim=1).flatten(0, 1)
    grid = make_grid(tiles, nrow=columns + 1, padding=2, pad_value=1.0)
    figure = Figure(figsize=(0.55 * (columns + 1) + 2, 0.55 * rows + 0.5), layout="constrained")
    axes = figure.subplots()
    axes.imshow(grid.permute(1, 2, 0).numpy(), interpolation="nearest")
    shares = [f"{name}  {share:.0%}" for name, share in zip(hues, result.count.per_hue.tolist(), strict=True)]
    step = size[0] + 2
    axes.set_yticks([step * row + step / 2 for row in range(rows)], shares)
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title(f"samples that have the requested hue: {result.count.agreement:.1%}", fontsize=10)
    return figure
