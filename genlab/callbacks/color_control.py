"""How well a model is steered to a colour."""

import warnings
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F
from torchvision.utils import make_grid

from datamodules.colored_mnist import REFERENCE_HUES, ColoredMNISTDataModule, hue_to_rgb
from genlab.callbacks.latent_codes import encode_all
from genlab.media import own_randomness, save_picture
from genlab.metrics import ColorAgreement, ColorCount, hue_distance
from lit_models.common.capabilities import Decodes, Encodes, HasLatentBlocks, LatentBlock

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
    purer one is drawn so, the other one by the model's prior. Finer cells are easier to steer: 200 clusters are about
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
        self._steered: Steered | None = None

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        data = trainer.datamodule  # type: ignore[attr-defined]
        able = isinstance(pl_module, Encodes) and isinstance(pl_module, Decodes)
        if not able or not isinstance(pl_module, HasLatentBlocks) or not isinstance(data, ColoredMNISTDataModule):
            return
        if self.num_codes < LEAST_CODES:
            return
        self._steered = self.measure(pl_module, data)
        # Every process finds the same numbers.
        pl_module.log("test/color_agreement", self._steered.count.agreement.item(), sync_dist=True)
        pl_module.log("test/color_purity", self._steered.purity.item(), sync_dist=True)

    @torch.no_grad()
    def measure(self, model: Any, data: ColoredMNISTDataModule) -> "Steered":
        """Chooses the regions by the codes of training images, and asks for each hue."""
        images, labels = data.examples("train", self.num_codes)
        references = torch.tensor(list(REFERENCE_HUES.values()), dtype=torch.float32)
        with own_randomness(self.seed):
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
            return steer(model, regions, references, self.samples_per_hue, self.tolerance, self.columns)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._steered is not None and self.pictures:
            names = list(REFERENCE_HUES)
            save_picture(trainer, "color_control", samples_figure(self._steered, REFERENCE_HUES))
            save_picture(trainer, "color_confusion", confusion_figure(self._steered.count, names))
        self._steered = None


class Cells(Protocol):
    """One part of the codes, cut into C cells."""

    cell: Tensor
    """The cell of each code, int64, N."""

    def draw(self, cells: Tensor) -> Tensor:
        """The part's columns of a new code out of each of these cells, int64, n: n x width."""


class ClusterCells:
    """Real numbers in the clusters of a Gaussian mixture of the first half of the codes, whose components draw."""

    def __init__(self, codes: Tensor, clusters: int, seed: int) -> None:
        from sklearn.exceptions import ConvergenceWarning  # a second of imports
        from sklearn.mixture import GaussianMixture

        self.scale = codes.double().std(dim=0).max().clamp(min=1e-12)  # the mixture's least variance is relative to it
        scaled = (codes / self.scale).double().numpy()
        fitted = scaled[: len(scaled) // 2]
        components = max(1, min(clusters, len(fitted) // 10))
        # Roughly fitted clusters do: they only cut the space, and each draws from its own mean and covariance.
        mixture = GaussianMixture(components, init_params="k-means++", max_iter=10, random_state=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            mixture.fit(fitted)
        self.cell = torch.from_numpy(mixture.predict(scaled))
        self.means = torch.from_numpy(mixture.means_)
        self.factors = torch.linalg.cholesky(torch.from_numpy(mixture.covariances_))

    def draw(self, cells: Tensor) -> Tensor:
        noise = torch.randn(len(cells), self.means.shape[1], 1, dtype=self.means.dtype)
        return (self.scale * (self.means[cells] + (self.factors[cells] @ noise)[..., 0])).float()


class CombinationCells:
    """Categorical variables in the combinations that occur."""

    def __init__(self, codes: Tensor, categories: int) -> None:
        self.categories = categories
        picked = codes.unflatten(1, (-1, categories)).argmax(dim=2)  # (N, variables)
        self.combinations, self.cell = picked.unique(dim=0, return_inverse=True)

    def draw(self, cells: Tensor) -> Tensor:
        return F.one_hot(self.combinations[cells], self.categories).flatten(1).float()


@dataclass
class Region:
    """Where in the latent space a hue is asked for."""

    part: LatentBlock
    cells: Cells
    weights: Tensor
    """How often each cell is drawn, in proportion, C."""
    purity: Tensor
    """Share of its training images that have the hue."""

    def draw(self, model: Any, n: int) -> Tensor:
        """Codes for `model.decode`, n x d; columns of other parts are the prior's."""
        codes = model.sample_prior(n)
        drawn = self.cells.draw(torch.multinomial(self.weights, n, replacement=True))
        codes[:, self.part.start : self.part.stop] = drawn.to(codes)
        return codes


@dataclass
class Steered:
    """What became of the hues asked for."""

    count: ColorCount
    purity: Tensor
    """Share of the regions' training images that have the hue, a mean over the hues."""
    images: Tensor
    """The first few samples of each hue, K x columns x 3 x H x W, on the CPU."""


def choose_regions(
    codes: Tensor,
    hues: Tensor,
    parts: list[LatentBlock],
    references: Tensor,
    *,
    clusters: int = 200,
    mass: float = 0.02,
    tolerance: float = 20.0,
    seed: int = 0,
) -> list[Region]:
    """The region of each reference hue, K, by codes in random order, N x d, and their images' hues, N."""
    near = hue_distance(hues[:, None], references) <= tolerance  # (N, K)
    chance = min(1.0, 2 * tolerance / 360)
    candidates = []
    for part in parts:
        columns = codes[:, part.start : part.stop]
        cells: Cells = (
            ClusterCells(columns, clusters, seed)
            if part.kind == "continuous"
            else CombinationCells(columns, part.categories)
        )
        weights, purity = best_cells(cells.cell, near, chance, mass)
        candidates.append([Region(part, cells, weights[k], purity[k]) for k in range(len(references))])
    return [max(of_hue, key=lambda region: float(region.purity)) for of_hue in zip(*candidates, strict=True)]


def best_cells(cell: Tensor, near: Tensor, chance: float, mass: float) -> tuple[Tensor, Tensor]:
    """The cells that are best at each hue, chosen by the first half of the codes and rated by the second.

    Args:
        cell: of each code, int64, N.
        near: whether its image has the hue, bool, N x K.
        chance: share of images that have a hue.
        mass: share of the codes that the cells chosen for a hue hold together, at least.

    Returns:
        weights: codes in each cell that was chosen, and 0 in the others, K x C.
        purity: share of codes that have the hue among those in chosen cells, K; chance where there are none.
    """
    half = len(cell) // 2
    count = int(cell.max()) + 1
    sizes = torch.bincount(cell[:half], minlength=count).double()  # (C,)
    hits = torch.zeros(count, near.shape[1], dtype=torch.float64).index_add_(0, cell[:half], near[:half].double())
    share = (hits + 1) / (sizes[:, None] + 1 / chance)
    order = share.argsort(dim=0, descending=True, stable=True)  # (C, K)
    ranked = sizes[order]
    kept = ranked.cumsum(dim=0) - ranked < mass * half
    weights = torch.zeros_like(share).scatter_(0, order, ranked * kept)
    member = (weights > 0)[cell[half:]]  # (N / 2, K)
    members = member.sum(dim=0)
    purity = (member & near[half:]).sum(dim=0) / members
    return weights.T, torch.where(members > 0, purity, chance)


def steer(
    model: Any, regions: list[Region], references: Tensor, samples: int, tolerance: float, columns: int
) -> Steered:
    """Asks the model for `samples` images out of each hue's region."""
    metric = ColorAgreement(references.tolist(), tolerance).to(model.device)
    shown = []
    for region, hue in zip(regions, references, strict=True):
        images = model.decode(region.draw(model, samples).to(model.device, model.dtype)).float()
        metric.update(images, hue.to(model.device).expand(samples))
        shown.append(images[:columns].cpu())
    purity = torch.stack([region.purity for region in regions]).mean()
    return Steered(metric.compute(), purity, torch.stack(shown))


def samples_figure(steered: Steered, hues: dict[str, int]) -> Figure:
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


def confusion_figure(count: ColorCount, names: list[str], made: str = "samples") -> Figure:
    """Rows: the hue asked for. Columns: the nearest one obtained, or none.

    Args:
        names: of the reference hues.
        made: what was painted.
    """
    asked = count.confusion.sum(dim=1, keepdim=True).clamp(min=1)
    shares = (count.confusion / asked).cpu()
    figure = Figure(figsize=(6.4, 5.6), layout="constrained")
    axes = figure.subplots()
    drawn = axes.imshow(shares.numpy(), cmap="viridis", vmin=0, vmax=1)
    figure.colorbar(drawn, label=f"share of the {made}")
    axes.set_xticks(range(len(names) + 1), [*names, "none"], rotation=90)
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("nearest hue obtained")
    axes.set_ylabel("hue asked for")
    for row, shares_of_row in enumerate(shares.tolist()):
        for column, share in enumerate(shares_of_row):
            if share >= 0.005:
                tone = "white" if share < 0.6 else "black"
                axes.text(column, row, f"{100 * share:.0f}", ha="center", va="center", color=tone, fontsize=8)
    return figure
