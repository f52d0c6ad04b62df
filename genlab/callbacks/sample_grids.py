from lightning import LightningModule, Trainer
from torch import Tensor

from genlab.callbacks.picture import PictureCallback
from genlab.latents import decode_all, encode_all, latent_blocks, sample_gaussian_mixture
from genlab.media import framed, image_grid, save_picture
from genlab.random_state import isolated_rng
from genlab.words import counted
from lit_models.common.capabilities import Decodes, Encodes, Samples


class SampleGrids(PictureCallback):
    """Saves media/samples.png, samples from the prior, and media/samples_mixture.png, samples from a fitted mixture.

    The mixture of Gaussians has full covariances and is fitted to codes of training images. It separates the quality of
    the decoder from how well the codes follow their prior (Ghosh et al. 2019, arXiv 1903.12436). Purely categorical
    codes have no mixture, and neither have those of more than `max_width` numbers, such as large maps: the fit
    takes half a minute for 784 numbers, and its time grows with the square of the width.

    Args:
        num_images: Images in each picture; 0 for no pictures.
        components: Number of Gaussians in the mixture; 0 for no media/samples_mixture.png.
        num_codes: Training images whose codes the mixture is fitted to.
        max_width: Width of the widest codes that a mixture is fitted to.
    """

    def __init__(
        self, num_images: int = 100, components: int = 10, num_codes: int = 5000, max_width: int = 1000
    ) -> None:
        self.num_images = num_images
        self.components = components
        self.num_codes = num_codes
        self.max_width = max_width

    def draw(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.num_images < 1:
            return
        if isinstance(pl_module, Samples):
            with isolated_rng():
                images = pl_module.sample(self.num_images)
            self._save(trainer, "samples", images, f"{counted(len(images), 'sample')} from the prior")
        if not (isinstance(pl_module, Encodes) and isinstance(pl_module, Decodes)) or self.components < 1:
            return
        images, _ = trainer.datamodule.examples("train", self.num_codes)  # type: ignore[attr-defined]
        if encode_all(pl_module, images[:1]).shape[1] > self.max_width:
            return
        codes = encode_all(pl_module, images)
        blocks = latent_blocks(pl_module, codes.shape[1])
        components = min(self.components, len(codes))
        if len(codes) < 2 or all(block.kind == "categorical" for block in blocks):
            return
        sampled = sample_gaussian_mixture(codes, blocks, components, self.num_images)
        mixture = f"a mixture of {counted(components, 'Gaussian')} fitted to {len(codes):,} codes"
        title = f"{counted(self.num_images, 'sample')} from {mixture}"
        self._save(trainer, "samples_mixture", decode_all(pl_module, sampled), title)

    def _save(self, trainer: Trainer, name: str, images: Tensor, title: str) -> None:
        columns = round(self.num_images**0.5)
        save_picture(trainer, name, framed(image_grid(images, columns), title))
