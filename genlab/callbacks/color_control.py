from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from matplotlib.figure import Figure
from torchvision.utils import make_grid

from datamodules.colored_mnist import REFERENCE_HUES, ColoredMNISTDataModule, hue_to_rgb
from genlab.evaluation.color_control import ColorControlResult, choose_regions, sample_hues
from genlab.figures import hue_confusion_figure
from genlab.latents import encode_all
from genlab.media import save_picture
from genlab.random_state import isolated_rng
from lit_models.common.capabilities import Decodes, Encodes, HasLatentBlocks

LEAST_CODES = 4


class ColorControl(Callback):
    """Asks for each of ten hues and counts the samples that have it: `test/color_agreement`, by chance 2 tolerance/360.

    For each hue a region of the latent space is chosen by the true hues of training images alone, never by looking at
    what it decodes to: the number measures the model, and is not fitted to it. Both kinds of code are treated alike.
    They are cut into cells: real numbers into the clusters of a Gaussian mixture fitted without the hues, categories
    into the combinations that occur. On one half of the codes the cells are ranked by their share of images within the
    tolerance of the hue, to which one image that has it is added at chance's rate, so that small cells do not win by
    luck; the best ones that together hold `mass` of the codes are the region. A sample is of a cell in proportion to
    its size: a draw of the cluster's normal law, or the combination. Of a joint code, the part whose region is the
    purer one is drawn so, the other one by the model's prior. Finer cells are easier to sample_hues: 200 clusters are about
    as fine as the combinations that three variables of 20 categories come to use.

    `test/color_purity` is the share within the tolerance among the regions' training images of the other half: how
    well the code tells the hue. Samples may do better than that, as one combination has one image, of the mean colour.

    Pictures: samples by hue in media/color_control.png, hues asked for against those obtained in
    media/color_confusion.png.

    Args:
        num_codes: training images that are encoded; 0 for no measurement.
        samples_per_hue: images asked for of each hue.
        clusters: of the mixture, fewer where there are less than ten codes to fit each.
        mass: share of the codes in a hue's region, which the last cell may exceed.
        tolerance: degrees on either side of a hue.
        columns: images of each hue in the picture.
        seed: of the mixture and the samples.

    Raises:
        ValueError: `clusters` or `samples_per_hue` below one, `mass` not in (0, 1] or `tolerance` not in (0, 180].
    """

    pictures = True
    """Whether they are drawn; train.py sets it to run.pictures."""

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
            raise ValueError(f"clusters is {clusters} and samples_per_hue {samples_per_hue}; both must be at least 1")
        if not (0 < tolerance <= 180 and 0 < mass <= 1):
            raise ValueError(
                f"tolerance is {tolerance} degrees and mass {mass}; they must be above 0 and at most 180 and 1"
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
        able = isinstance(pl_module, Encodes) and isinstance(pl_module, Decodes)
        if not able or not isinstance(pl_module, HasLatentBlocks) or not isinstance(data, ColoredMNISTDataModule):
            return
        if self.num_codes < LEAST_CODES:
            return
        self._result = self.measure(pl_module, data)
        # Every process finds the same numbers.
        pl_module.log("test/color_agreement", self._result.count.agreement.item(), sync_dist=True)
        pl_module.log("test/color_purity", self._result.purity.item(), sync_dist=True)

    @torch.no_grad()
    def measure(self, model: Any, data: ColoredMNISTDataModule) -> "ColorControlResult":
        """Chooses the regions by the codes of training images, and asks for each hue."""
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

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._result is not None and self.pictures:
            names = list(REFERENCE_HUES)
            save_picture(trainer, "color_control", samples_figure(self._result, REFERENCE_HUES))
            save_picture(trainer, "color_confusion", hue_confusion_figure(self._result.count, names))
        self._result = None


def samples_figure(steered: ColorControlResult, hues: dict[str, int]) -> Figure:
    """A row a hue: the colour asked for, then samples."""
    rows, columns = steered.images.shape[:2]
    size = steered.images.shape[-2:]
    asked = hue_to_rgb(torch.tensor(list(hues.values())))
    swatches = asked[:, None, :, None, None].expand(-1, 1, -1, *size)
    tiles = torch.cat([swatches, steered.images.nan_to_num().clamp(0, 1)], dim=1).flatten(0, 1)
    grid = make_grid(tiles, nrow=columns + 1, padding=2, pad_value=1.0)
    figure = Figure(figsize=(0.55 * (columns + 1) + 2, 0.55 * rows + 0.5), layout="constrained")
    axes = figure.subplots()
    axes.imshow(grid.permute(1, 2, 0).numpy(), interpolation="nearest")
    shares = [f"{name}  {share:.0%}" for name, share in zip(hues, steered.count.per_hue.tolist(), strict=True)]
    step = size[0] + 2
    axes.set_yticks([step * row + step / 2 for row in range(rows)], shares)
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title(f"samples with the hue asked for: {steered.count.agreement:.1%}", fontsize=10)
    return figure
